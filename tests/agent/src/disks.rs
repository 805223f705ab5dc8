//! Disks that came with the machine: the one with serial S is mounted at /mnt/S, or found as
//! /dev/disk/S where it is to be left alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use testbed_agent::{BARE_DISK, ROOT_DISK};

use crate::console;

struct Disk {
    device: PathBuf,
    serial: String,
    flags: MountFlags,
}

/// Below `root`, which is `/` or what is going to be.
pub(crate) fn mount_below(root: &Path) -> anyhow::Result<()> {
    for disk in all()?.iter().filter(|disk| disk.serial != ROOT_DISK) {
        if let Some(name) = disk.serial.strip_prefix(BARE_DISK) {
            let dir = root.join("dev/disk");
            fs::create_dir_all(&dir)?;
            symlink(&disk.device, dir.join(name))?;
            continue;
        }
        let at = root.join("mnt").join(&disk.serial);
        fs::create_dir_all(&at)?;
        if let Err(error) = mount(&disk.device, &at, "ext4", disk.flags, None) {
            console(&format!("testbed agent: {:?} stays unmounted: {error}", disk.device));
        }
    }
    Ok(())
}

/// The device with the root file system, if this host has one of its own.
pub(crate) fn root() -> anyhow::Result<Option<PathBuf>> {
    Ok(all()?.into_iter().find(|disk| disk.serial == ROOT_DISK).map(|disk| disk.device))
}

fn all() -> anyhow::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let dir = entry?.path();
        let serial = fs::read_to_string(dir.join("serial")).unwrap_or_default().trim().to_owned();
        if serial.is_empty() {
            continue;
        }
        let device = Path::new("/dev").join(dir.file_name().unwrap_or_default());
        let read_only = fs::read_to_string(dir.join("ro")).is_ok_and(|text| text.trim() == "1");
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        disks.push(Disk { device, serial, flags });
    }
    Ok(disks)
}
