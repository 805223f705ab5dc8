//! [`Moment`]: a disk as it was at one moment, while it is written to.
//!
//! Before a block is overwritten for the first time its old bytes go into the scratch file, at the
//! same place. A reader asks twice: whoever read a block from the disk, and finds afterwards that it
//! is in the scratch file by now, reads it there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};

use image::{Extent, ExtentKind, Image, Storage};

use crate::sync::Lock;

/// Bytes that are saved together.
pub const BLOCK: u64 = 64 << 10;

/// Told once, when a moment is lost.
type OnLoss = Box<dyn Fn(&str) + Send + Sync>;

pub struct Moment {
    disk: Arc<dyn Image>,
    scratch: Arc<dyn Storage>,
    size: u64,
    /// Blocks whose bytes are in the scratch file.
    saved: Vec<AtomicU64>,
    saving: Mutex<()>,
    /// A block was overwritten that could not be saved: why.
    lost: OnceLock<String>,
    on_loss: OnLoss,
}

impl Moment {
    /// The moment is when the disk's [`Tracking`](super::Tracking) is told of it, and nothing is in
    /// flight. `scratch` is empty.
    #[must_use]
    pub fn new(disk: Arc<dyn Image>, scratch: Arc<dyn Storage>, on_loss: OnLoss) -> Self {
        let size = disk.size();
        let words = size.div_ceil(BLOCK).div_ceil(64);
        Self {
            disk,
            scratch,
            size,
            saved: (0..words).map(|_| AtomicU64::new(0)).collect(),
            saving: Mutex::default(),
            lost: OnceLock::new(),
            on_loss,
        }
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Why it cannot be read any more.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    fn is_saved(&self, block: u64) -> bool {
        let word = self.saved.get((block / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (block % 64) & 1 != 0)
    }

    /// Save what a write is about to overwrite. Never fails: if it cannot be saved, the moment is lost.
    pub(super) fn preserve(&self, offset: u64, len: u64) {
        if len == 0 || self.lost.get().is_some() {
            return;
        }
        let last = (offset + len - 1) / BLOCK;
        for block in offset / BLOCK..=last.min(self.size.div_ceil(BLOCK).saturating_sub(1)) {
            if self.is_saved(block) {
                continue;
            }
            // One at a time: another queue must not save what this one is about to write.
            let _alone = self.saving.hold();
            if self.is_saved(block) {
                continue;
            }
            if let Err(error) = self.save(block) {
                let text =
                    format!("the scratch file cannot take what the guest overwrites: {error}");
                if self.lost.set(text.clone()).is_ok() {
                    tracing::error!(text, "a backup is lost");
                    (self.on_loss)(&text);
                }
                return;
            }
            if let Some(word) = self.saved.get((block / 64) as usize) {
                word.fetch_or(1 << (block % 64), Ordering::AcqRel);
            }
        }
    }

    fn save(&self, block: u64) -> io::Result<()> {
        let start = block * BLOCK;
        let len = BLOCK.min(self.size - start);
        let extent = self.disk.map(start, len)?;
        if extent.is_zero() && extent.len >= len {
            // The scratch file has a hole there.
            return Ok(());
        }
        let mut data = vec![0; len as usize];
        self.disk.read(&mut data, start)?;
        self.scratch.write(&data, start)
    }

    /// Of a moment that was lost meanwhile nothing that was read is good.
    fn still_good(&self) -> io::Result<()> {
        fence(Ordering::Acquire);
        match self.lost.get() {
            None => Ok(()),
            Some(text) => Err(io::Error::other(text.clone())),
        }
    }

    /// # Errors
    /// When the range is not inside the disk, the host refuses, or the moment is lost.
    pub fn read(&self, mut data: &mut [u8], mut offset: u64) -> io::Result<()> {
        self.check(offset, data.len() as u64)?;
        while !data.is_empty() {
            let part = (data.len() as u64).min(BLOCK - offset % BLOCK);
            let (now, rest) = data.split_at_mut(part as usize);
            let block = offset / BLOCK;
            if !self.is_saved(block) {
                let read = self.disk.read(now, offset);
                fence(Ordering::Acquire);
                if !self.is_saved(block) {
                    read?;
                    (data, offset) = (rest, offset + part);
                    continue;
                }
            }
            self.scratch.read(now, offset)?;
            (data, offset) = (rest, offset + part);
        }
        self.still_good()
    }

    /// The first run of at most `len` bytes that are all zeros, or may be something else.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        self.check(offset, len)?;
        let block = offset / BLOCK;
        if !self.is_saved(block) {
            let extent = self.disk.map(offset, len)?;
            fence(Ordering::Acquire);
            // As far as nothing of it was overwritten meanwhile.
            let end = (offset + extent.len).div_ceil(BLOCK);
            let good = (block..end).take_while(|block| !self.is_saved(*block)).count() as u64;
            if good > 0 {
                let until = ((block + good) * BLOCK).min(offset + extent.len);
                return Ok(Extent { len: until - offset, ..extent });
            }
        }
        let part = len.min(BLOCK - offset % BLOCK);
        let (data, run) = self.scratch.data_run(offset, part)?;
        let kind = if data { ExtentKind::Data } else { ExtentKind::Zero };
        Ok(Extent { len: run.clamp(1, part), kind, depth: 0, offset: None })
    }

    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.size) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "a request beyond the end of the disk"))
    }
}
