//! Namespaces of the process's own.
#![allow(unsafe_code, reason = "unshare has no safe form")]

use std::io;

/// Mounts, networks, System V IPC and the host's name become this thread's own; without privilege in a
/// user namespace of its own, where the host allows that.
pub(super) fn namespaces(privileged: bool) -> io::Result<()> {
    let mut flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if !privileged {
        flags |= libc::CLONE_NEWUSER;
    }
    // SAFETY: `unshare` takes a number. What it changes of this thread (where its files, networks and
    // users are looked up) no code here has assumed; open descriptors and memory stay as they are.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
