//! An NBD server of moments: read-only exports, with what a bitmap has marked as a meta context.
//!
//! ```text
//! connection: greeting ─▶ options (names, structured replies, contexts) ─GO─▶ requests
//! ```
//! Clients are foreign: every length is checked before memory is taken, each connection has bounded
//! buffers, and one that does not read what it asked for makes nobody else wait.

mod connection;
mod extents;
mod options;
mod server;
#[cfg(test)]
mod tests;
mod transmission;

use std::sync::Arc;

use super::moment::Moment;

pub use connection::Connection;
pub use server::{Server, ServerEnd};

/// What is served under a name.
pub struct Export {
    pub name: String,
    pub description: String,
    pub moment: Arc<Moment>,
    /// What was written to since an earlier moment, by the name of its context.
    pub marked: Option<(String, Arc<Marked>)>,
}

/// A bitmap that does not change any more.
pub struct Marked {
    words: Vec<u64>,
    granularity: u64,
}

impl Marked {
    #[must_use]
    pub fn new(words: Vec<u64>, granularity: u64) -> Self {
        Self { words, granularity }
    }

    fn is_marked(&self, bit: u64) -> bool {
        self.words.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    /// Whether `offset` is marked, and for how many bytes that is so, up to `len`.
    #[must_use]
    pub fn run(&self, offset: u64, len: u64) -> (bool, u64) {
        let (first, end) = (offset / self.granularity, (offset + len).div_ceil(self.granularity));
        let marked = self.is_marked(first);
        let alike = if marked { u64::MAX } else { 0 };
        let mut bit = first + 1;
        while bit < end {
            // Whole words at a time, where they are all alike.
            if bit.is_multiple_of(64) && self.words.get((bit / 64) as usize) == Some(&alike) {
                bit += 64;
            } else if self.is_marked(bit) == marked {
                bit += 1;
            } else {
                break;
            }
        }
        (marked, (bit * self.granularity).min(offset + len) - offset)
    }

    /// Bytes that are marked.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum::<u64>() * self.granularity
    }
}
