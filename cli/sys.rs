//! Descriptors that this process was started with: sockets that systemd opened (`LISTEN_FDS`), and images.
#![allow(unsafe_code, reason = "a descriptor number becomes an owned descriptor")]

use std::fs::File;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
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

/// The files that are open from descriptor `first` on, up to the first that is not. To be called once, and
/// before anything else is opened: it takes them.
pub(crate) fn inherited_files(first: RawFd) -> Vec<File> {
    let is_open = |number: &RawFd| {
        // SAFETY: only asked about, for as long as this call; a number that is not open is an error.
        rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*number) }).is_ok()
    };
    let numbers = (first..).take_while(is_open).collect::<Vec<_>>();
    // SAFETY: each is open, came with the start of this process, and is taken nowhere else.
    numbers.into_iter().map(|number| unsafe { File::from_raw_fd(number) }).collect()
}

/// All threads become this user, with no other group and so without a capability, and nobody again.
pub(crate) fn become_user(uid: u32, gid: u32) -> std::io::Result<()> {
    let check = |result| {
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the list is read for its length, and is there for the call.
    check(unsafe { libc::setgroups(1, &raw const gid) })?;
    // SAFETY: numbers alone; the C library has each thread do it.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}
