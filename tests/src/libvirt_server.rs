//! libvirt's daemon with its driver for QEMU, as Debian 12 ships both, in a tree of its own: what Manor is compared
//! with. Nothing of it is installed, and it runs in namespaces of its own, so this machine's networks, mounts and
//! processes are none of its business. Needs root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::apt::Apt;
use crate::paths;

const PACKAGES: [&str; 5] = [
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-config-network",
    "libvirt-daemon-config-nwfilter",
    "qemu-system-x86",
];

/// What it only reads is the tree's; what it writes lies on this machine's own file system. The shell stays as the
/// first process of its namespace and reaps what the daemon leaves.
const START: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
mount --bind "$1" "$1"
for dir in usr lib lib64 sbin; do
    mount --bind "$2/$dir" "$1/$dir"
done
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount -t tmpfs tmpfs "$1/run"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$(command -v chroot)" "$1" /usr/sbin/libvirtd &
wait
"#;

/// For a busy machine: it asks QEMU what it can before it answers.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Libvirtd {
    process: Child,
    /// Of the daemon itself.
    pid: u32,
}

impl Libvirtd {
    /// With an empty configuration in `dir`, which becomes its root and can be asked for what it wrote.
    pub fn start(dir: &Path) -> anyhow::Result<Libvirtd> {
        if !rustix::process::geteuid().is_root() {
            bail!("libvirt's daemon needs root");
        }
        let tree = paths::made_once("libvirt-server", |tree| {
            Apt::open()?.unpack_closure(&PACKAGES, None, tree)
        })?;
        furnish(dir)?;
        let log = fs::File::create(dir.join("libvirtd.log"))?;
        let process = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", START, "sh"])
            .args([dir, &tree])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run unshare")?;
        let mut server = Libvirtd { process, pid: 0 };
        server.wait(dir)?;
        Ok(server)
    }

    /// Until it listens.
    fn wait(&mut self, dir: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(pid) = daemon_below(self.process.id()) {
                self.pid = pid;
                if self.socket().exists() {
                    return Ok(());
                }
            }
            if let Some(status) = self.process.try_wait()? {
                let said = fs::read_to_string(dir.join("libvirtd.log")).unwrap_or_default();
                bail!("libvirt's daemon ended with {status}:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("libvirt's daemon does not listen after {} s", PATIENCE.as_secs())
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// As this machine reaches it.
    pub fn socket(&self) -> PathBuf {
        format!("/proc/{}/root/run/libvirt/libvirt-sock", self.pid).into()
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        // With `unshare` goes its child, and with that all that is in its namespace.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The daemon among what descends from a process.
fn daemon_below(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
    children.find_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if name.trim() == "libvirtd" { Some(pid) } else { daemon_below(pid) }
    })
}

/// Directories to mount on, and a configuration for a host that has no users but root.
fn furnish(root: &Path) -> anyhow::Result<()> {
    symlink("usr/bin", root.join("bin"))?;
    for dir in [
        "usr",
        "lib",
        "lib64",
        "sbin",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "root",
        "etc/libvirt/qemu/networks",
        "var/lib/libvirt/images",
        "var/lib/libvirt/qemu",
        "var/cache",
        "var/log",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    symlink("/run", root.join("var/run"))?;
    let write = |name: &str, text: &str| fs::write(root.join("etc").join(name), text);
    // Those that it asks for at its start, although it is to use none of them.
    let users =
        "root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false\n";
    write("passwd", users)?;
    write("group", "root:x:0:\nkvm:x:104:\nlibvirt:x:108:\nlibvirt-qemu:x:64055:\n")?;
    write("libvirt/libvirtd.conf", "auth_unix_rw = \"none\"\nunix_sock_group = \"root\"\n")?;
    let qemu = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n\
                cgroup_controllers = [ ]\nnamespaces = [ ]\n";
    write("libvirt/qemu.conf", qemu)?;
    Ok(())
}
