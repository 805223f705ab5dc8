//! RAM in a saved state: pages of zeros stay holes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use memory::GuestRam;

use super::ImageError;

/// Looked at, and written, at a time.
const PIECE: usize = 64 << 10;

/// Write every region to `file`, the first at `start`. The file reads as zeros there.
pub(super) fn write(file: &File, start: u64, ram: &GuestRam) -> Result<(), ImageError> {
    let mut piece = vec![0; PIECE];
    for region in ram.regions() {
        let mut done = 0;
        while done < region.len {
            let len = (region.len - done).min(PIECE as u64);
            let piece = &mut piece[..len as usize];
            ram.read_slice(region.gpa + done, piece)?;
            if piece.iter().any(|byte| *byte != 0) {
                let offset = start + region.file_offset + done;
                file.write_all_at(piece, offset).map_err(ImageError::Write)?;
            }
            done += len;
        }
    }
    Ok(())
}
