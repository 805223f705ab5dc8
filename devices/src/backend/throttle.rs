//! [`Throttled`]: a disk whose requests wait when they come faster than they may.
//!
//! ```text
//! start ─ nothing is limited ─────────────────────────▶ inner channel
//!   └──── limited ─ the budget admits it ─────────────▶ inner channel
//!                 └ else reads and writes each in a row ─ alarm, or wait ─▶ inner channel
//! ```
//! Reads keep their order, and so do writes. A flush covers what was completed before it, so it never
//! waits. When its users drain a channel, what waits in it goes at once and is counted all the same:
//! a guest that resets its device wins nothing.

mod alarm;
mod budget;

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::Image;

use self::alarm::Alarm;
use self::budget::Budget;
pub use self::budget::{Limits, Rate};
use super::disk::{Action, Channel, Disk, DiskInfo, Finished, Request};
use crate::sync::Lock;

/// Limits may change while requests wait: so long they do not notice.
const LONGEST_NAP: Duration = Duration::from_millis(100);

/// What several disks may do together.
#[derive(Debug, Clone, Default)]
pub struct Group(Arc<Mutex<Budget>>);

impl Group {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Budget::new(limits, Instant::now()))))
    }

    /// Whether it is also held elsewhere.
    #[must_use]
    pub fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub fn limit(&self, limits: Limits) {
        self.0.hold().limit(limits, Instant::now());
    }
}

/// What one disk may do, from one moment to the next.
pub struct Limiter {
    /// Looked at for each request of an unlimited disk, and nothing else.
    limited: AtomicBool,
    group: Mutex<Group>,
    /// Of channels that are not in use.
    alarms: Mutex<Vec<Alarm>>,
}

impl Limiter {
    /// For so many channels at once; what they need of the host is had now.
    ///
    /// # Errors
    /// When the host has no more descriptors.
    pub fn new(channels: usize) -> io::Result<Arc<Self>> {
        // A channel to a new medium may come before that to the old one goes.
        let alarms: io::Result<Vec<_>> = (0..=channels).map(|_| Alarm::new()).collect();
        Ok(Arc::new(Self {
            limited: AtomicBool::new(false),
            group: Mutex::default(),
            alarms: Mutex::new(alarms?),
        }))
    }

    /// From now on what `group` may do; none: anything.
    pub fn join(&self, group: Option<Group>) {
        let limited = group.is_some();
        *self.group.hold() = group.unwrap_or_default();
        self.limited.store(limited, Ordering::Release);
    }

    fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Acquire)
    }

    /// How long a request has to wait; none: it is admitted, and counted.
    fn admit(&self, write: bool, bytes: u64) -> Option<Duration> {
        if !self.is_limited() {
            return None;
        }
        let group = self.group.hold().clone();
        group.0.hold().admit(write, bytes, Instant::now())
    }

    fn count(&self, write: bool, bytes: u64) {
        if self.is_limited() {
            let group = self.group.hold().clone();
            group.0.hold().count(write, bytes, Instant::now());
        }
    }
}

/// A disk that does what its limiter lets it.
pub struct Throttled {
    disk: Arc<dyn Disk>,
    limiter: Arc<Limiter>,
}

impl Throttled {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, limiter: Arc<Limiter>) -> Self {
        Self { disk, limiter }
    }
}

impl Disk for Throttled {
    fn info(&self) -> DiskInfo {
        self.disk.info()
    }

    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>> {
        let inner = self.disk.channel(depth)?;
        let Some(alarm) = self.limiter.alarms.hold().pop() else {
            tracing::warn!("a disk has more users than it was opened for: one is not limited");
            return Ok(inner);
        };
        Ok(Box::new(ThrottledChannel {
            inner,
            limiter: self.limiter.clone(),
            alarm: Some(alarm),
            watched: false,
            waiting: Default::default(),
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

struct ThrottledChannel {
    inner: Box<dyn Channel>,
    limiter: Arc<Limiter>,
    /// There until the channel goes.
    alarm: Option<Alarm>,
    watched: bool,
    /// Reads, and everything that changes the disk.
    waiting: [VecDeque<(u16, Request)>; 2],
}

/// Whether it counts as a write, and its bytes; none: it is not limited.
fn cost(request: &Request) -> Option<(bool, u64)> {
    match request.action {
        Action::Read => Some((false, request.buffers.len())),
        Action::Write { .. } => Some((true, request.buffers.len())),
        Action::Discard { .. } | Action::Zero { .. } => Some((true, 0)),
        Action::Flush => None,
    }
}

impl ThrottledChannel {
    /// Once, and not before: the thread that opens a channel may not do it.
    fn watch(&mut self) {
        if !std::mem::replace(&mut self.watched, true)
            && let Some(alarm) = &mut self.alarm
        {
            alarm.watch(self.inner.source());
        }
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|row| !row.is_empty())
    }

    /// Start what may start by now, and be woken for the rest.
    fn release(&mut self) {
        let mut nap: Option<Duration> = None;
        let mut started = false;
        for row in &mut self.waiting {
            while let Some((_, request)) = row.front() {
                let wait = cost(request).and_then(|(write, len)| self.limiter.admit(write, len));
                if let Some(wait) = wait {
                    nap = Some(nap.map_or(wait, |nap| nap.min(wait)));
                    break;
                }
                if let Some((token, request)) = row.pop_front() {
                    self.inner.start(token, request);
                    started = true;
                }
            }
        }
        if started {
            self.inner.submit();
        }
        if let (Some(nap), Some(alarm)) = (nap, &mut self.alarm) {
            alarm.ring_in(nap.min(LONGEST_NAP));
        }
    }
}

impl Channel for ThrottledChannel {
    fn start(&mut self, token: u16, request: Request) {
        self.watch();
        let Some((write, len)) = cost(&request) else { return self.inner.start(token, request) };
        let row = usize::from(write);
        if self.waiting[row].is_empty() {
            let Some(wait) = self.limiter.admit(write, len) else {
                return self.inner.start(token, request);
            };
            if let Some(alarm) = &mut self.alarm {
                alarm.ring_in(wait.min(LONGEST_NAP));
            }
        }
        self.waiting[row].push_back((token, request));
    }

    fn submit(&mut self) {
        self.inner.submit();
    }

    fn finished(&mut self) -> Option<Finished> {
        if self.is_waiting() && self.alarm.as_mut().is_none_or(Alarm::has_rung) {
            self.release();
        }
        self.inner.finished()
    }

    fn source(&self) -> Option<RawFd> {
        self.alarm.as_ref().map(Alarm::source)
    }

    fn wait(&mut self) {
        for row in &mut self.waiting {
            for (token, request) in row.drain(..) {
                if let Some((write, len)) = cost(&request) {
                    self.limiter.count(write, len);
                }
                self.inner.start(token, request);
            }
        }
        self.inner.submit();
        self.inner.wait();
    }

    fn renew(&mut self) {
        self.inner.renew();
        // It may have another source by now, which may even have the number of the old one.
        self.watched = false;
        self.watch();
    }
}

impl Drop for ThrottledChannel {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.limiter.alarms.hold().push(alarm);
        }
    }
}

#[cfg(test)]
mod tests;
