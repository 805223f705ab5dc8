//! The file of a saved guest: what management writes into it and what the VMM does.
//!
//! ```text
//! 0        front: magic, version, which description holds        management, last of all
//! 4 KiB    description, first place                              management
//! 2 MiB    description, second place                             management
//! 4 MiB    body: magic, version, where the rest is               VMM, last of its parts
//!          sections: vCPUs, chips, devices                       VMM
//!          sums: one for each MiB of RAM                         VMM
//! 2^21·n   RAM, region after region, with holes where it is zero VMM; mapped copy-on-write
//! ```
//! Where RAM is packed (version 3 of the body), each MiB has its length beside its sum, and they follow
//! one another as zstd frames, those of zeros with no bytes at all. Then a restore reads all of it.
//!
//! Each part that points at others is written after them, and to disk only once they are: a save
//! that broke off is no saved state. A description is replaced in the place that does not hold.
//!
//! Checked before a guest goes on: both headers, the description, the sections, the sums, and that
//! the file is as long as it says. RAM is not read for that, or it would not be there at once:
//! [`check_ram`] does, for whoever wants to know.

mod body;
mod front;
mod packed;
#[cfg(test)]
mod tests;
mod torture;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use body::{Body, CHUNK, check_ram, sum};
pub use front::{description, is_complete, write_description};
pub use packed::{Chunks, Packed, pack};
#[doc(hidden)]
pub use torture::saved_state;

/// Where the VMM's part begins.
pub const BODY: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    #[error("the saved state cannot be written")]
    Write(#[source] io::Error),
    #[error("the saved state cannot be read")]
    Read(#[source] io::Error),
    #[error("this is no saved state, or one that was never completed")]
    NotOne,
    #[error("the saved state is of format {found}; this version of Manor reads up to {known}")]
    Version { found: u32, known: u32 },
    #[error("the saved state is of another processor architecture")]
    Architecture,
    #[error("the saved state is damaged: {what}")]
    Damaged { what: String },
    #[error("the description of {len} bytes is longer than the {most} that fit a saved state")]
    Description { len: usize, most: usize },
}

impl SavedError {
    fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

/// A header of fixed length with its own checksum at its end.
fn read_header<const LEN: usize>(
    file: &File,
    at: u64,
    magic: [u8; 8],
    known: &[u32],
) -> Result<[u8; LEN], SavedError> {
    let mut bytes = [0; LEN];
    file.read_exact_at(&mut bytes, at).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SavedError::NotOne,
        _ => SavedError::Read(error),
    })?;
    if bytes[..8] != magic {
        return Err(SavedError::NotOne);
    }
    let found = u32_at(&bytes, 8);
    if !known.contains(&found) {
        let known = known.last().copied().unwrap_or_default();
        return Err(SavedError::Version { found, known });
    }
    if u32_at(&bytes, LEN - 4) != sum(&bytes[..LEN - 4]) {
        return Err(SavedError::damaged("a header's checksum is wrong"));
    }
    Ok(bytes)
}

/// Read `len` bytes whose sum is known.
fn read_part(
    file: &File,
    at: u64,
    len: usize,
    expected: u32,
    what: &str,
) -> Result<Vec<u8>, SavedError> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).map_err(SavedError::Read)?;
    if sum(&bytes) != expected {
        return Err(SavedError::damaged(format!("the checksum of its {what} is wrong")));
    }
    Ok(bytes)
}
