//! How much of the host's tables the process may fill.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those it came with: interrupts and kicks, rings, timers, clients, and the files of
/// devices that come later.
const MORE_FILES: u64 = 1024;

pub(super) struct Limits {
    pub words: String,
    /// As much memory may be locked as there is.
    pub locks: bool,
}

/// `files`: how many descriptors came with the process.
pub(super) fn set(files: usize, privileged: bool) -> io::Result<Limits> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let open = (files as u64).saturating_add(MORE_FILES).min(most);
    for (resource, limit) in [(Resource::Nofile, Some(open)), (Resource::Core, Some(0))] {
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    let locks = privileged && lock_any_memory()?;
    Ok(Limits { words: format!("{open} files, no core"), locks })
}

/// Memory that is locked is the guest's, which the cgroup counts; the user that this process becomes has
/// no allowance of its own. False where the limit cannot be raised, as by a daemon in a container.
fn lock_any_memory() -> io::Result<bool> {
    match setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }) {
        Err(Errno::PERM) => {
            let most = getrlimit(Resource::Memlock).maximum;
            setrlimit(Resource::Memlock, Rlimit { current: most, maximum: most })?;
            Ok(false)
        }
        done => Ok(done.map(|()| true)?),
    }
}
