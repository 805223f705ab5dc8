//! A socket option that has no safe form.
#![allow(unsafe_code, reason = "SO_BINDTODEVICE has no safe form")]

use std::os::fd::{AsRawFd, BorrowedFd};

pub(crate) fn bind_to_device(socket: BorrowedFd<'_>, device: &str) {
    let length = device.len() as libc::socklen_t;
    let name = device.as_ptr().cast();
    // SAFETY: `name` points to `length` bytes, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name, length)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
