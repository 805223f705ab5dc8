//! [`Body`]: the header of the VMM's part.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::packed::{Chunks, Packed};
use super::{BODY, SavedError, read_header, read_part, u32_at, u64_at};

const MAGIC: [u8; 8] = *b"MANORVM\n";
/// Raised when the layout changes in a way that old readers would misread.
const VERSION: u32 = 2;
/// Of a body whose RAM is packed, which those who know only the other would misread.
const PACKED_VERSION: u32 = 3;
const X86_64: u32 = 1;
const LEN: usize = 64;
pub(super) const SECTIONS: u64 = BODY + 4096;
/// RAM lies as guest huge pages do, so that the host may use huge pages of the page cache.
const RAM_ALIGNMENT: u64 = 2 << 20;
/// Far more than 64 vCPUs and a full PCI tree need.
const MAX_SECTIONS: u64 = 64 << 20;
/// More than x86 can address.
const MAX_RAM: u64 = 1 << 52;

/// RAM that has a sum of its own.
pub const CHUNK: u64 = 1 << 20;

/// A header that says this from its architecture on, for tests of those who read it.
pub(super) fn header(said: &[u8; 48]) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    let version = if said[0] & 1 == 0 { VERSION } else { PACKED_VERSION };
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[12..16].copy_from_slice(&X86_64.to_le_bytes());
    bytes[16..LEN - 4].copy_from_slice(&said[4..]);
    bytes
}

/// With its own checksum.
pub(super) fn seal(bytes: &mut [u8; LEN]) {
    let own = sum(&bytes[..LEN - 4]);
    bytes[LEN - 4..].copy_from_slice(&own.to_le_bytes());
}

/// Where everything is that a VMM wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    sections: u64,
    sections_sum: u32,
    sums_sum: u32,
    ram: u64,
    ram_size: u64,
    /// Bytes that packed RAM takes in the file; none: it lies there as it is.
    packed: Option<u64>,
}

/// CRC-32 (IEEE 802.3).
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

impl Body {
    /// Of so much RAM, with these sections beside it.
    #[must_use]
    pub fn new(sections: &[u8], ram_size: u64) -> Self {
        let sums = ram_size.div_ceil(CHUNK) * 4;
        let ram = (SECTIONS + sections.len() as u64 + sums).next_multiple_of(RAM_ALIGNMENT);
        let sections_sum = sum(sections);
        Self {
            sections: sections.len() as u64,
            sections_sum,
            sums_sum: 0,
            ram,
            ram_size,
            packed: None,
        }
    }

    /// The same where RAM is written before its sections are known: the most of them would have room.
    #[must_use]
    pub fn of_ram(ram_size: u64) -> Self {
        let sums = ram_size.div_ceil(CHUNK) * 4;
        let ram = (SECTIONS + MAX_SECTIONS + sums).next_multiple_of(RAM_ALIGNMENT);
        Self { ram, ..Self::new(&[], ram_size) }
    }

    /// The same, with RAM that is packed chunk by chunk.
    #[must_use]
    pub fn packed(sections: &[u8], ram_size: u64) -> Self {
        let table = ram_size.div_ceil(CHUNK) * Packed::LEN;
        let ram = (SECTIONS + sections.len() as u64 + table).next_multiple_of(RAM_ALIGNMENT);
        Self { ram, packed: Some(0), ..Self::new(sections, ram_size) }
    }

    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// Where RAM begins.
    #[must_use]
    pub fn ram(&self) -> u64 {
        self.ram
    }

    #[must_use]
    pub fn ram_size(&self) -> u64 {
        self.ram_size
    }

