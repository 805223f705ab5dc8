//! [`Guarded`]: a disk whose failed requests are judged before anybody hears of them.
//!
//! ```text
//!            good                                       retry
//!   started ──────▶ finished          started ◀────────────────────── kept
//!      │    report, ignore  ▲            │  failed, and policy: stop    ▲ │
//!      └────────────────────┘            └──────────────────────────────┘ │ give up
//!                                                      finished (failed) ◀┘
//! ```
//! A kept request is one that the device still owes an answer: the machine pauses, somebody makes
//! room or mends the cable, and it goes on as if it had only been slow. A request is retried as a
//! whole: what of it had been written is written once more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use image::Image;

use super::disk::{Action, Channel, Disk, DiskInfo, Finished, Request};
use super::stats::{ErrorPolicy, FailedOperation, Verdict};
use crate::limit::warn_limited;

/// A disk, and who decides about what the host fails to do.
pub struct Guarded {
    disk: Arc<dyn Disk>,
    errors: Arc<dyn ErrorPolicy>,
}

impl Guarded {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, errors: Arc<dyn ErrorPolicy>) -> Self {
        Self { disk, errors }
    }
}

impl Disk for Guarded {
    fn info(&self) -> DiskInfo {
        self.disk.info()
    }

    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(GuardedChannel {
            inner: self.disk.channel(depth)?,
            errors: self.errors.clone(),
            started: vec![None; usize::from(depth)],
            kept: VecDeque::new(),
            given_up: VecDeque::new(),
        }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.disk.grow(size)
    }

