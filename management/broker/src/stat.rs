//! What lies at a path, also where the daemon itself may not look: there it is told of what guests may have, and of
//! nothing else.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::Judge;
use crate::{BrokerError, Owner};

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
pub(crate) fn stat(
    judge: Judge<'_>,
    owner: Option<&Owner>,
    path: &Path,
    follow: bool,
) -> Result<Option<Stat>, BrokerError> {
    let look = || if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let found = match seen_by(judge, owner, path, look)? {
        Some(seen) => seen,
        None => match judge.look(path, follow)? {
            Some((file, _)) => fs::File::from(file).metadata(),
            None => return Ok(None),
        },
    };
    match found {
        Ok(found) => Ok(Some(Stat::of(&found))),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(BrokerError::open("look at", "file", path, error)),
        },
    }
}

/// Without links; everything on the way must be there.
pub(crate) fn real_path(
    judge: Judge<'_>,
    owner: Option<&Owner>,
    path: &Path,
) -> Result<PathBuf, BrokerError> {
    let failed = |error| BrokerError::open("look at", "file", path, error);
    match seen_by(judge, owner, path, || path.canonicalize())? {
        Some(seen) => seen.map_err(failed),
        None => {
            let found = judge.look(path, true)?;
            found.map(|(_, real)| real).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
        }
    }
}

/// What the daemon's user sees without a broker, or that nothing is there, is nothing to be judged. None: it
/// does not see it.
fn seen_by<T>(
    judge: Judge<'_>,
    owner: Option<&Owner>,
    path: &Path,
    look: impl FnOnce() -> io::Result<T>,
) -> Result<Option<io::Result<T>>, BrokerError> {
    let _as_owner = match owner {
        _ if judge.is_none() => None,
        Some(owner) => Some(owner.act(path)?),
        None => return Ok(None),
    };
    match look() {
        Err(error) if !judge.is_none() && error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(None)
        }
        seen => Ok(Some(seen)),
    }
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