    /// Length of the whole file.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ram + self.packed.unwrap_or(self.ram_size)
    }

    fn sums_at(&self) -> u64 {
        SECTIONS + self.sections
    }

    fn sums_len(&self) -> u64 {
        let each = if self.is_packed() { Packed::LEN } else { 4 };
        self.ram_size.div_ceil(CHUNK) * each
    }

    /// Make `file` one of this length, with the sections in it.
    ///
    /// # Errors
    /// When the disk is full, for one.
    pub fn begin(&self, file: &File, sections: &[u8]) -> io::Result<()> {
        self.make_room(file)?;
        file.write_all_at(sections, SECTIONS)
    }

    /// Make `file` one of this length that holds nothing.
    ///
    /// # Errors
    /// When the file cannot be that long.
    pub fn make_room(&self, file: &File) -> io::Result<()> {
        file.set_len(0)?;
        file.set_len(self.end())
    }

    /// Put the sections before RAM that is in `file` already.
    ///
    /// # Errors
    /// When there are more than have room, or the disk is full.
    pub fn put_sections(self, file: &File, sections: &[u8]) -> io::Result<Self> {
        let len = sections.len() as u64;
        if len > MAX_SECTIONS {
            let text = format!("the machine's state of {len} bytes is longer than {MAX_SECTIONS}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        file.write_all_at(sections, SECTIONS)?;
        Ok(Self { sections: len, sections_sum: sum(sections), ..self })
    }

    /// The rest of it, once RAM is written: to disk, and in this order.
    ///
    /// # Errors
    /// When the disk is full, for one.
    pub fn finish(self, file: &File, sums: &[u32]) -> io::Result<()> {
        self.finish_with(file, sums.iter().flat_map(|sum| sum.to_le_bytes()).collect())
    }

    /// The same where RAM is packed: how its chunks lie one after another.
    ///
    /// # Errors
    /// When the disk is full, for one.
    pub fn finish_packed(mut self, file: &File, table: &[Packed]) -> io::Result<()> {
        self.packed = Some(table.iter().map(|packed| u64::from(packed.len)).sum());
        self.finish_with(file, table.iter().flat_map(|packed| packed.bytes()).collect())
    }

    fn finish_with(mut self, file: &File, bytes: Vec<u8>) -> io::Result<()> {
        self.sums_sum = sum(&bytes);
        file.write_all_at(&bytes, self.sums_at())?;
        file.sync_all()?;
        file.write_all_at(&self.bytes(), BODY)?;
        file.sync_all()
    }

    fn bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        let version = if self.is_packed() { PACKED_VERSION } else { VERSION };
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes[12..16].copy_from_slice(&X86_64.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sections.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.ram.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.ram_size.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.sections_sum.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.sums_sum.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.packed.unwrap_or_default().to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// What a file holds, with everything that this says inside the file.
    pub fn read(file: &File) -> Result<Self, SavedError> {
        let bytes: [u8; LEN] = read_header(file, BODY, MAGIC, &[VERSION, PACKED_VERSION])?;
        if u32_at(&bytes, 12) != X86_64 {
            return Err(SavedError::Architecture);
        }
        let body = Self {
            sections: u64_at(&bytes, 16),
            ram: u64_at(&bytes, 24),
            ram_size: u64_at(&bytes, 32),
            sections_sum: u32_at(&bytes, 40),
            sums_sum: u32_at(&bytes, 44),
            packed: (u32_at(&bytes, 8) == PACKED_VERSION).then(|| u64_at(&bytes, 48)),
        };
        let inside = body.sections <= MAX_SECTIONS
            && body.ram_size <= MAX_RAM
            && body.packed.is_none_or(|len| len <= body.ram_size)
            && body.sums_at() + body.sums_len() <= body.ram
            && body.ram.is_multiple_of(RAM_ALIGNMENT)
            && body.ram <= MAX_RAM;
        if !inside {
            return Err(SavedError::damaged("its parts lie outside of it"));
        }
        let len = file.metadata().map_err(SavedError::Read)?.len();
        if len < body.end() {
            let text = format!("it has {len} bytes and should have {}", body.end());
            return Err(SavedError::damaged(text));
        }
        Ok(body)
    }

    /// vCPUs, chips and devices, which only a VMM understands.
    pub fn sections(&self, file: &File) -> Result<Vec<u8>, SavedError> {
        read_part(file, SECTIONS, self.sections as usize, self.sections_sum, "machine state")
    }

    /// The sum of each chunk of RAM that lies there as it is.
    pub fn sums(&self, file: &File) -> Result<Vec<u32>, SavedError> {
        Ok(self.table(file)?.chunks_exact(4).map(|sum| u32_at(sum, 0)).collect())
    }

    /// How packed RAM lies there.
    pub fn chunks(&self, file: &File) -> Result<Chunks, SavedError> {
        let packed = |entry: &[u8]| Packed { sum: u32_at(entry, 0), len: u32_at(entry, 4) };
        let table = self.table(file)?;
        let table: Vec<_> = table.chunks_exact(Packed::LEN as usize).map(packed).collect();
        Chunks::new(*self, &table)
    }

    /// That what it says of RAM is whole: RAM itself is not read.
    pub fn check_table(&self, file: &File) -> Result<(), SavedError> {
        if self.is_packed() { self.chunks(file).map(drop) } else { self.table(file).map(drop) }
    }

    fn table(&self, file: &File) -> Result<Vec<u8>, SavedError> {
        let len = self.sums_len() as usize;
        // Before they are allocated: a file with holes may be longer than memory is large.
        if len > MAX_SECTIONS as usize {
            return Err(SavedError::damaged("it has more sums than any machine needs"));
        }
        read_part(file, self.sums_at(), len, self.sums_sum, "sums")
    }
}

/// Read all RAM and compare its sums, telling `at` how far it is. Errors of `at` end it.
pub fn check_ram(
    file: &File,
    mut at: impl FnMut(u64, u64) -> io::Result<()>,
) -> Result<(), SavedError> {
    let body = Body::read(file)?;
    let mut chunk = vec![0; CHUNK as usize];
    if body.is_packed() {
        let chunks = body.chunks(file)?;
        for number in 0..chunks.count() {
            let (start, len) = chunks.place(number);
            chunks.read(file, number, &mut chunk[..len])?;
            at(start + len as u64, body.ram_size).map_err(SavedError::Read)?;
        }
        return Ok(());
    }
    let zeros = sum(&chunk);
    let mut data = 0;
    for (number, expected) in body.sums(file)?.into_iter().enumerate() {
        let start = number as u64 * CHUNK;
        let len = CHUNK.min(body.ram_size - start);
        let found = if len == CHUNK && next_data(file, body.ram + start, &mut data)? >= len {
            zeros
        } else {
            let chunk = &mut chunk[..len as usize];
            file.read_exact_at(chunk, body.ram + start).map_err(SavedError::Read)?;
            sum(chunk)
        };
        if found != expected {
            let text = format!("its memory at {start:#x}, {len:#x} bytes, has another checksum");
            return Err(SavedError::damaged(text));
        }
        at(start + len, body.ram_size).map_err(SavedError::Read)?;
    }
    Ok(())
}

/// How far behind `offset` data begins; `known` is where it was found last.
fn next_data(file: &File, offset: u64, known: &mut u64) -> Result<u64, SavedError> {
    if *known < offset {
        *known = match seek(file, SeekFrom::Data(offset)) {
            Ok(found) => found,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => u64::MAX,
            // A file system that knows no holes.
            Err(Errno::INVAL) => offset,
            Err(error) => return Err(SavedError::Read(error.into())),
        };
    }
    Ok(*known - offset)
}
