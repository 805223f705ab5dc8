//! VHDX, Microsoft's newer format, by [MS-VHDX]; for reading. Everything in it is little-endian.
//!
//! Writing is not provided: the table of blocks may only be changed through the format's log, and a
//! half-way writer would leave images that Windows takes for damaged.

use std::io;
use std::sync::Arc;

use crate::blocks::{Blocks, Layout, Place};
use crate::bytes::{le16, le32, le64};
use crate::description::Description;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;
use crate::view::Image;

pub(crate) const SIGNATURE: &[u8; 8] = b"vhdxfile";
const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
const REGION_TABLE: usize = 64 << 10;
const METADATA_TABLE: usize = 64 << 10;
/// The format's own limit.
const MOST_SIZE: u64 = 64 << 40;
/// A table of 64 MiB, of 64 TiB in blocks of the usual 32 MiB and of 8 TiB in the smallest ones.
const MOST_ENTRIES: u64 = 8 << 20;

/// GUIDs as they lie in the file.
mod guid {
    pub(super) const BLOCK_TABLE: [u8; 16] =
        *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
    pub(super) const METADATA: [u8; 16] =
        *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
    pub(super) const PARAMETERS: [u8; 16] =
        *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
    pub(super) const SIZE: [u8; 16] =
        *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
    pub(super) const SECTOR: [u8; 16] =
        *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(Format::Vhdx, what)
}

fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::unsupported(Format::Vhdx, what)
}

/// CRC-32C of all bytes, those of the checksum at `at` taken as zeros.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let mut crc = u32::MAX;
    for (index, byte) in bytes.iter().enumerate() {
        let byte = if (at..at + 4).contains(&index) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// What an image is made of.
struct Shape {
    size: u64,
    block: u64,
    sector: u32,
    table: u64,
    table_len: u64,
}

impl Shape {
    fn read(file: &dyn Storage) -> Result<Self, ImageError> {
        let mut start = [0; 8];
        file.read(&mut start, 0).map_err(ImageError::io("cannot read the image"))?;
        if start != *SIGNATURE {
            let reason = "its first bytes are others";
            return Err(ImageError::NotThis { format: Format::Vhdx, reason });
        }
        check_log(file)?;
        let (table, table_len, metadata, metadata_len) = regions(file)?;
        let mut shape = metadata_items(file, metadata, metadata_len)?;
        (shape.table, shape.table_len) = (table, table_len);
        Ok(shape)
    }

    /// Blocks between two entries of sector bitmaps.
    fn ratio(&self) -> u64 {
        ((u64::from(self.sector) << 23) / self.block).max(1)
    }

    fn entries(&self) -> u64 {
        let blocks = self.size.div_ceil(self.block);
        blocks + blocks.saturating_sub(1) / self.ratio()
    }
}

/// The header that counts is the sound one with the greater number. A log that is not empty holds
/// changes which the rest of the file does not have.
fn check_log(file: &dyn Storage) -> Result<(), ImageError> {
    let mut newest: Option<(u64, [u8; 4096])> = None;
    for at in HEADERS {
        let mut bytes = [0; 4096];
        file.read(&mut bytes, at).map_err(ImageError::io("cannot read the header"))?;
        let sound = bytes[..4] == *b"head" && le32(&bytes, 4) == checksum(&bytes, 4);
        let number = le64(&bytes, 8);
        if sound && newest.as_ref().is_none_or(|(newest, _)| number > *newest) {
            newest = Some((number, bytes));
        }
    }
    let (_, header) = newest.ok_or_else(|| damaged("no header with a right checksum"))?;
    let version = le16(&header, 66);
    if version != 1 {
        return Err(unsupported(format!("version {version} of the format")));
    }
    if header[48..64].iter().any(|byte| *byte != 0) {
        return Err(unsupported(
            "a log with changes in it: it was not closed properly; open it once \
                                with Hyper-V or qemu-img",
        ));
    }
    Ok(())
}

/// Place and length of the block table, then of the metadata.
fn regions(file: &dyn Storage) -> Result<(u64, u64, u64, u64), ImageError> {
    for at in REGION_TABLES {
        let mut bytes = vec![0; REGION_TABLE];
        file.read(&mut bytes, at).map_err(ImageError::io("cannot read the region table"))?;
        if bytes[..4] != *b"regi" || le32(&bytes, 4) != checksum(&bytes, 4) {
            continue;
        }
        let (mut table, mut metadata) = (None, None);
        for number in 0..le32(&bytes, 8).min(2047) as usize {
            let entry = bytes.get(16 + number * 32..).and_then(|rest| rest.get(..32));
            let entry = entry.unwrap_or(&[0; 32]);
            let place = (le64(entry, 16), u64::from(le32(entry, 24)));
            if place.0 < MIB || !place.0.is_multiple_of(MIB) || place.0 > 1 << 60 {
                return Err(damaged("a region out of place"));
            }
            match &entry[..16] {
                id if *id == guid::BLOCK_TABLE => table = Some(place),
                id if *id == guid::METADATA => metadata = Some(place),
                _ if le32(entry, 28) & 1 != 0 => return Err(unsupported("an unknown region")),
                _ => {}
            }
        }
        let (table, table_len) = table.ok_or_else(|| damaged("no block table"))?;
        let (metadata, metadata_len) = metadata.ok_or_else(|| damaged("no metadata"))?;
        return Ok((table, table_len, metadata, metadata_len));
    }
    Err(damaged("no region table with a right checksum"))
}

fn metadata_items(file: &dyn Storage, at: u64, len: u64) -> Result<Shape, ImageError> {
    let mut bytes = vec![0; METADATA_TABLE];
    file.read(&mut bytes, at).map_err(ImageError::io("cannot read the metadata"))?;
    if bytes[..8] != *b"metadata" {
        return Err(damaged("no metadata where it should be"));
    }
    let (mut parameters, mut size, mut sector) = (None, None, None);
    for number in 0..le16(&bytes, 10).min(2047).into() {
        let entry: &[u8] = bytes.get(32 + number * 32..64 + number * 32).unwrap_or(&[0; 32]);
        let (offset, item_len) = (u64::from(le32(entry, 16)), u64::from(le32(entry, 20)));
        if offset + item_len > len {
            return Err(damaged("a metadata item out of place"));
        }
        let mut item = [0; 8];
        file.read(&mut item, at + offset).map_err(ImageError::io("cannot read the metadata"))?;
        // The flag says: whoever does not know this item must not open the image.
        let required = le32(entry, 24) & 4 != 0;
        match &entry[..16] {
            id if *id == guid::PARAMETERS => parameters = Some((le32(&item, 0), le32(&item, 4))),
            id if *id == guid::SIZE => size = Some(le64(&item, 0)),
            id if *id == guid::SECTOR => sector = Some(le32(&item, 0)),
            id if required && !KNOWN_ITEMS.iter().any(|known| known == id) => {
                return Err(unsupported("an unknown metadata item"));
            }
            _ => {}
        }
    }
    let (block, flags) = parameters.ok_or_else(|| damaged("no file parameters"))?;
    if flags & 2 != 0 {
        return Err(unsupported("a parent image (a differencing disk)"));
    }
    if !block.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block) {
        return Err(damaged(format!("blocks of {block} bytes")));
    }
    let size = size.ok_or_else(|| damaged("no size"))?;
    let sector = sector.ok_or_else(|| damaged("no sector size"))?;
    if !matches!(sector, 512 | 4096) {
        return Err(damaged(format!("sectors of {sector} bytes")));
    }
    if size > MOST_SIZE || !size.is_multiple_of(sector.into()) {
        return Err(damaged(format!("a size of {size} bytes")));
    }
    Ok(Shape { size, block: block.into(), sector, table: 0, table_len: 0 })
}