    fn image(&self) -> Option<Arc<dyn Image>> {
        self.disk.image()
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

struct Kept {
    token: u16,
    request: Request,
    error: io::Error,
}

struct GuardedChannel {
    inner: Box<dyn Channel>,
    errors: Arc<dyn ErrorPolicy>,
    /// By token: what is needed to start a request once more, besides its buffers.
    started: Vec<Option<(Action, u64)>>,
    /// In the order in which they failed.
    kept: VecDeque<Kept>,
    given_up: VecDeque<Finished>,
}

impl GuardedChannel {
    /// What becomes of a request that has failed; none: it is kept.
    fn judge(&mut self, finished: Finished, error: io::Error) -> Option<Finished> {
        let Finished { token, mut buffers, .. } = finished;
        let started = self.started.get_mut(usize::from(token)).and_then(Option::take);
        let Some((action, offset)) = started else {
            return Some(Finished { token, result: Err(error), buffers });
        };
        let operation = operation(action);
        warn_limited!("disk {operation:?} failed on the host: {error}");
        let result = match self.errors.decide(operation, &error) {
            Verdict::Report => Err(error),
            Verdict::Ignore => Ok(()),
            Verdict::Stop => {
                buffers.rewind();
                let request = Request { action, offset, buffers };
                self.kept.push_back(Kept { token, request, error });
                return None;
            }
        };
        Some(Finished { token, result, buffers })
    }
}

fn operation(action: Action) -> FailedOperation {
    match action {
        Action::Read => FailedOperation::Read,
        Action::Write { .. } => FailedOperation::Write,
        Action::Flush => FailedOperation::Flush,
        Action::Discard { .. } | Action::Zero { .. } => FailedOperation::Unmap,
    }
}

impl Channel for GuardedChannel {
    fn start(&mut self, token: u16, request: Request) {
        if let Some(place) = self.started.get_mut(usize::from(token)) {
            *place = Some((request.action, request.offset));
        }
        self.inner.start(token, request);
    }

    fn submit(&mut self) {
        self.inner.submit();
    }

    fn finished(&mut self) -> Option<Finished> {
        if let Some(given_up) = self.given_up.pop_front() {
            return Some(given_up);
        }
        loop {
            let mut finished = self.inner.finished()?;
            match std::mem::replace(&mut finished.result, Ok(())) {
                Ok(()) => return Some(finished),
                Err(error) => {
                    if let Some(finished) = self.judge(finished, error) {
                        return Some(finished);
                    }
                }
            }
        }
    }

    fn source(&self) -> Option<RawFd> {
        self.inner.source()
    }

    fn wait(&mut self) {
        if self.given_up.is_empty() {
            self.inner.wait();
        }
    }

    fn kept(&self) -> usize {
        self.kept.len()
    }

    fn retry(&mut self) {
        for Kept { token, request, .. } in std::mem::take(&mut self.kept) {
            self.start(token, request);
        }
        self.inner.submit();
    }

    fn give_up(&mut self) {
        let failed = self.kept.drain(..).map(|Kept { token, request, error }| Finished {
            token,
            result: Err(error),
            buffers: request.buffers,
        });
        self.given_up.extend(failed);
    }

    fn renew(&mut self) {
        self.inner.renew();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use memory::{Backing, GuestRam};

    use super::*;
    use crate::backend::held::{Held, HeldDisk};
    use crate::sync::Lock;

    struct Always(Verdict);

    impl ErrorPolicy for Always {
        fn decide(&self, _: FailedOperation, _: &io::Error) -> Verdict {
            self.0
        }
    }

    const WRITE: Action = Action::Write { durable: false };

    fn rig(verdict: Verdict) -> (Arc<HeldDisk>, Box<dyn Channel>, GuestRam) {
        let disk = HeldDisk::new(1 << 20, false);
        let guarded = Guarded::new(Arc::new(Held(disk.clone())), Arc::new(Always(verdict)));
        let ram = GuestRam::new(&[(0, 1 << 20)], &Backing::Anonymous).unwrap();
        (disk, guarded.channel(8).unwrap(), ram)
    }

    fn write(ram: &GuestRam, offset: u64) -> Request {
        Request { action: WRITE, offset, buffers: ram.buffers([(0, offset + 512)]).unwrap() }
    }

    #[test]
    fn what_is_kept_is_retried_in_order_and_whole_once_the_host_can() {
        let (disk, mut channel, ram) = rig(Verdict::Stop);
        disk.error.store(libc::ENOSPC, SeqCst);
        for (token, offset) in [(3, 512), (1, 1024)] {
            channel.start(token, write(&ram, offset));
        }
        assert!(channel.finished().is_none());
        assert_eq!(channel.kept(), 2);
        // It may fail again.
        channel.retry();
        assert!(channel.finished().is_none());
        assert_eq!(channel.kept(), 2);
        disk.error.store(0, SeqCst);
        channel.retry();
        assert_eq!(channel.kept(), 0);
        let ended: Vec<_> = std::iter::from_fn(|| channel.finished())
            .map(|finished| (finished.token, finished.result.is_ok()))
            .collect();
        assert_eq!(ended, [(3, true), (1, true)]);
        let tried = disk.actions.hold();
        assert_eq!(tried[..2], [(WRITE, 1024), (WRITE, 1536)]);
        assert_eq!((&tried[..2], &tried[..2]), (&tried[2..4], &tried[4..6]));
    }

    #[test]
    fn what_is_given_up_fails_as_it_did() {
        let (disk, mut channel, ram) = rig(Verdict::Stop);
        disk.error.store(libc::EIO, SeqCst);
        channel.start(7, write(&ram, 0));
        assert!(channel.finished().is_none());
        channel.give_up();
        channel.wait();
        let Finished { token, result, .. } = channel.finished().unwrap();
        assert_eq!((token, result.unwrap_err().raw_os_error()), (7, Some(libc::EIO)));
        assert_eq!(channel.kept(), 0);
    }

    #[test]
    fn other_verdicts_end_a_request() {
        for (verdict, good) in [(Verdict::Ignore, true), (Verdict::Report, false)] {
            let (disk, mut channel, ram) = rig(verdict);
            disk.error.store(libc::EIO, SeqCst);
            channel.start(0, write(&ram, 0));
            assert_eq!(channel.finished().unwrap().result.is_ok(), good);
            assert_eq!(channel.kept(), 0);
        }
    }
}
