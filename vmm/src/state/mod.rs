//! Saved machines: what is in the file that `Save` writes and a restoring start maps. How it lies
//! there is said in [`vmm_protocol::saved`].

mod dump;
mod live;
mod ram;
mod shape;

use std::fs::File;
use std::io;

use devices::component::DeviceState;
use memory::{GuestRam, MemoryError};
use serde::{Deserialize, Serialize};
use vmm_protocol::saved::{Body, SavedError};

use crate::kvm::{ChipsState, VcpuState};
pub use dump::DumpWriter;
pub use live::{LiveCopy, Rest};
pub use shape::Shape;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the saved state cannot be written")]
    Write(#[source] io::Error),
    #[error("the saved state cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    File(#[from] SavedError),
    #[error("the saved state is damaged: {what}")]
    Damaged { what: &'static str },
    #[error("the saved state is of another machine: {what} was {saved}, here it is {here}")]
    Mismatch { what: &'static str, saved: String, here: String },
    #[error("the saved guest uses {features}, which the processors of this host do not have")]
    Processor { features: String },
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

impl Saved {
    /// As they are written.
    fn sections(&self) -> Result<Vec<u8>, ImageError> {
        postcard::to_stdvec(self).map_err(|error| ImageError::Write(io::Error::other(error)))
    }
}

/// Something that is written a part at a time.
pub trait Steps {
    /// Bytes of RAM that are dealt with, and all.
    fn progress(&self) -> (u64, u64);

    /// Go on a little. True when everything is written, and on disk.
    fn step(&mut self) -> Result<bool, ImageError>;
}

/// Writes a paused machine into a file, a part at a time, so that whoever does it hears of other
/// things meanwhile.
pub struct Writer {
    file: File,
    body: Body,
    ram: ram::Writer,
}

/// Whether RAM takes fewer bytes in a file, and more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    AsItIs,
    Zstd,
}

/// RAM that is written between two looks at other things.
const STEP: u64 = 16 << 20;
const PACKED_STEP: u64 = 2 << 20;

impl Writer {
    /// Begin with all but RAM.
    pub fn begin(
        file: File,
        saved: &Saved,
        ram: GuestRam,
        packing: Packing,
    ) -> Result<Self, ImageError> {
        let sections = saved.sections()?;
        let body = match packing {
            Packing::AsItIs => Body::new(&sections, ram.size()),
            Packing::Zstd => Body::packed(&sections, ram.size()),
        };
        body.begin(&file, &sections).map_err(ImageError::Write)?;
        let ram = match packing {
            Packing::AsItIs => ram::Writer::new(ram, body.ram()),
            Packing::Zstd => ram::Writer::packing(ram, body.ram()),
        };
        Ok(Self { file, body, ram })
    }
}

impl Steps for Writer {
    fn progress(&self) -> (u64, u64) {
        (self.ram.done(), self.body.ram_size())
    }

    fn step(&mut self) -> Result<bool, ImageError> {
        // Packing takes longer than a look may wait.
        let most = if self.body.is_packed() { PACKED_STEP } else { STEP };
        let until = self.ram.done() + most;
        while self.ram.done() < until {
            if !self.ram.step(&self.file)? {
                self.ram.finish(self.body, &self.file).map_err(ImageError::Write)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A saved state whose headers and sections are whole.
pub struct Image {
    file: File,
    body: Body,
    pub saved: Saved,
}

impl Image {
    pub fn open(file: File) -> Result<Self, ImageError> {
        let body = Body::read(&file)?;
        let sections = body.sections(&file)?;
        // Also for whoever checks RAM; a file without them is damaged all the same.
        body.check_table(&file)?;
        let saved = postcard::from_bytes(&sections)
            .map_err(|_| ImageError::Damaged { what: "its sections cannot be decoded" })?;
        Ok(Self { file, body, saved })
    }

    /// Whether all of RAM must be read before the guest can go on.
    pub fn is_packed(&self) -> bool {
        self.body.is_packed()
    }

    /// RAM that is there at once, and whose pages come as they are wanted.
    pub fn map(&self, layout: &[(u64, u64)]) -> Result<GuestRam, MemoryError> {
        ram::map(layout, &self.file, &self.body)
    }

    /// Read RAM into memory of another kind.
    pub fn fill(&self, ram: &GuestRam) -> Result<(), ImageError> {
        ram::fill(ram, &self.file, &self.body)
    }
}

#[cfg(test)]
mod tests;