/// Required items that reading needs nothing of: the disk's identity, its physical sectors.
const KNOWN_ITEMS: [[u8; 16]; 2] = [
    *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46",
    *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56",
];

pub(crate) fn describe(file: &dyn Storage) -> Result<Description, ImageError> {
    let shape = Shape::read(file)?;
    let mut description = Description::new(Format::Vhdx, shape.size);
    description.cluster_size = Some(shape.block);
    description.read_only = Some("writing VHDX is not provided; convert it".into());
    Ok(description)
}

pub(crate) fn open(file: Arc<dyn Storage>, read_only: bool) -> Result<Arc<dyn Image>, ImageError> {
    if !read_only {
        let reason = "writing VHDX is not provided; convert it";
        return Err(ImageError::NotWritable { reason: reason.into() });
    }
    let shape = Shape::read(&*file)?;
    if shape.entries() > MOST_ENTRIES || shape.entries() * 8 > shape.table_len {
        return Err(damaged(format!("a block table of {} bytes", shape.table_len)));
    }
    let mut bytes = vec![0; shape.entries() as usize * 8];
    let have = file.read(&mut bytes, shape.table);
    if have.map_err(ImageError::io("cannot read the block table"))? < bytes.len() {
        return Err(damaged("the file ends within its block table"));
    }
    let entries = bytes.chunks_exact(8).map(|entry| le64(entry, 0)).collect();
    let layout = Table { entries, ratio: shape.ratio() };
    Ok(Arc::new(Blocks::new(file, layout, shape.block, shape.size, true)))
}

struct Table {
    entries: Vec<u64>,
    ratio: u64,
}

impl Layout for Table {
    fn find(&mut self, _file: &dyn Storage, index: u64) -> io::Result<Place> {
        let at = index + index / self.ratio;
        let entry = self.entries.get(at as usize).copied().unwrap_or(0);
        match entry & 7 {
            0 | 1 | 3 => Ok(Place::Hole),
            2 => Ok(Place::Zero),
            6 => Ok(Place::Data((entry >> 20) << 20)),
            state => Err(damaged(format!("a block in state {state}")).into()),
        }
    }

    fn append(&mut self, _file: &dyn Storage, _index: u64) -> io::Result<u64> {
        Err(crate::view::read_only())
    }

    fn link(&mut self, _file: &dyn Storage, _index: u64, _host: u64) -> io::Result<()> {
        Err(crate::view::read_only())
    }

    fn is_dirty(&self) -> bool {
        false
    }

    fn write_back(&mut self, _file: &dyn Storage) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(super::checksum(b"123456789", 100), 0xe306_9283);
    }
}
