//! [`Log`]: which pages of guest RAM the kernel has written to as a device, for whoever copies RAM while
//! the guest runs. The kernel notes data alone; of the rings it writes to, the used ones, all counts.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use memory::{GuestRam, PAGE};

use super::sys;
use crate::virtio::QueueConfig;

#[derive(Default)]
pub(super) struct Log {
    /// A bit for each page, by guest address; there once it is wanted.
    pages: OnceLock<Box<[AtomicU64]>>,
    /// Used rings: guest address, length.
    rings: Mutex<Vec<(u64, u64)>>,
}

impl Log {
    /// Have the kernel note what it writes to from the next start on.
    pub(super) fn give(&self, device: BorrowedFd<'_>, ram: &GuestRam) -> std::io::Result<()> {
        let ends = ram.regions().iter().map(|region| region.gpa + region.len);
        let words = ends.max().unwrap_or(0).div_ceil(PAGE * u64::from(u64::BITS));
        let zeros = || std::iter::repeat_with(AtomicU64::default).take(words as usize).collect();
        sys::set_log(device, self.pages.get_or_init(zeros))
    }

    /// The rings that it serves from now on.
    pub(super) fn serve<'a>(&self, queues: impl Iterator<Item = &'a QueueConfig>) {
        let used = |queue: &QueueConfig| (queue.used, 6 + 8 * u64::from(queue.size));
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) = queues.map(used).collect();
    }

    /// It serves none at present: tell `ram` of everything since the last time.
    pub(super) fn pass_on(&self, ram: &GuestRam) {
        let rings = std::mem::take(&mut *self.rings.lock().unwrap_or_else(PoisonError::into_inner));
        if !ram.is_logging() {
            return;
        }
        for (gpa, len) in rings {
            ram.mark_written(gpa, len);
        }
        let words = self.pages.get().map(|pages| &**pages).unwrap_or_default();
        for (number, word) in (0u64..).zip(words) {
            let mut bits = word.swap(0, Ordering::AcqRel);
            while bits != 0 {
                let page = number * u64::from(u64::BITS) + u64::from(bits.trailing_zeros());
                ram.mark_written(page * PAGE, PAGE);
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use memory::{Backing, Pages};

    use super::*;

    #[test]
    fn what_the_kernel_noted_and_the_rings_that_it_served_are_passed_on() {
        let ram = GuestRam::new(&[(0, 1 << 20), (1 << 24, 1 << 20)], &Backing::Anonymous).unwrap();
        ram.log_writes(true);
        let log = Log::default();
        let word = |number| AtomicU64::new(if number == 64 { 1 << 3 } else { 0 });
        assert!(log.pages.set((0..65).map(word).collect()).is_ok());
        log.rings.lock().unwrap().push((0x2ff0, 0x20));
        log.pass_on(&ram);
        let mut pages = Pages::none(ram.size());
        ram.take_written(&mut pages);
        let found: Vec<u64> = (0..512).filter(|page| pages.contains(*page)).collect();
        // Page 64 * 64 + 3 is the fourth of the second region.
        assert_eq!(found, [2, 3, 256 + 3]);
        log.pass_on(&ram);
        let mut again = Pages::none(ram.size());
        ram.take_written(&mut again);
        assert!(again.is_empty());
    }
}
