//! Debian on a disk as an installer leaves it: partitions, GRUB for BIOS and for UEFI, the generic
//! kernel with its own initramfs, systemd, a login prompt on the serial port.
//!
//! ```text
//! LBA 0     GRUB's boot sector beside the protective MBR
//! 1 MiB     BIOS boot partition: GRUB's core
//! 2 MiB     EFI system partition: /EFI/BOOT/BOOTX64.EFI
//! 64 MiB    root: ext4, label "root"
//! ```

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::apt::{Apt, Release, run};
use crate::tree::Program;
use crate::{disk, paths};

/// The instances that the tests of such disks share, one after another: the usual one, one for UEFI
/// firmware, and one with another release's disk.
pub const HOST: &str = "installed";
pub const UEFI_HOST: &str = "installed-uefi";
pub const TRIXIE_HOST: &str = "installed-trixie";
/// Raised when what is made here changes.
const VERSION: u32 = 1;
const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const BIOS_BOOT: u64 = MIB;
const ESP: u64 = 2 * MIB;
const ROOT: u64 = 64 * MIB;
/// Sparse: what is not written takes no room.
const SIZE: u64 = 2048 * MIB;
/// Partition table and its copy, as the GPT has them.
const TAIL: u64 = MIB;
const _: () = assert!(BIOS_BOOT < ESP && ESP < ROOT && ROOT < SIZE - TAIL);
/// Code of a boot sector; what follows is the partition table.
const BOOT_CODE: usize = 440;

const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "linux-image-amd64",
    "initramfs-tools",
    "kmod",
    "iproute2",
    "login",
    "e2fsprogs",
];

const TOOLS: [&str; 6] =
    ["fdisk", "dosfstools", "mtools", "grub-common", "grub-pc-bin", "grub-efi-amd64-bin"];

/// Of no use where nobody reads.
const LEFT_OUT: [&str; 4] = ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt"];

/// GRUB finds the root by its label, whatever bus the disk is on.
const GRUB_START: &str = "search --no-floppy --label root --set=root\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n";

const GRUB_MENU: &str = "\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
menuentry 'Debian' {
    linux /vmlinuz root=LABEL=root ro console=ttyS0 quiet
    initrd /initrd.img
}
";

const GRUB_MODULES: [&str; 14] = [
    "part_gpt",
    "ext2",
    "search",
    "search_label",
    "normal",
    "configfile",
    "linux",
    "serial",
    "terminal",
    "echo",
    "ls",
    "reboot",
    "halt",
    "test",
];

/// The raw disk image; root logs in without a password. It is shared: write to a copy.
pub fn debian() -> anyhow::Result<PathBuf> {
    debian_of(Release::default())
}

/// The same of another release.
pub fn debian_of(release: Release) -> anyhow::Result<PathBuf> {
    let name = format!("installed-debian-{VERSION}{}", release.suffix());
    let tools =
        paths::made_once("guest-tools", |tree| Apt::open()?.unpack_closure(&TOOLS, None, tree))?;
    let dir = paths::made_once(&name, |dir| {
        let root = dir.join("root");
        Apt::of(release)?.install(&PACKAGES, &root)?;
        configure(&root)?;
        let image = dir.join("disk.raw");
        partition(&tools, &image)?;
        disk::into_partition(&root, &image, "root", ROOT, SIZE - ROOT - TAIL)?;
        install_bios_loader(&tools, dir, &image)?;
        install_efi_loader(&tools, dir, &image)?;
        paths::remove(&root)
    })?;
    Ok(dir.join("disk.raw"))
}

/// A CD-ROM with Debian's package `hello` in its root directory.
pub fn cdrom() -> anyhow::Result<PathBuf> {
    let tools = paths::made_once("iso-tools", |tree| {
        Apt::open()?.unpack_closure(&["genisoimage"], None, tree)
    })?;
    let dir = paths::made_once("cdrom-1", |dir| {
        let files = dir.join("files");
        Apt::open()?.download(&["hello"], &files)?;
        let mut make = tool(&tools, "usr/bin/genisoimage").command();
        make.args(["-quiet", "-rational-rock", "-volid", "PACKAGES", "-o"]);
        run(make.arg(dir.join("cdrom.iso")).arg(&files))
    })?;
    Ok(dir.join("cdrom.iso"))
}

