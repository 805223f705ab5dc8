//! [`Answers`]: requests that have ended on other threads, on their way back to one queue.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::disk::Finished;
use crate::sync::Lock;

/// Events for channels that were made in advance: who opens a channel is confined by then.
#[derive(Clone)]
pub(crate) struct Spares(Arc<Mutex<Vec<Arc<EventFd>>>>);

impl Spares {
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let event = |_| EventFd::new(EFD_NONBLOCK).map(Arc::new);
        Ok(Self(Arc::new(Mutex::new((0..count).map(event).collect::<io::Result<_>>()?))))
    }

    /// None: as many as there are, are in use.
    pub(crate) fn answers(&self) -> Option<Arc<Answers>> {
        let event = self.0.hold().pop()?;
        Some(Arc::new(Answers { finished: Mutex::default(), more: Condvar::new(), event }))
    }

    /// Only of a channel that waits for nothing: one that may still ring is nobody's any more.
    pub(crate) fn put_back(&self, answers: &Answers) {
        self.0.hold().push(answers.event.clone());
    }
}

/// What has ended for one channel.
pub(crate) struct Answers {
    finished: Mutex<VecDeque<Finished>>,
    more: Condvar,
    event: Arc<EventFd>,
}

impl Answers {
    pub(crate) fn give(&self, finished: Finished) {
        let mut all = self.finished.hold();
        all.push_back(finished);
        // With the lock held: an event that rang after its answer was taken would ring for ever.
        // Fails only when the counter is full, and then somebody is told anyway.
        let _ = self.event.write(1);
        self.more.notify_one();
    }

    /// Move all that have ended to `to`; returns how many.
    pub(crate) fn take(&self, to: &mut VecDeque<Finished>) -> usize {
        let mut finished = self.finished.hold();
        let _ = self.event.read();
        let count = finished.len();
        to.append(&mut finished);
        count
    }

    /// Block until something has ended.
    pub(crate) fn wait(&self) {
        let mut finished = self.finished.hold();
        while finished.is_empty() {
            finished = self.more.wait(finished).unwrap_or_else(PoisonError::into_inner);
        }
    }

    #[cfg(test)]
    pub(crate) fn rings(&self) -> bool {
        self.event.read().is_ok()
    }

    pub(crate) fn source(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
