//! The life of PID 1: mounts, modules, the network, then reaping until power-off.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_move};
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname};
use testbed_agent::MODULE_LIST;

use crate::{console, disks, root};

pub(crate) fn run() -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("this program is PID 1 of the emulated host and does nothing elsewhere");
    }
    leave_rootfs()?;
    mount_all()?;
    sethostname(b"testbed")?;
    load_modules()?;
    bring_up_network()?;
    if let Some(device) = disks::root()? {
        return root::hand_over(&device);
    }
    delegate_cgroup_controllers()?;
    disks::mount_below(Path::new("/"))?;
    let server = Command::new("/proc/self/exe")
        .arg("serve")
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start the command server")?;
    let server = Pid::from_child(&server);
    reap_until_exit_of(server);
    bail!("the command server ended")
}

/// pivot_root(2) refuses to leave the initial rootfs, and Manor's jails need it. A bind mount of
/// the same tree, moved over it, is an ordinary mount.
fn leave_rootfs() -> anyhow::Result<()> {
    fs::create_dir_all("/newroot")?;
    mount_bind_recursive("/", "/newroot").context("cannot bind the root")?;
    std::env::set_current_dir("/newroot")?;
    mount_move(".", "/").context("cannot move the root")?;
    rustix::process::chroot(".").context("cannot enter the root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

fn mount_all() -> anyhow::Result<()> {
    let ordinary = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    for (kind, at, flags, options) in [
        ("proc", "/proc", ordinary, ""),
        ("sysfs", "/sys", ordinary, ""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=755"),
        ("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777"),
        ("cgroup2", "/sys/fs/cgroup", ordinary, ""),
        ("debugfs", "/sys/kernel/debug", ordinary, ""),
        ("tracefs", "/sys/kernel/tracing", ordinary, ""),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, "mode=755"),
        ("tmpfs", "/tmp", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777"),
    ] {
        // Directories in /sys exist or cannot be made; mount reports the latter.
        let _ = fs::create_dir_all(at);
        let options = std::ffi::CString::new(options)?;
        mount(kind, at, kind, flags, Some(options.as_c_str()))
            .with_context(|| format!("cannot mount {kind} on {at}"))?;
    }
    for (link, to) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        if !Path::new(link).exists() {
            symlink(to, link)?;
        }
    }
    for dir in ["/run/lock", "/var/lib", "/var/log", "/root"] {
        fs::create_dir_all(dir)?;
    }
    Ok(())
}

fn delegate_cgroup_controllers() -> anyhow::Result<()> {
    let available = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    let wanted: Vec<_> = available.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", wanted.join(" "))
        .context("cannot delegate the cgroup controllers")
}

/// The list was ordered by the host side from each module's own dependency note.
fn load_modules() -> anyhow::Result<()> {
    for path in fs::read_to_string(MODULE_LIST).context("no module list")?.lines() {
        let file = fs::File::open(path).with_context(|| format!("cannot open {path}"))?;
        // Of kvm-amd and kvm-intel one fits; the other is no news.
        if let Err(error) = finit_module(&file, c"", 0)
            && !path.contains("/kvm_")
        {
            // Worth reading in the log, but a testbed without it may still serve.
            console(&format!("testbed agent: cannot load {path}: {error}"));
        }
    }
    Ok(())
}

/// The addresses are those of QEMU's user network.
fn bring_up_network() -> anyhow::Result<()> {
    for arguments in [
        "link set lo up",
        "link set eth0 up",
        "addr add 10.0.2.15/24 dev eth0",
        "route add default via 10.0.2.2",
    ] {
        let status = Command::new("/bin/busybox").arg("ip").args(arguments.split(' ')).status()?;
        if !status.success() {
            bail!("`ip {arguments}` ended with {status}");
        }
    }
    Ok(())
}

fn reap_until_exit_of(server: Pid) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid == server => return,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

pub(crate) fn power_off() -> ! {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    std::process::exit(1);
}
