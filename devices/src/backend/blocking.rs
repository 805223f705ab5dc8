//! [`BlockingChannel`]: a channel for disks whose I/O blocks, as image formats read and write it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use memory::IoBuffers;

use super::disk::{Action, Channel, Finished, Request};

/// A disk that carries out one request at a time and returns when it is done.
pub trait Blocking: Send + Sync {
    /// `offset` and the range are inside the disk. The whole of `buffers` is read into or written.
    fn run(&self, action: Action, offset: u64, buffers: &mut IoBuffers) -> io::Result<()>;
}

/// Carries out each request when it is started, on the queue's io thread.
pub struct BlockingChannel<D> {
    disk: Arc<D>,
    finished: VecDeque<Finished>,
}

impl<D: Blocking> BlockingChannel<D> {
    #[must_use]
    pub fn new(disk: Arc<D>) -> Self {
        Self { disk, finished: VecDeque::new() }
    }
}

impl<D: Blocking> Channel for BlockingChannel<D> {
    fn start(&mut self, token: u16, request: Request) {
        let Request { action, offset, mut buffers } = request;
        let result = self.disk.run(action, offset, &mut buffers);
        self.finished.push_back(Finished { token, result, buffers });
    }

    fn submit(&mut self) {}

    fn finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    fn source(&self) -> Option<RawFd> {
        None
    }

    fn wait(&mut self) {}
}
