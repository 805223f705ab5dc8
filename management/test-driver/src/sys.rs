#![allow(unsafe_code, reason = "a process takes over a descriptor that it was started with")]
//! Taking over a descriptor by its number.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};
use vmm_protocol::config::Fd;

/// Own a descriptor of the configuration. To be called once for each, before anything else is opened.
pub(crate) fn adopt(fd: Fd) -> io::Result<OwnedFd> {
    if fd.0 < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is only looked at, by a call that fails if it is not open; -1 was refused.
    let number = unsafe { BorrowedFd::borrow_raw(fd.0) };
    fcntl_setfd(number, FdFlags::CLOEXEC)?;
    // SAFETY: it is open (just checked), and the caller adopts each number once, before this process
    // opens anything that could have the number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.0) })
}
