//! [`Tracked`]: a disk whose writes are noticed before they begin.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use image::Image;

use super::dirty::Dirty;
use super::moment::Moment;
use crate::backend::{Action, Channel, Disk, DiskInfo, Finished, Request};

/// Who wants to know of a disk's writes.
#[derive(Default)]
pub struct Tracking {
    /// Looked at for each write of a disk that nobody watches, and nothing else.
    watched: AtomicBool,
    watch: ArcSwap<Watch>,
}

#[derive(Default, Clone)]
struct Watch {
    bitmaps: Vec<Arc<Dirty>>,
    moment: Option<Arc<Moment>>,
}

impl Tracking {
    fn before_write(&self, offset: u64, len: u64) {
        if !self.watched.load(Ordering::Acquire) {
            return;
        }
        let watch = self.watch.load();
        if let Some(moment) = &watch.moment {
            moment.preserve(offset, len);
        }
        for bitmap in &watch.bitmaps {
            bitmap.mark(offset, len);
        }
    }

    /// From one thread at a time.
    fn change(&self, change: impl FnOnce(&mut Watch)) {
        let mut watch = Watch::clone(&self.watch.load());
        change(&mut watch);
        let watched = watch.moment.is_some() || !watch.bitmaps.is_empty();
        self.watch.store(Arc::new(watch));
        self.watched.store(watched, Ordering::Release);
    }

    #[must_use]
    pub fn bitmaps(&self) -> Vec<Arc<Dirty>> {
        self.watch.load().bitmaps.clone()
    }

    #[must_use]
    pub fn bitmap(&self, name: &str) -> Option<Arc<Dirty>> {
        self.watch.load().bitmaps.iter().find(|bitmap| bitmap.name() == name).cloned()
    }

    pub fn add_bitmap(&self, bitmap: Dirty) {
        self.change(|watch| watch.bitmaps.push(Arc::new(bitmap)));
    }

    pub fn remove_bitmap(&self, name: &str) {
        self.change(|watch| watch.bitmaps.retain(|bitmap| bitmap.name() != name));
    }

    #[must_use]
    pub fn has_moment(&self) -> bool {
        self.watch.load().moment.is_some()
    }

    /// From now on, while nothing is in flight, until it is taken away.
    pub fn set_moment(&self, moment: Option<Arc<Moment>>) {
        self.change(|watch| watch.moment = moment);
    }
}

/// A disk, and who is told of its writes.
pub struct Tracked {
    disk: Arc<dyn Disk>,
    tracking: Arc<Tracking>,
}

impl Tracked {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, tracking: Arc<Tracking>) -> Self {
        Self { disk, tracking }
    }
}

impl Disk for Tracked {
    fn info(&self) -> DiskInfo {
        self.disk.info()
    }

    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>> {
        let inner = self.disk.channel(depth)?;
        Ok(Box::new(TrackedChannel { inner, tracking: self.tracking.clone() }))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        let watch = self.tracking.watch.load();
        if watch.moment.is_some() || !watch.bitmaps.is_empty() {
            let text = "the disk is being backed up or has dirty bitmaps, which are of its present \
                        size; end the backup and delete its checkpoints first";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.disk.grow(size)
    }

    fn image(&self) -> Option<Arc<dyn Image>> {
        self.disk.image()
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }
}

struct TrackedChannel {
    inner: Box<dyn Channel>,
    tracking: Arc<Tracking>,
}

impl Channel for TrackedChannel {
    fn start(&mut self, token: u16, request: Request) {
        match request.action {
            Action::Read | Action::Flush => {}
            Action::Write { .. } => {
                self.tracking.before_write(request.offset, request.buffers.len());
            }
            Action::Discard { len } | Action::Zero { len, .. } => {
                self.tracking.before_write(request.offset, len);
            }
        }
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
}
