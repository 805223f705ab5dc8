//! Writing from guest memory behind bytes of ours, without a copy.
#![allow(unsafe_code, reason = "writev on guest memory has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use memory::IoBuffers;

/// Write `first`, then what is in `buffers` after `skip` bytes; how many bytes were taken.
pub(super) fn write_behind(
    fd: BorrowedFd<'_>,
    first: &[u8],
    buffers: &IoBuffers,
    mut skip: usize,
) -> io::Result<usize> {
    let guest = buffers.as_iovecs();
    let mut vectors = Vec::with_capacity(guest.len() + 1);
    vectors.push(libc::iovec { iov_base: first.as_ptr().cast_mut().cast(), iov_len: first.len() });
    for vector in guest {
        let over = skip.min(vector.iov_len);
        skip -= over;
        if over < vector.iov_len {
            vectors.push(libc::iovec {
                iov_base: vector.iov_base.wrapping_byte_add(over),
                iov_len: vector.iov_len - over,
            });
        }
    }
    if vectors.len() > libc::UIO_MAXIOV as usize {
        // A frame cut short would be a wrong one.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the first vector is `first`, borrowed for this call; the others lie in mapped guest memory
    // for as long as `buffers` lives, each shortened at its front by no more than its length. The kernel
    // only reads, and is done with them when the call returns.
    let count =
        unsafe { libc::writev(fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
