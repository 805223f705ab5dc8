//! The run directory of a domain: what lasts as long as its VMM process.
//!
//! | file | whose |
//! |---|---|
//! | `lock` | held by the VMM while it lives |
//! | `control.sock` | where daemons connect |
//! | `exit.json` | the VMM's last word |
//!
//! The daemon keeps its own record beside them.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::BrokerError;
use crate::policy::Judge;

pub const LOCK: &str = "lock";
pub const CONTROL_SOCKET: &str = "control.sock";
pub const EXIT_RECORD: &str = "exit.json";

/// `sun_path` with its closing zero byte.
const LONGEST_SOCKET_PATH: usize = 107;

pub(crate) fn make(path: &Path) -> Result<(), BrokerError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| BrokerError::open("make", "run directory", path, source))
}

pub(crate) fn remove(path: &Path) -> Result<(), BrokerError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(BrokerError::host(format!("remove {}", path.display()))),
    }
}

pub(crate) fn listen(judge: Judge<'_>, path: &Path) -> Result<OwnedFd, BrokerError> {
    let len = path.as_os_str().len();
    if len > LONGEST_SOCKET_PATH {
        return Err(BrokerError::SocketPath { path: path.to_owned(), len });
    }
    use std::os::unix::fs::FileTypeExt as _;
    let place = judge.make("socket", path)?;
    if place.by().symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
        // Left behind by a process that is gone; nobody can be reached through it.
        std::fs::remove_file(place.by())
            .map_err(BrokerError::host(format!("replace socket {}", path.display())))?;
    }
    UnixListener::bind(place.by())
        .map(OwnedFd::from)
        .map_err(|source| BrokerError::open("listen at", "socket", path, source))
}
