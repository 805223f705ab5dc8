//! Locks that live with an open file, not with a process: the VMM inherits them and keeps them
//! whatever becomes of the daemon.
//!
//! Images are locked on the bytes QEMU uses, so that its tools see a guest's disk as busy, and we
//! see theirs. For each permission a user takes it read-locks the byte 100 + n, for each it does not
//! grant to others the byte 200 + n; then it looks whether another holds the opposite.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::error::Holder;
use crate::{BrokerError, Sharing, sys};

const TAKEN: i64 = 100;
const DENIED: i64 = 200;

// Numbers of QEMU's permissions.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

pub(crate) fn image(
    image: &OwnedFd,
    path: &Path,
    read_only: bool,
    sharing: Sharing,
) -> Result<(), BrokerError> {
    let taken: &[i64] = if read_only { &[CONSISTENT_READ] } else { &[CONSISTENT_READ, WRITE] };
    let denied: &[i64] = match sharing {
        Sharing::Exclusive | Sharing::Again => &[WRITE, RESIZE],
        Sharing::Shared => &[RESIZE],
    };
    let host = |source| BrokerError::Host { act: format!("lock {}", path.display()), source };
    for byte in taken.iter().map(|n| TAKEN + n).chain(denied.iter().map(|n| DENIED + n)) {
        sys::ofd_read_lock(image.as_fd(), byte).map_err(host)?;
    }
    if sharing == Sharing::Again {
        return Ok(());
    }
    for byte in taken.iter().map(|n| DENIED + n).chain(denied.iter().map(|n| TAKEN + n)) {
        if sys::ofd_locked_by_other(image.as_fd(), byte).map_err(host)? {
            // Our own locks go with the file, which is closed now.
            return Err(BrokerError::Locked { path: path.to_owned(), holder: holder(path) });
        }
    }
    Ok(())
}

/// Take a run directory's lock, or say that a VMM has it.
pub(crate) fn run_dir(dir: &Path) -> Result<OwnedFd, BrokerError> {
    let path = dir.join(crate::LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = open(&path, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| BrokerError::open("open", "lock file", &path, errno.into()))?;
    let taken = sys::ofd_try_write_lock(file.as_fd())
        .map_err(|source| BrokerError::Host { act: format!("lock {}", path.display()), source })?;
    if taken { Ok(file) } else { Err(BrokerError::RunDirLocked { path }) }
}

/// A lock of an open file has no owner that the kernel would name; whoever has the file open and
/// is not us is the likely one.
fn holder(path: &Path) -> Holder {
    find_holder(path).unwrap_or(Holder::Unknown)
}

fn find_holder(path: &Path) -> Option<Holder> {
    let image = std::fs::metadata(path).ok()?;
    let us = std::process::id();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == us {
            continue;
        }
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let has = files.flatten().any(|file| {
            std::fs::metadata(file.path())
                .is_ok_and(|meta| (meta.dev(), meta.ino()) == (image.dev(), image.ino()))
        });
        if has {
            return Some(Holder::Process { pid, name: command(&entry.path()) });
        }
    }
    None
}

fn command(process: &Path) -> String {
    let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let text = words.iter().take(4).map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>();
    text.join(" ").escape_debug().to_string()
}
