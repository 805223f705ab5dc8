//! [`Shared`]: what the machine asks of a balloon and what it learns from it, while the guest runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::spec::{ENTRY, PAGE, tag};
use crate::clock::Clock;
use crate::sync::Lock;
use crate::virtio::Notify;

pub(super) struct Shared {
    /// Bytes of RAM in the machine.
    memory: u64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) notify: OnceLock<Arc<dyn Notify>>,
    /// Pages that the balloon shall hold, and those that the driver says it holds.
    pub(super) target: AtomicU32,
    pub(super) actual: AtomicU32,
    /// Seconds between readings of the statistics; 0: none.
    period: AtomicU32,
    /// The period changed.
    pub(super) wake: EventFd,
    statistics: Mutex<Option<GuestMemory>>,
}

/// What a guest says of its memory. Bytes, and counts of events; what it does not say is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuestMemory {
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    pub major_faults: Option<u64>,
    pub minor_faults: Option<u64>,
    pub free: Option<u64>,
    pub total: Option<u64>,
    pub available: Option<u64>,
    pub caches: Option<u64>,
    pub huge_allocations: Option<u64>,
    pub huge_failures: Option<u64>,
    /// When it said so, since the Unix epoch.
    pub updated: Duration,
}

impl GuestMemory {
    /// Read a buffer of entries. Tags from later versions of the specification are passed over,
    /// and so is an entry that was cut off.
    pub(super) fn parse(entries: &[u8], updated: Duration) -> Self {
        let mut found = Self { updated, ..Self::default() };
        for entry in entries.chunks_exact(ENTRY) {
            let &[t0, t1, ref value @ ..] = entry else { continue };
            let Ok(value) = value.try_into().map(u64::from_le_bytes) else { continue };
            let field = match u16::from_le_bytes([t0, t1]) {
                tag::SWAP_IN => &mut found.swap_in,
                tag::SWAP_OUT => &mut found.swap_out,
                tag::MAJOR_FAULTS => &mut found.major_faults,
                tag::MINOR_FAULTS => &mut found.minor_faults,
                tag::FREE => &mut found.free,
                tag::TOTAL => &mut found.total,
                tag::AVAILABLE => &mut found.available,
                tag::CACHES => &mut found.caches,
                tag::HUGE_ALLOCATIONS => &mut found.huge_allocations,
                tag::HUGE_FAILURES => &mut found.huge_failures,
                _ => continue,
            };
            *field = Some(value);
        }
        found
    }
}

impl Shared {
    pub(super) fn new(memory: u64, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Ok(Self {
            memory,
            clock,
            notify: OnceLock::new(),
            target: AtomicU32::new(0),
            actual: AtomicU32::new(0),
            period: AtomicU32::new(0),
            wake: EventFd::new(EFD_NONBLOCK)?,
            statistics: Mutex::default(),
        })
    }

    /// Leave the guest this much memory.
    pub(super) fn set_memory(&self, bytes: u64) {
        let pages = self.memory.saturating_sub(bytes) / PAGE;
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        if self.target.swap(pages, Ordering::Relaxed) != pages
            && let Some(notify) = self.notify.get()
        {
            notify.config_changed();
        }
    }

    /// What the guest has left, as far as its driver is to be believed.
    fn memory(&self) -> u64 {
        let taken = u64::from(self.actual.load(Ordering::Relaxed)) * PAGE;
        self.memory.saturating_sub(taken)
    }

    pub(super) fn period(&self) -> Duration {
        Duration::from_secs(self.period.load(Ordering::Relaxed).into())
    }

    fn set_period(&self, seconds: u32) {
        self.period.store(seconds, Ordering::Relaxed);
        let _ = self.wake.write(1);
    }

    pub(super) fn take_statistics(&self, entries: &[u8]) {
        let read = GuestMemory::parse(entries, self.clock.real());
        *self.statistics.hold() = Some(read);
    }

    /// What the driver said is about a guest that is gone.
    pub(super) fn reset(&self) {
        self.actual.store(0, Ordering::Relaxed);
        *self.statistics.hold() = None;
    }
}

/// The machine's handle on a running balloon.
#[derive(Clone)]
pub struct BalloonHandle(pub(super) Arc<Shared>);

impl BalloonHandle {
    /// Ask the guest to live with this many bytes of memory; it takes its time, and may refuse.
    pub fn set_memory(&self, bytes: u64) {
        self.0.set_memory(bytes);
    }

    /// Bytes that the guest has at present.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.0.memory()
    }

    /// Read the guest's statistics every so many seconds; 0: no more.
    pub fn set_period(&self, seconds: u32) {
        self.0.set_period(seconds);
    }

    /// The latest statistics, if the guest gave any.
    #[must_use]
    pub fn statistics(&self) -> Option<GuestMemory> {
        *self.0.statistics.hold()
    }
}
