//! How much of the host's tables the process may fill.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those it came with: interrupts and kicks, rings, timers, clients, and the files of
/// devices that come later.
const MORE_FILES: u64 = 1024;

/// `files`: how many descriptors came with the process.
pub(super) fn set(files: usize, privileged: bool) -> io::Result<String> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let open = (files as u64).saturating_add(MORE_FILES).min(most);
    for (resource, limit) in [(Resource::Nofile, Some(open)), (Resource::Core, Some(0))] {
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    if privileged {
        lock_any_memory()?;
    }
    Ok(format!("{open} files, no core"))
}

/// Memory that is locked is the guest's, which the cgroup counts; the user that this process becomes has
/// no allowance of its own.
fn lock_any_memory() -> io::Result<()> {
    let all = Rlimit { current: None, maximum: None };
    match setrlimit(Resource::Memlock, all) {
        // A daemon in a container: as much as that has.
        Err(Errno::PERM) => {
            let most = getrlimit(Resource::Memlock).maximum;
            Ok(setrlimit(Resource::Memlock, Rlimit { current: most, maximum: most })?)
        }
        done => Ok(done?),
    }
}
