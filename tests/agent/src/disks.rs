//! Disks that came with the machine: the one with serial S is mounted at /mnt/S.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::console;

pub(crate) fn mount_all() -> anyhow::Result<()> {
    for entry in fs::read_dir("/sys/block")? {
        let dir = entry?.path();
        let serial = fs::read_to_string(dir.join("serial")).unwrap_or_default();
        let serial = serial.trim();
        if serial.is_empty() {
            continue;
        }
        let device = Path::new("/dev").join(dir.file_name().unwrap_or_default());
        let read_only = fs::read_to_string(dir.join("ro")).is_ok_and(|text| text.trim() == "1");
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        let at = Path::new("/mnt").join(serial);
        fs::create_dir_all(&at)?;
        if let Err(error) = mount(&device, &at, "ext4", flags, None) {
            console(&format!("testbed agent: {device:?} stays unmounted: {error}"));
        }
    }
    Ok(())
}
