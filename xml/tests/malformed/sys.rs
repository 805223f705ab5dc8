//! An allocator that knows how much a thread had in use at most: tests run beside each other.
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one passes on what it is asked"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub(crate) struct Counting;

thread_local! {
    static USED: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

impl Counting {
    /// Bytes that `act` had in use at most, beyond what was in use before.
    pub(crate) fn most_of<T>(act: impl FnOnce() -> T) -> (T, usize) {
        let before = USED.get();
        MOST.set(before);
        let result = act();
        (result, MOST.get().saturating_sub(before))
    }
}

/// What another thread frees was counted there.
fn count(more: usize, less: usize) {
    let used = USED.get().saturating_add(more);
    MOST.set(MOST.get().max(used));
    USED.set(used.saturating_sub(less));
}

// SAFETY: every call goes on to the system's allocator as it came, and what that returns is returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps to what `alloc` asks of it, which is what this one asks.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: it came from `alloc` or `realloc` above with this layout, and so from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as in `dealloc`, and the caller keeps to what `realloc` asks of it.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
