//! How much of the host's tables and memory the process may fill.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Needs;

/// Descriptors beside those it came with: interrupts and kicks, rings, timers, clients, and the files of
/// devices that come later.
const MORE_FILES: u64 = 1024;

/// Memory beside the guest's: tables of images, buffers, screens, stacks.
const MORE_MEMORY: u64 = 2 << 30;

/// Threads beside those of the vCPUs: of disks, interfaces, screens and jobs, and those that the kernel makes
/// for rings and vhost devices.
const MORE_THREADS: u64 = 1024;

pub(super) struct Limits {
    pub words: String,
    /// As much memory may be locked as there is.
    pub locks: bool,
}

/// What nobody but this process has of memory (`RLIMIT_DATA`): far more than any guest needs, also while its
/// memory is there twice, and not all that the host has. What lies on files and memfds was opened by others.
fn own_memory(guest: u64) -> u64 {
    guest.saturating_mul(2).saturating_add(MORE_MEMORY)
}

pub(super) fn set(needs: Needs, privileged: bool) -> io::Result<Limits> {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let open = (needs.files as u64).saturating_add(MORE_FILES).min(most);
    let most = getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
    let memory = own_memory(needs.memory).min(most);
    for (resource, limit) in
        [(Resource::Nofile, Some(open)), (Resource::Data, Some(memory)), (Resource::Core, Some(0))]
    {
        setrlimit(resource, Rlimit { current: limit, maximum: limit })?;
    }
    let locks = privileged && lock_any_memory()?;
    Ok(Limits { words: format!("{open} files, {} MiB, no core", memory >> 20), locks })
}

/// As many threads as the guest can need (`RLIMIT_NPROC`). The kernel counts them by user, in a user namespace
/// by itself: where the process is a user of its own, they are its own.
pub(super) fn set_threads(vcpus: u16) -> io::Result<String> {
    let most = getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX);
    let threads = u64::from(vcpus).saturating_add(MORE_THREADS).min(most);
    setrlimit(Resource::Nproc, Rlimit { current: Some(threads), maximum: Some(threads) })?;
    Ok(format!("{threads} at most"))
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
