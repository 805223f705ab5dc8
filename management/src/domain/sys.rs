#![allow(unsafe_code, reason = "tokio cannot see that a descriptor stays open while it polls it")]
//! Polling a pidfd.

use std::io;

use broker::Process;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(super) fn poll(process: Process) -> io::Result<AsyncFd<Process>> {
    // SAFETY: `Process` owns its pidfd, gives out that same one from `as_raw_fd` each time and closes
    // it only in its drop; the returned `AsyncFd` owns the `Process` and deregisters first.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE)? })
}
