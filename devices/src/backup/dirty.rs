//! [`Dirty`]: a dirty bitmap that many threads mark at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use image::qcow2::{BitmapInfo, DirtyBitmap};

pub struct Dirty {
    name: String,
    shift: u32,
    /// It is kept in the image when the disk is closed.
    persistent: bool,
    /// Nobody knows what was written before: see [`BitmapInfo::inconsistent`].
    inconsistent: bool,
    enabled: AtomicBool,
    words: Vec<AtomicU64>,
}

impl Dirty {
    /// Nothing is marked, for a disk of `size` bytes; `granularity` is a power of two.
    #[must_use]
    pub fn new(name: String, size: u64, granularity: u64, persistent: bool) -> Self {
        let count = DirtyBitmap::words_for(size, granularity);
        Self {
            name,
            shift: granularity.ilog2(),
            persistent,
            inconsistent: false,
            enabled: AtomicBool::new(true),
            words: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// As it lies in an image.
    #[must_use]
    pub fn stored(bitmap: DirtyBitmap) -> Self {
        let DirtyBitmap { info, words } = bitmap;
        Self {
            name: info.name,
            shift: info.granularity.ilog2(),
            persistent: true,
            inconsistent: info.inconsistent,
            enabled: AtomicBool::new(info.enabled),
            words: words.into_iter().map(AtomicU64::new).collect(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn granularity(&self) -> u64 {
        1 << self.shift
    }

    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    #[must_use]
    pub fn is_inconsistent(&self) -> bool {
        self.inconsistent
    }

    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Record writes from now on, or no more.
    pub fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
    }

    /// Something is about to be written there.
    pub fn mark(&self, offset: u64, len: u64) {
        if len == 0 || !self.is_enabled() {
            return;
        }
        let (first, last) = (offset >> self.shift, (offset + len - 1) >> self.shift);
        for index in first / 64..=last / 64 {
            let Some(word) = self.words.get(index as usize) else { return };
            let from = if index == first / 64 { first % 64 } else { 0 };
            let to = if index == last / 64 { last % 64 } else { 63 };
            let mask = (u64::MAX >> (63 - to)) & (u64::MAX << from);
            // Most writes come to what is dirty: then nobody's cache line is taken away.
            if word.load(Ordering::Relaxed) & mask != mask {
                word.fetch_or(mask, Ordering::AcqRel);
            }
        }
    }

    /// What is marked at present.
    #[must_use]
    pub fn words(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Ordering::Acquire)).collect()
    }

    /// Bytes of blocks that are marked.
    #[must_use]
    pub fn count(&self) -> u64 {
        let bits: u32 = self.words.iter().map(|it| it.load(Ordering::Relaxed).count_ones()).sum();
        u64::from(bits) << self.shift
    }

    /// What `other` has marked is marked here, too. False: they differ in granularity, or one of
    /// them says nothing.
    #[must_use]
    pub fn merge(&self, other: &Self) -> bool {
        if self.shift != other.shift || self.inconsistent || other.inconsistent {
            return false;
        }
        for (word, other) in self.words.iter().zip(&other.words) {
            word.fetch_or(other.load(Ordering::Acquire), Ordering::AcqRel);
        }
        true
    }

    /// To be kept in an image.
    #[must_use]
    pub fn to_stored(&self) -> DirtyBitmap {
        let info = BitmapInfo {
            name: self.name.clone(),
            granularity: self.granularity(),
            enabled: self.is_enabled(),
            inconsistent: self.inconsistent,
        };
        DirtyBitmap { info, words: if self.inconsistent { Vec::new() } else { self.words() } }
    }
}
