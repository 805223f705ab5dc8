//! The stock guest: Debian's kernel and a small initrd whose init does what the kernel command
//! line says (`resources/guest/init` lists the words).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::apt::Apt;
use crate::cpio::Cpio;
use crate::kernel::Kernel;
use crate::paths;

const INIT: &[u8] = include_bytes!("../../resources/guest/init");
/// What it does with an address that it is given.
const LEASE: &[u8] = include_bytes!("../../resources/guest/lease");

/// What the guest may be given: all devices Manor has a model for, and the bus of QEMU's microvm.
const MODULES: [&str; 14] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "vmw_vsock_virtio_transport",
    "button",
    "evdev",
    "pvpanic_mmio",
];

/// The bzImage.
pub fn kernel() -> anyhow::Result<PathBuf> {
    Ok(Kernel::find()?.vmlinuz())
}

/// The same kernel as an uncompressed ELF file with a PVH note.
pub fn vmlinux() -> anyhow::Result<PathBuf> {
    Ok(Kernel::find()?.vmlinux())
}

/// A static busybox, for hosts without iproute2.
pub fn busybox() -> anyhow::Result<PathBuf> {
    Ok(Kernel::find()?.busybox())
}

/// Named by its contents, so that one of another checkout or of yesterday is never taken for it.
pub fn initrd() -> anyhow::Result<PathBuf> {
    let contents = build(&Kernel::find()?)?;
    let dir = paths::made_once(&format!("guest-{:016x}", paths::hash(&contents)), |dir| {
        Ok(fs::write(dir.join("initrd"), &contents)?)
    })?;
    Ok(dir.join("initrd"))
}

fn build(kernel: &Kernel) -> anyhow::Result<Vec<u8>> {
    let mut cpio = Cpio::new();
    for dir in ["/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/root"] {
        cpio.dir(dir);
    }
    // Without it the first process has no stdout to complain on.
    cpio.character_device("/dev/console", 0o600, (5, 1));
    cpio.file("/init", 0o755, INIT);
    cpio.dir("/etc").dir("/etc/udhcpc");
    cpio.file("/etc/udhcpc/default.script", 0o755, LEASE);
    add_busybox(&mut cpio, kernel)?;
    let mut load = String::new();
    for module in kernel.modules()?.in_load_order(&MODULES)? {
        let inside = format!("/lib/modules/{}.ko", module.name);
        cpio.file_from(&inside, 0o644, &module.path)?;
        load.push_str(&inside);
        load.push('\n');
    }
    cpio.file("/lib/modules/order", 0o644, load.as_bytes());
    Ok(cpio.finish())
}

/// busybox and a link for each of its applets.
pub(crate) fn add_busybox(cpio: &mut Cpio, kernel: &Kernel) -> anyhow::Result<()> {
    cpio.file_from("/bin/busybox", 0o755, &kernel.busybox())?;
    let applets = Command::new(kernel.busybox()).arg("--list-full").output();
    let applets = applets.context("cannot ask busybox for its applets")?.stdout;
    for applet in String::from_utf8(applets)?.lines().filter(|name| *name != "bin/busybox") {
        cpio.symlink(applet, "/bin/busybox");
    }
    Ok(())
}

/// What Debian's QEMU guest agent needs of its packages.
const AGENT: [&str; 8] = [
    "qemu-guest-agent",
    "libc6",
    "libgcc-s1",
    "libglib2.0-0",
    "libnuma1",
    "libpcre2-8-0",
    "libudev1",
    "liburing2",
];

/// What the agent runs to end the guest, which has no init of any fame.
const SHUTDOWN: &[u8] =
    b"#!/bin/sh\nsync\ncase \" $* \" in\n*' -r '*) reboot -f ;;\n*) poweroff -f ;;\nesac\n";

/// The same guest with Debian's QEMU guest agent in it, not started.
pub fn initrd_with_agent() -> anyhow::Result<PathBuf> {
    let tree = paths::made_once("qemu-guest-agent", |tree| Apt::open()?.unpack(&AGENT, tree))?;
    let mut cpio = Cpio::new();
    // Its own directory, since the kernel follows no links on the way to a file of an archive.
    cpio.dir("/agent").dir("/agent/lib");
    cpio.file_from("/agent/qemu-ga", 0o755, &tree.join("usr/sbin/qemu-ga"))?;
    for dir in ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"] {
        for entry in fs::read_dir(tree.join(dir)).into_iter().flatten() {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.contains(".so") && fs::metadata(entry.path()).is_ok_and(|file| file.is_file()) {
                cpio.file_from(&format!("/agent/lib/{name}"), 0o755, &entry.path())?;
            }
        }
    }
    cpio.file("/agent/shutdown", 0o755, SHUTDOWN);
    // One archive after the other makes one root.
    let mut contents = fs::read(initrd()?)?;
    contents.resize(contents.len().next_multiple_of(4), 0);
    contents.extend(cpio.finish());
    let dir = paths::made_once(&format!("guest-{:016x}", paths::hash(&contents)), |dir| {
        Ok(fs::write(dir.join("initrd"), &contents)?)
    })?;
    Ok(dir.join("initrd"))
}
