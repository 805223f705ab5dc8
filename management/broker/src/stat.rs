//! What lies at a path, also where the daemon itself may not look.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::BrokerError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// A regular file.
    pub is_file: bool,
    pub device: u64,
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Of its content: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Of anything.
    pub changed: (i64, i64),
}

/// None: nothing is there.
pub(crate) fn stat(path: &Path, follow: bool) -> Result<Option<Stat>, BrokerError> {
    let found = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    match found {
        Ok(found) => Ok(Some(Stat::of(&found))),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(BrokerError::open("look at", "file", path, error)),
        },
    }
}

/// Without links; everything on the way must be there.
pub(crate) fn real_path(path: &Path) -> Result<PathBuf, BrokerError> {
    path.canonicalize().map_err(|error| BrokerError::open("look at", "file", path, error))
}

impl Stat {
    fn of(found: &Metadata) -> Self {
        Self {
            is_file: found.is_file(),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
