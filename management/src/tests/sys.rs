#![allow(unsafe_code, reason = "a process takes over the descriptors it was started with")]
//! Taking over a descriptor by its number.

use std::os::fd::{FromRawFd as _, OwnedFd};

use vmm_protocol::config::Fd;

pub(super) fn adopt(fd: Fd) -> OwnedFd {
    // SAFETY: only called by a process that plays a VMM, once for each descriptor of its
    // configuration, which names those that were opened for it and that nothing else in it knows.
    unsafe { OwnedFd::from_raw_fd(fd.0) }
}
