//! Waiting for a process to end, whether it is our child or was that of an earlier daemon.

use std::io;

use broker::Process;
use tokio::io::unix::AsyncFd;

use super::sys;

pub(crate) struct Exit {
    process: AsyncFd<Process>,
}

impl Exit {
    pub(crate) fn new(process: Process) -> io::Result<Self> {
        Ok(Self { process: sys::poll(process)? })
    }

    /// Returns when the process has ended, at once if it had.
    pub(crate) async fn ended(&self) {
        // A pidfd stays readable, and is never read.
        let _ = self.process.readable().await;
    }

    /// How, if it was our child.
    pub(crate) fn reap(&self) -> Option<String> {
        self.process.get_ref().reap()
    }
}
