//! [`Header`]: the first bytes of a saved state.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::ImageError;

const MAGIC: &[u8; 8] = b"MANORVM\n";
/// Raised when the layout changes in a way that old readers would misread.
const VERSION: u32 = 1;
const X86_64: u32 = 1;
/// Where the sections begin.
pub(super) const SECTIONS: u64 = 4096;
/// RAM lies as guest huge pages do, so that the host may use huge pages of the page cache.
const RAM_ALIGNMENT: u64 = 2 << 20;
/// Far more than 64 vCPUs and a full PCI tree need.
const MAX_SECTIONS: u64 = 64 << 20;
const LEN: usize = 48;

pub(super) struct Header {
    /// Length of the sections.
    pub(super) sections: usize,
    pub(super) checksum: u32,
    /// Where RAM begins, and its size.
    pub(super) ram: u64,
    ram_size: u64,
}

impl Header {
    pub(super) fn new(sections: &[u8], ram_size: u64) -> Self {
        let ram = (SECTIONS + sections.len() as u64).next_multiple_of(RAM_ALIGNMENT);
        Self { sections: sections.len(), checksum: checksum(sections), ram, ram_size }
    }

    /// Length of the whole file.
    pub(super) fn end(&self) -> u64 {
        self.ram + self.ram_size
    }

    pub(super) fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&X86_64.to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.sections as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.ram.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.ram_size.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.checksum.to_le_bytes());
        let own = checksum(&bytes[..44]);
        bytes[44..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The header of a file of `len` bytes, with everything it says inside the file.
    pub(super) fn read(file: &File, len: u64) -> Result<Self, ImageError> {
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, 0).map_err(|_| ImageError::NotOne)?;
        if &bytes[..8] != MAGIC {
            return Err(ImageError::NotOne);
        }
        let found = u32_at(&bytes, 8);
        if found != VERSION {
            return Err(ImageError::Version { found, known: VERSION });
        }
        if u32_at(&bytes, 44) != checksum(&bytes[..44]) {
            return Err(ImageError::Damaged { what: "its header's checksum is wrong" });
        }
        if u32_at(&bytes, 12) != X86_64 {
            return Err(ImageError::Architecture);
        }
        let (sections, ram, ram_size) =
            (u64_at(&bytes, 16), u64_at(&bytes, 24), u64_at(&bytes, 32));
        let fits = sections <= MAX_SECTIONS
            && SECTIONS + sections <= ram
            && ram.is_multiple_of(RAM_ALIGNMENT)
            && ram.checked_add(ram_size).is_some_and(|end| end <= len);
        if !fits {
            return Err(ImageError::Damaged { what: "it is shorter than its header says" });
        }
        Ok(Self { sections: sections as usize, checksum: u32_at(&bytes, 40), ram, ram_size })
    }
}

fn u32_at(bytes: &[u8; LEN], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8; LEN], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// CRC-32 (IEEE 802.3), bit by bit: it runs over a few hundred KiB, once.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
