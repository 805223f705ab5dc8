//! Sockets that systemd opened for us (`LISTEN_FDS`).
#![allow(unsafe_code, reason = "a descriptor number becomes an owned descriptor")]

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

/// The inherited sockets with the names of their units. May be called once: it takes them.
pub(crate) fn inherited_sockets() -> std::io::Result<Vec<(String, UnixListener)>> {
    let mut sockets = Vec::new();
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: systemd passes this descriptor to this process (LISTEN_PID was checked) for us to
        // own, and `listen_fds_with_names` unsets the variables, so nobody else takes it again.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        sockets.push((name, UnixListener::from(owned)));
    }
    Ok(sockets)
}