fn configure(root: &Path) -> anyhow::Result<()> {
    for name in LEFT_OUT {
        paths::remove(&root.join(name))?;
    }
    let grub = root.join("boot/grub");
    fs::create_dir_all(&grub)?;
    for (path, text) in [
        ("boot/grub/grub.cfg", GRUB_MENU),
        ("etc/hostname", "guest\n"),
        ("etc/hosts", "127.0.0.1 localhost guest\n"),
        ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
        ("etc/machine-id", ""),
    ] {
        fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    let shadow = root.join("etc/shadow");
    let text = fs::read_to_string(&shadow)?;
    let open = text.replacen("root:*:", "root::", 1);
    if open == text {
        bail!("root's entry in {shadow:?} is not as it was expected");
    }
    Ok(fs::write(shadow, open)?)
}

fn partition(tools: &Path, image: &Path) -> anyhow::Result<()> {
    let file = File::create(image)?;
    file.set_len(SIZE)?;
    let sectors =
        |from: u64, to: u64| format!("start={}, size={}", from / SECTOR, (to - from) / SECTOR);
    let script = format!(
        "label: gpt\nfirst-lba: 34\n{}, type=21686148-6449-6E6F-744E-656564454649\n\
         {}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n\
         {}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n",
        sectors(BIOS_BOOT, ESP),
        sectors(ESP, ROOT),
        sectors(ROOT, SIZE - TAIL)
    );
    let mut command = tool(tools, "sbin/sfdisk").command();
    let mut sfdisk = command
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run sfdisk")?;
    if let Some(mut stdin) = sfdisk.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    if !sfdisk.wait()?.success() {
        bail!("sfdisk could not partition {image:?}");
    }
    Ok(())
}

/// What grub-bios-setup does, without a block device: the boot sector knows where the core begins,
/// and the core's first sector where its rest lies.
fn install_bios_loader(tools: &Path, dir: &Path, image: &Path) -> anyhow::Result<()> {
    let modules = tools.join("usr/lib/grub/i386-pc");
    let core = dir.join("core.img");
    grub_image(tools, "i386-pc", &["biosdisk"], &core)?;
    let mut core = fs::read(&core)?;
    let mut boot = fs::read(modules.join("boot.img"))?;
    let start = BIOS_BOOT / SECTOR;
    if core.len() as u64 > ESP - BIOS_BOOT || boot.len() < BOOT_CODE {
        bail!("GRUB's core of {} bytes does not fit its partition", core.len());
    }
    boot[0x5c..0x64].copy_from_slice(&start.to_le_bytes());
    core[0x1f4..0x1fc].copy_from_slice(&(start + 1).to_le_bytes());
    let file = File::options().write(true).open(image)?;
    file.write_all_at(&boot[..BOOT_CODE], 0)?;
    file.write_all_at(&core, BIOS_BOOT)?;
    Ok(())
}

fn install_efi_loader(tools: &Path, dir: &Path, image: &Path) -> anyhow::Result<()> {
    let loader = dir.join("bootx64.efi");
    grub_image(tools, "x86_64-efi", &["fat", "efi_gop", "all_video"], &loader)?;
    let mut format = tool(tools, "sbin/mkfs.fat").command();
    format.args(["-F", "16", "-n", "ESP", "--offset"]).arg((ESP / SECTOR).to_string());
    run(format.arg(image).arg(((ROOT - ESP) / 1024).to_string()))?;
    let place = format!("{}@@{ESP}", image.display());
    let mtools = |name: &str| -> Command {
        let mut command = tool(tools, &format!("usr/bin/{name}")).command();
        command.env("MTOOLS_SKIP_CHECK", "1").args(["-i", &place]);
        command
    };
    run(mtools("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
    run(mtools("mcopy").arg(&loader).arg("::/EFI/BOOT/BOOTX64.EFI"))
}

fn grub_image(tools: &Path, format: &str, more: &[&str], to: &Path) -> anyhow::Result<()> {
    let config = to.with_extension("cfg");
    fs::write(&config, GRUB_START)?;
    let mut command = tool(tools, "usr/bin/grub-mkimage").command();
    command.args(["--format", format, "--prefix", "/boot/grub", "--directory"]);
    command.arg(tools.join("usr/lib/grub").join(format)).arg("--config").arg(&config);
    run(command.arg("--output").arg(to).args(GRUB_MODULES).args(more))
}

fn tool(tools: &Path, path: &str) -> Program {
    Program::in_tree(tools, path)
}
