//! A driver for tests: rings written by hand, so that a test can break every rule.

pub(crate) mod driver;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memory::{Backing, GuestRam};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::device::Notify;
use super::queue::{Queue, QueueConfig, QueueProgress, RingFeatures};
use super::worker::ActiveQueue;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// RAM in two adjoining regions and a third one behind a hole.
pub(crate) const SEAM: u64 = 4 << 20;
pub(crate) const HOLE: u64 = 8 << 20;
pub(crate) const FAR: u64 = 12 << 20;
pub(crate) const END: u64 = 16 << 20;

pub(crate) fn ram() -> GuestRam {
    let layout = [(0, SEAM), (SEAM, HOLE - SEAM), (FAR, END - FAR)];
    GuestRam::new(&layout, &Backing::Anonymous).unwrap()
}

/// The driver's side of one queue. Rings at `base`, size up to 1024.
pub(crate) struct GuestQueue {
    pub(crate) ram: GuestRam,
    pub(crate) config: QueueConfig,
    pub(crate) available: u16,
    seen: u16,
    next_descriptor: u16,
}

impl GuestQueue {
    pub(crate) fn new(ram: &GuestRam, base: u64, size: u16) -> Self {
        let config = QueueConfig {
            size,
            enabled: true,
            descriptors: base,
            available: base + 0x4000,
            used: base + 0x5000,
        };
        ram.write_slice(base, &vec![0; 0x8000]).unwrap();
        Self { ram: ram.clone(), config, available: 0, seen: 0, next_descriptor: 0 }
    }

    /// The device's side.
    pub(crate) fn queue(&self) -> Queue {
        self.queue_with(RingFeatures { event_idx: false, indirect: true })
    }

    pub(crate) fn queue_with(&self, features: RingFeatures) -> Queue {
        let progress = QueueProgress::default();
        Queue::new(self.ram.clone(), &self.config, 1024, features, progress).unwrap()
    }

    /// The device's side, at work: with a kick to write and signals to count.
    pub(crate) fn active(&self, index: u16, signals: &Arc<Signals>) -> (ActiveQueue, Arc<EventFd>) {
        let kick = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        (ActiveQueue::new(index, self.queue(), kick.clone(), signals.clone()), kick)
    }

    pub(crate) fn descriptor(&self, index: u16, gpa: u64, len: u32, flags: u16, next: u16) {
        write_descriptor(&self.ram, self.config.descriptors, index, gpa, len, flags, next);
    }

    /// Make the chain at `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.available % self.config.size);
        self.ram.write_obj(self.config.available + 4 + 2 * slot, head).unwrap();
        self.available = self.available.wrapping_add(1);
        self.ram.write_obj(self.config.available + 2, self.available).unwrap();
    }

    /// Link `readable` then `writable` buffers into a chain and offer it; returns its head.
    pub(crate) fn submit(&mut self, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> u16 {
        let buffers = readable.iter().map(|buffer| (buffer, 0));
        let buffers: Vec<_> = buffers.chain(writable.iter().map(|b| (b, WRITE))).collect();
        let size = self.config.size;
        let head = self.next_descriptor % size;
        for (position, ((gpa, len), flags)) in buffers.iter().enumerate() {
            let index = self.next_descriptor % size;
            let more = if position + 1 < buffers.len() { NEXT } else { 0 };
            self.next_descriptor = self.next_descriptor.wrapping_add(1);
            self.descriptor(index, *gpa, *len, flags | more, self.next_descriptor % size);
        }
        self.offer(head);
        head
    }

    /// Used elements since the last call: `(head, written)`.
    pub(crate) fn used(&mut self) -> Vec<(u32, u32)> {
        let index: u16 = self.ram.read_obj(self.config.used + 2).unwrap();
        let mut elements = Vec::new();
        while self.seen != index {
            let at = self.config.used + 4 + 8 * u64::from(self.seen % self.config.size);
            elements.push((self.ram.read_obj(at).unwrap(), self.ram.read_obj(at + 4).unwrap()));
            self.seen = self.seen.wrapping_add(1);
        }
        elements
    }
}

/// Write one descriptor into any table (the queue's own, or an indirect one).
pub(crate) fn write_descriptor(
    ram: &GuestRam,
    table: u64,
    index: u16,
    gpa: u64,
    len: u32,
    flags: u16,
    next: u16,
) {
    let at = table + 16 * u64::from(index);
    ram.write_obj(at, gpa).unwrap();
    ram.write_obj(at + 8, len).unwrap();
    ram.write_obj(at + 12, flags).unwrap();
    ram.write_obj(at + 14, next).unwrap();
}

/// Counts what the driver would be told.
#[derive(Default)]
pub(crate) struct Signals {
    pub(crate) queue: AtomicUsize,
    pub(crate) config: AtomicUsize,
    pub(crate) needs_reset: AtomicUsize,
}

impl Signals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn queue_count(&self) -> usize {
        self.queue.load(Ordering::SeqCst)
    }

    pub(crate) fn broken(&self) -> bool {
        self.needs_reset.load(Ordering::SeqCst) > 0
    }
}

impl Notify for Signals {
    fn queue(&self, _index: u16) {
        self.queue.fetch_add(1, Ordering::SeqCst);
    }
    fn config_changed(&self) {
        self.config.fetch_add(1, Ordering::SeqCst);
    }
    fn needs_reset(&self, _reason: &str) {
        self.needs_reset.fetch_add(1, Ordering::SeqCst);
    }
}

/// Wait until `done`, or fail after half a minute: other threads do the work.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Submit chains that a driver gone mad would: any mix of buffers, most of them in RAM.
pub(crate) fn submit_garbage(queue: &mut GuestQueue, random: &mut Random) {
    for _ in 0..random.below(12) {
        let mut buffers = |most| -> Vec<(u64, u32)> {
            let count = random.below(most);
            let one = |_| {
                let gpa =
                    random.pick(&[0x20_0000, 0x20_1000, SEAM - 3, HOLE - 0x1000, FAR, END - 1]);
                (gpa, random.pick(&[1, 11, 12, 13, 64, 1500, 1500, 4096, 4096, 70_000]))
            };
            (0..count).map(one).filter(|(gpa, len)| queue_fits(*gpa, *len)).collect()
        };
        let (readable, writable) = (buffers(4), buffers(4));
        if readable.len() + writable.len() > 0 {
            queue.submit(&readable, &writable);
        }
    }
    if random.below(24) == 0 {
        let slot = random.below(u64::from(queue.config.size)) as u16;
        queue.offer(slot);
    }
}

/// Nearly always inside RAM: a queue that broke has nothing more to show.
fn queue_fits(gpa: u64, len: u32) -> bool {
    let end = gpa + u64::from(len);
    end <= HOLE || (gpa >= FAR && end <= END) || len == 13
}
