//! From the initramfs to a root file system with an init of its own, in which the agent is a
//! service. Nothing of the agent is in the image: what it needs lies in /run.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_move};

use crate::disks;

const ROOT: &str = "/newroot";
const AGENT: &str = "/run/testbed/agent";
const MODULES: &str = "lib/modules";

const UNIT: &str = "[Unit]
Description=Command server of the testbed

[Service]
Type=exec
ExecStart=/run/testbed/agent serve
StandardError=journal+console
# A command may leave a daemon behind.
KillMode=process
";

/// Ends in the other init and returns only with an error.
pub(crate) fn hand_over(device: &Path) -> anyhow::Result<()> {
    match try_hand_over(device) {
        Ok(never) => match never {},
        Err(error) => Err(error.context(format!("cannot use the root file system on {device:?}"))),
    }
}

fn try_hand_over(device: &Path) -> anyhow::Result<Infallible> {
    let root = Path::new(ROOT);
    mount(device, root, "ext4", MountFlags::empty(), None).context("cannot mount it")?;
    let owner = fs::symlink_metadata(root.join("usr"))?.uid();
    if owner != 0 {
        own(root, owner).context("cannot take its files over from whoever made them")?;
    }
    disks::mount_below(root)?;
    let modules = root.join(MODULES);
    fs::create_dir_all(&modules)?;
    mount_bind_recursive(Path::new("/").join(MODULES), &modules)
        .context("cannot bind the modules")?;
    install()?;
    for dir in ["dev", "proc", "sys", "run"] {
        mount_move(Path::new("/").join(dir), root.join(dir))
            .with_context(|| format!("cannot move /{dir}"))?;
    }
    std::env::set_current_dir(root)?;
    mount_move(".", "/").context("cannot move it to /")?;
    rustix::process::chroot(".").context("cannot enter it")?;
    std::env::set_current_dir("/")?;
    Err(Command::new("/sbin/init").env_clear().exec()).context("cannot start its init")
}

fn install() -> anyhow::Result<()> {
    fs::create_dir_all("/run/testbed")?;
    fs::copy("/proc/self/exe", AGENT).context("cannot copy the agent")?;
    let wanted = Path::new("/run/systemd/system/multi-user.target.wants");
    fs::create_dir_all(wanted)?;
    fs::write("/run/systemd/system/testbed-agent.service", UNIT)?;
    symlink("../testbed-agent.service", wanted.join("testbed-agent.service"))?;
    Ok(())
}

/// An image made by an ordinary user has that user's files.
fn own(path: &Path, from: u32) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.uid() == from {
        std::os::unix::fs::lchown(path, Some(0), Some(0))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), from)?;
        }
    }
    Ok(())
}
