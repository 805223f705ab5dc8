//! A root directory with nothing in it.

use std::io;

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move,
    mount_remount, unmount,
};
use rustix::process::{chdir, chroot, pivot_root};

/// Where the empty file system is mounted for a moment: a directory that every host has.
const STAGE: &str = "/proc";

/// In a mount namespace of our own: the host's files are gone, and the new root takes none.
pub(super) fn enter_empty() -> io::Result<()> {
    // Nothing that happens here shall reach the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let bare = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("none", STAGE, "tmpfs", bare, Some(c"size=4k,nr_inodes=2,mode=0555"))?;
    chdir(STAGE)?;
    match pivot_root(".", ".") {
        // The old root lies on top of the new one now, and is taken off.
        Ok(()) => unmount(".", UnmountFlags::DETACH)?,
        // The host itself runs from its initial RAM disk, which cannot be exchanged but covered.
        Err(Errno::INVAL) => {
            mount_move(".", "/")?;
            chroot(".")?;
        }
        Err(error) => return Err(error.into()),
    }
    chdir("/")?;
    mount_remount("/", bare | MountFlags::RDONLY, c"size=4k,nr_inodes=2,mode=0555")?;
    Ok(())
}
