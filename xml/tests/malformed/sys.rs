//! An allocator that knows how much was in use at most.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one passes on what it is asked"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(crate) struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    /// Bytes that `act` had in use at most, beyond what was in use before.
    pub(crate) fn most_of<T>(act: impl FnOnce() -> T) -> (T, usize) {
        let before = USED.load(Relaxed);
        MOST.store(before, Relaxed);
        let result = act();
        (result, MOST.load(Relaxed).saturating_sub(before))
    }
}

fn count(size: usize) {
    let used = USED.fetch_add(size, Relaxed) + size;
    MOST.fetch_max(used, Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it came, and what that returns is returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps to what `alloc` asks of it, which is what this one asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: it came from `alloc` or `realloc` above with this layout, and so from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `dealloc`, and the caller keeps to what `realloc` asks of it.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
