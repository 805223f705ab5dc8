//! [`Swappable`]: a disk that may become another one beneath a device that stays.
//!
//! ```text
//! device paused ─▶ put(other) ─▶ device resumed: new channels lead to the other, and those that it
//!                                kept, with requests that the host had failed, are renewed
//! ```

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use image::Image;
use memory::IoBuffers;

use super::blocking::{Blocking, BlockingChannel};
use super::disk::{Action, Channel, Disk, DiskInfo, Finished, Request};
use crate::sync::Lock;

/// The same disk, whoever has a clone of it.
#[derive(Clone)]
pub struct Swappable(Arc<Shared>);

struct Shared {
    now: Mutex<Arc<dyn Disk>>,
    /// Raised with each change, so that channels to another one notice.
    generation: AtomicU64,
    /// What the guest was told at the beginning, and what does not change; but the size may grow.
    info: DiskInfo,
}

impl Swappable {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        let info = disk.info();
        Self(Arc::new(Shared { now: Mutex::new(disk), generation: AtomicU64::new(0), info }))
    }

    /// From now on this is `disk`. The device above must be paused: nothing is in flight.
    /// What was there comes back.
    #[must_use = "whoever has the last of a disk closes it"]
    pub fn put(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        let old = std::mem::replace(&mut *self.0.now.hold(), disk);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        old
    }

    #[must_use]
    pub fn now(&self) -> Arc<dyn Disk> {
        self.0.now.hold().clone()
    }
}

impl Disk for Swappable {
    fn info(&self) -> DiskInfo {
        DiskInfo { size: self.now().info().size, ..self.0.info }
    }

    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>> {
        let generation = self.0.generation.load(Ordering::Acquire);
        let inner = self.now().channel(depth)?;
        Ok(Box::new(SwappableChannel { disk: self.clone(), generation, depth, inner }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.now().grow(size)
    }

    fn image(&self) -> Option<Arc<dyn Image>> {
        self.now().image()
    }

    fn sync(&self) -> io::Result<()> {
        self.now().sync()
    }
}

struct SwappableChannel {
    disk: Swappable,
    generation: u64,
    depth: u16,
    inner: Box<dyn Channel>,
}

impl Channel for SwappableChannel {
    fn start(&mut self, token: u16, request: Request) {
        self.inner.start(token, request);
    }

    fn submit(&mut self) {
        self.inner.submit();
    }

    fn finished(&mut self) -> Option<Finished> {
        self.inner.finished()
    }

    fn source(&self) -> Option<RawFd> {
        self.inner.source()
    }

    fn wait(&mut self) {
        self.inner.wait();
    }

    fn kept(&self) -> usize {
        self.inner.kept()
    }

    fn retry(&mut self) {
        self.inner.retry();
    }

    fn give_up(&mut self) {
        self.inner.give_up();
    }

    fn renew(&mut self) {
        let generation = self.disk.0.generation.load(Ordering::Acquire);
        if self.generation == generation {
            return;
        }
        self.generation = generation;
        self.inner = self.disk.now().channel(self.depth).unwrap_or_else(|error| {
            tracing::error!(%error, "a disk that was exchanged cannot be used");
            // The old one is not the guest's disk any more: better nothing is written than there.
            Box::new(BlockingChannel::new(Arc::new(Refusing)))
        });
    }
}

/// Fails all requests.
struct Refusing;

impl Blocking for Refusing {
    fn run(&self, _: Action, _: u64, _: &mut IoBuffers) -> io::Result<()> {
        Err(io::Error::other("the disk that came in exchange cannot be used"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use memory::{Backing, GuestRam};

    use super::*;
    use crate::backend::held::{Held, HeldDisk};
    use crate::backend::stats::{ErrorPolicy, FailedOperation, Verdict};
    use crate::backend::throttle::{Limiter, Throttled};
    use crate::backend::{Guarded, Request};

    struct Keep;

    impl ErrorPolicy for Keep {
        fn decide(&self, _: FailedOperation, _: &io::Error) -> Verdict {
            Verdict::Stop
        }
    }

    fn request(ram: &GuestRam) -> Request {
        let buffers = ram.buffers([(0, 512)]).unwrap();
        Request { action: Action::Write { durable: false }, offset: 0, buffers }
    }

    #[test]
    fn new_channels_lead_to_the_new_disk_which_looks_like_the_old_one() {
        let (old, new) = (HeldDisk::new(1 << 20, false), HeldDisk::new(2 << 20, false));
        let disk = Swappable::new(Arc::new(Held(old.clone())));
        let ram = GuestRam::new(&[(0, 4096)], &Backing::Anonymous).unwrap();
        drop(disk.put(Arc::new(Held(new.clone()))));
        assert_eq!(disk.info().size, 2 << 20);
        disk.channel(4).unwrap().start(0, request(&ram));
        assert_eq!((old.started(), new.started()), (0, 1));
    }

    /// As a device has it that stopped with a request which the host had failed.
    #[test]
    fn what_the_old_disk_failed_is_retried_on_the_new_one_and_its_end_is_heard() {
        let (old, new) = (HeldDisk::new(1 << 20, false), HeldDisk::new(1 << 20, true));
        let disk = Swappable::new(Arc::new(Held(old.clone())));
        let throttled = Throttled::new(Arc::new(disk.clone()), Limiter::new(1).unwrap());
        let guarded = Guarded::new(Arc::new(throttled), Arc::new(Keep));
        let ram = GuestRam::new(&[(0, 4096)], &Backing::Anonymous).unwrap();
        old.error.store(libc::ENOSPC, SeqCst);
        let mut channel = guarded.channel(4).unwrap();
        channel.start(2, request(&ram));
        assert!(channel.finished().is_none());
        drop(disk.put(Arc::new(Held(new.clone()))));
        channel.renew();
        channel.retry();
        assert_eq!((old.started(), new.started()), (1, 1));
        new.release();
        let mut poll = readable(channel.source().unwrap());
        assert!(poll(), "the new disk rings");
        assert_eq!(channel.finished().unwrap().token, 2);
        assert_eq!(channel.kept(), 0);
    }

    /// Whether `fd` is readable.
    fn readable(fd: RawFd) -> impl FnMut() -> bool {
        use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
        let epoll = Epoll::new().unwrap();
        epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, 0)).unwrap();
        move || epoll.wait(0, &mut [EpollEvent::default()]).unwrap() == 1
    }
}
