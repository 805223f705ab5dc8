//! Management's part: what the guest is, as text that only management understands.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{BODY, SavedError, read_header, read_part, sum, u32_at};

const MAGIC: [u8; 8] = *b"MANORSAV";
const VERSION: u32 = 1;
const LEN: usize = 32;
/// Where descriptions may lie. The second ends where the body begins.
const PLACES: [u64; 2] = [4 << 10, 2 << 20];
const LONGEST: usize = (BODY - PLACES[1]) as usize - (4 << 10);

struct Front {
    place: u32,
    len: u32,
    checksum: u32,
}

impl Front {
    fn read(file: &File) -> Result<Self, SavedError> {
        let bytes: [u8; LEN] = read_header(file, 0, MAGIC, &[VERSION])?;
        let front = Self {
            place: u32_at(&bytes, 12),
            len: u32_at(&bytes, 16),
            checksum: u32_at(&bytes, 20),
        };
        if front.place > 1 || front.len as usize > LONGEST {
            return Err(SavedError::damaged("its description lies nowhere"));
        }
        Ok(front)
    }

    fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.place.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.len.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.checksum.to_le_bytes());
        let own = sum(&bytes[..LEN - 4]);
        bytes[LEN - 4..].copy_from_slice(&own.to_le_bytes());
        bytes
    }
}

/// The description that holds.
pub fn description(file: &File) -> Result<String, SavedError> {
    let front = Front::read(file)?;
    let at = PLACES[front.place as usize];
    let text = read_part(file, at, front.len as usize, front.checksum, "description")?;
    String::from_utf8(text).map_err(|_| SavedError::damaged("its description is no text"))
}

/// Whether management has written its part: only then the file is a saved guest.
#[must_use]
pub fn is_complete(file: &File) -> bool {
    Front::read(file).is_ok()
}

/// Replace the description, on disk. Whatever happens meanwhile, the old one or the new one holds.
pub fn write_description(file: &File, text: &str) -> Result<(), SavedError> {
    let too_long = || SavedError::Description { len: text.len(), most: LONGEST };
    let len = u32::try_from(text.len()).ok().filter(|len| *len as usize <= LONGEST);
    let place = Front::read(file).map_or(0, |front| 1 - front.place);
    let front = Front { place, len: len.ok_or_else(too_long)?, checksum: sum(text.as_bytes()) };
    let write = || {
        file.write_all_at(text.as_bytes(), PLACES[place as usize])?;
        file.sync_all()?;
        file.write_all_at(&front.bytes(), 0)?;
        file.sync_all()
    };
    write().map_err(SavedError::Write)
}
