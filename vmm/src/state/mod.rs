//! Saved machines: what is in the file that `Save` writes and a restoring start maps.
//!
//! ```text
//! 0            header: magic, version, architecture, where the rest is, checksum
//! sections     everything but RAM (postcard)
//! ram          RAM, region after region, with holes where it is zero; mapped copy-on-write
//! ```
//! The header is written last: a save that broke off is no saved state.

mod header;
mod ram;
mod shape;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use devices::component::DeviceState;
use memory::{GuestRam, MemoryError};
use serde::{Deserialize, Serialize};

use crate::kvm::{ChipsState, VcpuState};
use header::Header;
pub use shape::Shape;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the saved state cannot be written")]
    Write(#[source] io::Error),
    #[error("the saved state cannot be read")]
    Read(#[source] io::Error),
    #[error("this is no saved state, or one that was never completed")]
    NotOne,
    #[error("the saved state is of format {found}; this VMM reads {known}")]
    Version { found: u32, known: u32 },
    #[error("the saved state is of another processor architecture")]
    Architecture,
    #[error("the saved state is damaged: {what}")]
    Damaged { what: &'static str },
    #[error("the saved state is of another machine: {what} was {saved}, here it is {here}")]
    Mismatch { what: &'static str, saved: String, here: String },
    #[error("guest memory cannot be read")]
    Ram(#[from] MemoryError),
}

/// A machine without its RAM.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    pub shape: Shape,
    pub vcpus: Vec<VcpuState>,
    pub chips: ChipsState,
    /// By component id, in the machine's order.
    pub devices: Vec<(String, DeviceState)>,
}

/// Write `saved` and `ram` to `file`, from its start.
pub fn write(file: &File, saved: &Saved, ram: &GuestRam) -> Result<(), ImageError> {
    let sections =
        postcard::to_stdvec(saved).map_err(|error| ImageError::Write(io::Error::other(error)))?;
    let header = Header::new(&sections, ram.size());
    file.set_len(0).map_err(ImageError::Write)?;
    file.set_len(header.end()).map_err(ImageError::Write)?;
    file.write_all_at(&sections, header::SECTIONS).map_err(ImageError::Write)?;
    ram::write(file, header.ram, ram)?;
    file.sync_all().map_err(ImageError::Write)?;
    file.write_all_at(&header.bytes(), 0).map_err(ImageError::Write)?;
    file.sync_all().map_err(ImageError::Write)
}

/// Read all but the RAM, which is then at the offset that comes with it.
pub fn read(file: &File) -> Result<(Saved, u64), ImageError> {
    let len = file.metadata().map_err(ImageError::Read)?.len();
    let header = Header::read(file, len)?;
    let mut sections = vec![0; header.sections];
    file.read_exact_at(&mut sections, header::SECTIONS).map_err(ImageError::Read)?;
    if header::checksum(&sections) != header.checksum {
        return Err(ImageError::Damaged { what: "its checksum is wrong" });
    }
    let saved = postcard::from_bytes(&sections)
        .map_err(|_| ImageError::Damaged { what: "its sections cannot be decoded" })?;
    Ok((saved, header.ram))
}

#[cfg(test)]
mod tests;
