//! RAM in a saved state: pages of zeros stay holes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memory::{Backing, GuestRam, MemoryError};
use vmm_protocol::saved::{Body, CHUNK, sum};

use super::ImageError;

/// Looked at, and written, at a time.
const PIECE: usize = 64 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];
/// Written before it is made sure that the disk has it: the wait at the end stays short.
const UNSYNCED: u64 = 64 << 20;

/// Writes RAM into a file, a part at a time.
pub(super) struct Writer {
    ram: GuestRam,
    /// In RAM as it lies in the file, region after region.
    at: u64,
    unsynced: u64,
    chunk: Vec<u8>,
    sums: Vec<u32>,
}

impl Writer {
    pub(super) fn new(ram: GuestRam) -> Self {
        let chunk = vec![0; CHUNK as usize];
        Self { ram, at: 0, unsynced: 0, chunk, sums: Vec::new() }
    }

    pub(super) fn done(&self) -> u64 {
        self.at
    }

    /// Of each chunk that was written.
    pub(super) fn sums(&self) -> &[u32] {
        &self.sums
    }

    /// Write the next chunk; false when there is none. `file` reads as zeros from `start` on.
    pub(super) fn step(&mut self, file: &File, start: u64) -> Result<bool, ImageError> {
        let len = CHUNK.min(self.ram.size() - self.at) as usize;
        if len == 0 {
            return Ok(false);
        }
        read(&self.ram, self.at, &mut self.chunk[..len])?;
        let chunk = &self.chunk[..len];
        for (number, piece) in chunk.chunks(PIECE).enumerate() {
            if piece != &ZEROS[..piece.len()] {
                let offset = start + self.at + (number * PIECE) as u64;
                file.write_all_at(piece, offset).map_err(ImageError::Write)?;
                self.unsynced += piece.len() as u64;
            }
        }
        self.sums.push(sum(chunk));
        self.at += len as u64;
        if self.unsynced >= UNSYNCED {
            file.sync_data().map_err(ImageError::Write)?;
            self.unsynced = 0;
        }
        Ok(true)
    }
}

/// Read RAM as it lies in a file. It may span regions.
fn read(ram: &GuestRam, mut at: u64, mut data: &mut [u8]) -> Result<(), MemoryError> {
    for region in ram.regions() {
        let Some(into) = at.checked_sub(region.file_offset).filter(|into| *into < region.len)
        else {
            continue;
        };
        let len = (region.len - into).min(data.len() as u64);
        let (now, rest) = data.split_at_mut(len as usize);
        ram.read_slice(region.gpa + into, now)?;
        (data, at) = (rest, at + len);
    }
    Ok(())
}

/// Map the RAM of a saved state: it is there at once, and its pages come as they are wanted.
pub(super) fn map(
    layout: &[(u64, u64)],
    file: &File,
    body: &Body,
) -> Result<GuestRam, MemoryError> {
    GuestRam::new(layout, &Backing::CopyOnWrite(file, body.ram()))
}

/// Read the RAM of a saved state into `ram`, which is zeros: for one that cannot be a private
/// mapping of the file, since others have it too or its pages are of another kind.
pub(super) fn fill(ram: &GuestRam, file: &File, body: &Body) -> Result<(), ImageError> {
    let mut piece = vec![0; CHUNK as usize];
    for region in ram.regions() {
        let mut done = 0;
        while done < region.len {
            let len = (region.len - done).min(CHUNK);
            let piece = &mut piece[..len as usize];
            let offset = body.ram() + region.file_offset + done;
            file.read_exact_at(piece, offset).map_err(ImageError::Read)?;
            if piece.chunks(PIECE).any(|part| part != &ZEROS[..part.len()]) {
                ram.write_slice(region.gpa + done, piece)?;
            }
            done += len;
        }
    }
    Ok(())
}
