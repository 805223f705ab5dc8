//! [`SmallFs`]: a file system of a few pages, which runs full and is made larger.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_string, fsmount, fsopen, fspick,
    move_mount, unmount,
};

/// A tmpfs. It is nowhere until it is [mounted](Self::mount), and ends with this.
pub struct SmallFs {
    root: OwnedFd,
    place: Option<PathBuf>,
}

impl SmallFs {
    /// # Errors
    /// Where one must be root for it, and is not.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(fs.as_fd(), "size", bytes.to_string())?;
        fsconfig_create(fs.as_fd())?;
        let root = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(Self { root, place: None })
    }

    /// The file `name`, made where it is not there.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        Ok(openat(&self.root, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// A path to the file `name`, for other processes.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        let (process, root) = (std::process::id(), self.root.as_raw_fd());
        PathBuf::from(format!("/proc/{process}/fd/{root}/{name}"))
    }

    pub fn resize(&self, bytes: u64) -> io::Result<()> {
        let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
        let fs = fspick(&self.root, "", flags)?;
        fsconfig_set_string(fs.as_fd(), "size", bytes.to_string())?;
        Ok(fsconfig_reconfigure(fs.as_fd())?)
    }

    /// For everybody to see, until this ends.
    pub fn mount(&mut self, place: &Path) -> io::Result<()> {
        move_mount(&self.root, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.place = Some(place.to_owned());
        Ok(())
    }
}

impl Drop for SmallFs {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            // Whoever still uses it goes on with what is there.
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
}
