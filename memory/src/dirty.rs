//! [`Pages`], a set of pages of guest RAM, and [`WriteLog`]: which pages of a region this process has
//! written to. KVM logs what vCPUs write; the rest is devices, and all of them come by here.
//!
//! A page is marked before the kernel writes to it for a device, and so may be marked while its old
//! contents are still there. Whoever takes a log does that while no device has a request in flight.

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use vm_memory::bitmap::{Bitmap, RefSlice, WithBitmapSlice};

/// What is logged by its own.
pub const PAGE: u64 = 4096;

/// Pages of RAM as it lies in a file, region after region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    words: Vec<u64>,
    count: u64,
}

impl Pages {
    /// None of so many bytes of RAM.
    #[must_use]
    pub fn none(size: u64) -> Self {
        let count = size.div_ceil(PAGE);
        Self { words: vec![0; count.div_ceil(64) as usize], count }
    }

    /// All of them.
    #[must_use]
    pub fn all(size: u64) -> Self {
        let mut pages = Self::none(size);
        (0..pages.count).for_each(|page| pages.insert(page));
        pages
    }

    /// One that is not in RAM is left out.
    pub fn insert(&mut self, page: u64) {
        if page < self.count {
            self.words[(page / 64) as usize] |= 1 << (page % 64);
        }
    }

    /// Those of another set of the same RAM, too.
    pub fn extend(&mut self, others: &Self) {
        for (word, other) in self.words.iter_mut().zip(&others.words) {
            *word |= other;
        }
    }

    /// Those of a bitmap, as KVM has them, whose first bit is page `start`.
    pub fn insert_words(&mut self, start: u64, words: impl IntoIterator<Item = u64>) {
        for (number, mut word) in (0u64..).zip(words) {
            while word != 0 {
                self.insert(start + number * 64 + u64::from(word.trailing_zeros()));
                word &= word - 1;
            }
        }
    }

    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        page < self.count && self.words[(page / 64) as usize] >> (page % 64) & 1 != 0
    }

    /// Whether one of these is there.
    #[must_use]
    pub fn has(&self, mut pages: Range<u64>) -> bool {
        pages.any(|page| self.contains(page))
    }

    pub fn remove(&mut self, pages: Range<u64>) {
        for page in pages.start..pages.end.min(self.count) {
            self.words[(page / 64) as usize] &= !(1 << (page % 64));
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of one region. It costs a look at a flag, until somebody wants it.
#[derive(Debug, Default)]
pub struct WriteLog {
    on: AtomicBool,
    pages: usize,
    words: OnceLock<Box<[AtomicU64]>>,
}

impl WriteLog {
    /// Begin with nothing, or end. Whoever calls this has no device write meanwhile.
    pub(crate) fn turn(&self, on: bool) {
        if on {
            self.words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        self.on.store(on, Ordering::Release);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    fn words(&self) -> &[AtomicU64] {
        let words = self.pages.div_ceil(64);
        self.words.get_or_init(|| std::iter::repeat_with(AtomicU64::default).take(words).collect())
    }

    /// What was written to since the last time.
    pub(crate) fn take(&self) -> impl Iterator<Item = u64> {
        let words = self.words.get().map(|words| &**words).unwrap_or_default();
        words.iter().map(|word| word.swap(0, Ordering::AcqRel))
    }

    fn mark(&self, offset: usize, len: usize) {
        let Some(last) = len.checked_sub(1).map(|last| offset.saturating_add(last)) else { return };
        let page = PAGE as usize;
        let words = self.words();
        for page in offset / page..(last / page + 1).min(self.pages) {
            words[page / 64].fetch_or(1 << (page % 64), Ordering::AcqRel);
        }
    }
}

impl<'a> WithBitmapSlice<'a> for WriteLog {
    type S = RefSlice<'a, Self>;
}

impl Bitmap for WriteLog {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if self.on.load(Ordering::Acquire) {
            self.mark(offset, len);
        }
    }

    /// Nobody asks page by page.
    fn dirty_at(&self, offset: usize) -> bool {
        let page = offset / PAGE as usize;
        let word = self.words.get().and_then(|words| words.get(page / 64));
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (page % 64) & 1 != 0)
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

/// What a region's accessors and [`GuestRam`](crate::GuestRam) have in common.
#[derive(Debug, Clone, Default)]
pub struct SharedLog(Arc<WriteLog>);

impl SharedLog {
    pub(crate) fn of(len: usize) -> Self {
        let pages = len.div_ceil(PAGE as usize);
        Self(Arc::new(WriteLog { pages, ..WriteLog::default() }))
    }
}

impl Deref for SharedLog {
    type Target = WriteLog;

    fn deref(&self) -> &WriteLog {
        &self.0
    }
}

impl<'a> WithBitmapSlice<'a> for SharedLog {
    type S = RefSlice<'a, WriteLog>;
}

impl Bitmap for SharedLog {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.0.mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.0.dirty_at(offset)
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, WriteLog> {
        self.0.slice_at(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_where_their_first_bit_says_and_none_outside() {
        let mut pages = Pages::none(100 * PAGE);
        pages.insert_words(32, [1 | 1 << 40, 1 << 3, u64::MAX]);
        let found: Vec<u64> = (0..200).filter(|page| pages.contains(*page)).collect();
        assert_eq!(found, [32, 72, 99]);
        assert_eq!(pages.len(), 3);
    }

    #[test]
    fn what_is_removed_is_there_no_more() {
        let mut pages = Pages::all(130 * PAGE);
        assert_eq!(pages.len(), 130);
        assert!(pages.has(64..200));
        pages.remove(64..200);
        assert!(!pages.has(64..200));
        assert_eq!(pages.len(), 64);
        pages.remove(0..64);
        assert_eq!(pages, Pages::none(130 * PAGE));
    }
}
