//! Persistent dirty bitmaps: which parts of the disk were written to since somebody began to look.
//!
//! ```text
//! header extension ─→ directory: name, flags, granularity ─→ table ─→ clusters of bits
//! ```
//! **True or not.** Bitmaps in the file are true until the disk is written to. Before the first write
//! all are marked *in use*, durably; whoever tracks writes meanwhile stores them when it is done
//! ([`Qcow2::store_bitmaps`]), and only that takes the mark away. A bitmap that is found with it is
//! *inconsistent*: its writer died, or did not track; it says nothing any more.
//!
//! Storing never changes what is there: new clusters are filled, then the header leads to them, then
//! the old ones are free. A power cut leaves the old bitmaps, or the new ones.

mod entry;
mod store;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(super) use entry::{Directory, data_offset, read_entries};

use super::header::Header;
use super::image::Qcow2;
use super::spec::*;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Bits of one image that are kept in memory, all its bitmaps together.
const MOST_BYTES: u64 = 256 << 20;

/// What is said of a bitmap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BitmapInfo {
    pub name: String,
    /// Bytes of the disk that a bit is about.
    pub granularity: u64,
    /// Writes are still recorded in it (the specification's `auto`).
    pub enabled: bool,
    /// It was not stored by its last writer, and says nothing.
    pub inconsistent: bool,
}

/// A bitmap in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyBitmap {
    pub info: BitmapInfo,
    /// The first bit is the lowest of the first word. Empty if it is inconsistent.
    pub words: Vec<u64>,
}

impl DirtyBitmap {
    /// Words for a disk of so many bytes.
    #[must_use]
    pub fn words_for(size: u64, granularity: u64) -> usize {
        size.div_ceil(granularity).div_ceil(64) as usize
    }

    /// # Errors
    /// When no image could have such a bitmap.
    pub fn check(&self) -> Result<(), ImageError> {
        check_name(&self.info.name)?;
        check_granularity(self.info.granularity)
    }

    /// What `other` has marked is marked here, too.
    ///
    /// # Errors
    /// When one of them says nothing, or they differ in granularity.
    pub fn merge(&mut self, other: &Self) -> Result<(), ImageError> {
        let (ours, theirs) = (&self.info, &other.info);
        for info in [ours, theirs] {
            if info.inconsistent {
                let text = format!("bitmap {:?} is inconsistent; remove it", info.name);
                return Err(ImageError::Invalid(text));
            }
        }
        if ours.granularity != theirs.granularity {
            let text = format!(
                "bitmap {:?} has a granularity of {}, and {:?} of {}",
                ours.name, ours.granularity, theirs.name, theirs.granularity
            );
            return Err(ImageError::Invalid(text));
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
        Ok(())
    }
}

pub(super) fn check_name(name: &str) -> Result<(), ImageError> {
    if name.is_empty() || name.len() > MOST_NAME as usize {
        let text = format!("the name of a bitmap has 1 to {MOST_NAME} bytes");
        return Err(ImageError::Invalid(text));
    }
    Ok(())
}

pub(super) fn check_granularity(granularity: u64) -> Result<(), ImageError> {
    if !granularity.is_power_of_two() || !(9..=31).contains(&granularity.ilog2()) {
        let text =
            format!("a bitmap's granularity is 512 to 2^31, a power of two; not {granularity}");
        return Err(ImageError::Invalid(text));
    }
    Ok(())
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(Format::Qcow2, what)
}

/// What bitmaps there are.
pub(super) fn list(file: &dyn Storage, header: &Header) -> Result<Vec<BitmapInfo>, ImageError> {
    Ok(read_entries(file, header)?.into_iter().map(|entry| entry.info).collect())
}

impl Qcow2 {
    /// The bitmaps in the file, as the last one who stored them left them.
    ///
    /// # Errors
    /// When they are damaged, or too large to be kept in memory.
    pub fn bitmaps(&self) -> Result<Vec<DirtyBitmap>, ImageError> {
        let header = self.tables().header.clone();
        let size = self.size.load(std::sync::atomic::Ordering::Acquire);
        let mut left = MOST_BYTES;
        let mut found = Vec::new();
        for entry in read_entries(&*self.file, &header)? {
            let mut words = Vec::new();
            if !entry.info.inconsistent {
                let bytes = DirtyBitmap::words_for(size, entry.info.granularity) as u64 * 8;
                left = left.checked_sub(bytes).ok_or_else(|| {
                    let what = format!("dirty bitmaps of more than {MOST_BYTES} bytes");
                    ImageError::unsupported(Format::Qcow2, what)
                })?;
                words = entry.read_bits(&*self.file, &header, size)?;
            }
            found.push(DirtyBitmap { info: entry.info, words });
        }
        Ok(found)
    }
}
