//! VHD, Microsoft's older format, by its "Virtual Hard Disk Image Format Specification": fixed, a
//! raw disk with a footer; dynamic, a table of blocks. Everything in it is big-endian.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use crate::blocks::{Blocks, Layout, Place};
use crate::bytes::{be32, be64, put};
use crate::description::Description;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;
use crate::view::Image;
use crate::window::Window;

pub(crate) const COOKIE: &[u8; 8] = b"conectix";
const SPARSE_COOKIE: &[u8; 8] = b"cxsparse";
const FOOTER: usize = 512;
const SPARSE_HEADER: usize = 1024;
const SECTOR: u64 = 512;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
const NO_BLOCK: u32 = u32::MAX;
const BLOCK: u32 = 2 << 20;
/// The format's own limit, 2040 GiB.
const MOST_SIZE: u64 = 0xff00_0000 * SECTOR;
const MOST_TABLE: u32 = 1 << 24;
/// Geometry that stands for "larger than a geometry can say".
const MOST_GEOMETRY: u64 = 65535 * 16 * 255;
/// Programs whose size field counts. Of all others the geometry does.
const EXACT: [&[u8; 4]; 5] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS"];

struct Footer {
    bytes: [u8; FOOTER],
    kind: u32,
    size: u64,
    next: u64,
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(Format::Vpc, what)
}

/// The sum of all bytes but those of the sum itself, inverted.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes.iter().enumerate().filter(|(index, _)| !(at..at + 4).contains(index));
    !others.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

impl Footer {
    /// At the file's end; a dynamic image has a copy at its start.
    fn read(file: &dyn Storage) -> Result<Self, ImageError> {
        let io = || ImageError::io("cannot read the footer");
        let mut bytes = [0; FOOTER];
        file.read(&mut bytes, 0).map_err(io())?;
        if bytes[..8] != *COOKIE {
            let end = file.size().map_err(io())?.checked_sub(FOOTER as u64);
            let end =
                end.ok_or(ImageError::NotThis { format: Format::Vpc, reason: "it is too short" })?;
            file.read(&mut bytes, end).map_err(io())?;
        }
        if bytes[..8] != *COOKIE {
            let reason = "it has no footer";
            return Err(ImageError::NotThis { format: Format::Vpc, reason });
        }
        if be32(&bytes, 64) != checksum(&bytes, 64) {
            return Err(damaged("its footer's checksum is wrong"));
        }
        let kind = be32(&bytes, 60);
        match kind {
            FIXED | DYNAMIC => {}
            DIFFERENCING => {
                let what = "a parent image (a differencing disk)";
                return Err(ImageError::unsupported(Format::Vpc, what));
            }
            other => return Err(damaged(format!("a disk of type {other}"))),
        }
        let cylinders = u64::from(be32(&bytes, 56) >> 16);
        let sectors = cylinders * u64::from(bytes[58]) * u64::from(bytes[59]);
        let exact = EXACT.iter().any(|creator| bytes[28..32] == **creator);
        let size = match exact || sectors >= MOST_GEOMETRY {
            true => be64(&bytes, 48),
            false => sectors * SECTOR,
        };
        if size > MOST_SIZE {
            return Err(damaged(format!("a size of {size} bytes")));
        }
        Ok(Self { kind, size, next: be64(&bytes, 16), bytes })
    }
}

pub(crate) fn describe(file: &dyn Storage) -> Result<Description, ImageError> {
    let footer = Footer::read(file)?;
    let mut description = Description::new(Format::Vpc, footer.size);
    let kind = if footer.kind == FIXED { "fixed" } else { "dynamic" };
    description.details.push(("image type".into(), kind.into()));
    if footer.kind == DYNAMIC {
        description.cluster_size = Some(Sparse::read(file, &footer)?.block.into());
    }
    Ok(description)
}

struct Sparse {
    table: u64,
    entries: u32,
    block: u32,
}

impl Sparse {
    fn read(file: &dyn Storage, footer: &Footer) -> Result<Self, ImageError> {
        let mut bytes = [0; SPARSE_HEADER];
        if footer.next > MOST_SIZE {
            return Err(damaged("a header beyond the file's end"));
        }
        let have = file.read(&mut bytes, footer.next);
        let have = have.map_err(ImageError::io("cannot read the header"))?;
        if have < SPARSE_HEADER || bytes[..8] != *SPARSE_COOKIE {
            return Err(damaged("no header where the footer says"));
        }
        if be32(&bytes, 36) != checksum(&bytes, 36) {
            return Err(damaged("its header's checksum is wrong"));
        }
        let (table, entries, block) = (be64(&bytes, 16), be32(&bytes, 28), be32(&bytes, 32));
        if !block.is_power_of_two() || !(4096..=256 << 20).contains(&block) {
            return Err(damaged(format!("blocks of {block} bytes")));
        }
        if entries > MOST_TABLE || footer.size.div_ceil(block.into()) > entries.into() {
            return Err(damaged(format!("a block table of {entries} entries")));
        }
        if table > MOST_SIZE || !table.is_multiple_of(SECTOR) || table < FOOTER as u64 {
            return Err(damaged("a block table out of place"));
        }
        Ok(Self { table, entries, block })
    }

    /// Bytes in front of each block that say which of its sectors are in use.
    fn bitmap(&self) -> u64 {
        (u64::from(self.block) / SECTOR / 8).next_multiple_of(SECTOR)
    }
}

pub(crate) fn open(file: Arc<dyn Storage>, read_only: bool) -> Result<Arc<dyn Image>, ImageError> {
    let footer = Footer::read(&*file)?;
    if footer.kind == FIXED {
        let have = file.size().map_err(ImageError::io("cannot find the image's size"))?;
        if have < footer.size {
            return Err(damaged("the file is shorter than the disk"));
        }
        return Ok(Arc::new(Window { file: Some(file), start: 0, len: footer.size, read_only }));
    }
    let sparse = Sparse::read(&*file, &footer)?;
    let mut bytes = vec![0; sparse.entries as usize * 4];
    let have = file.read(&mut bytes, sparse.table);
    if have.map_err(ImageError::io("cannot read the block table"))? < bytes.len() {
        return Err(damaged("the file ends within its block table"));
    }
    let entries: Vec<u32> = bytes.chunks_exact(4).map(|entry| be32(entry, 0)).collect();
    let (bitmap, block) = (sparse.bitmap(), u64::from(sparse.block));
    // Behind everything there is, where the footer was.
    let fixed = (sparse.table + bytes.len() as u64).max(footer.next + SPARSE_HEADER as u64);
    let used = entries.iter().filter(|entry| **entry != NO_BLOCK);
    let last = used.map(|entry| u64::from(*entry) * SECTOR + bitmap + block).max().unwrap_or(0);
    let end = last.max(fixed).next_multiple_of(SECTOR);
    let layout = Table {
        footer: footer.bytes,
        table: sparse.table,
        entries,
        bitmap,
        block,
        end,
        dirty: BTreeSet::new(),
    };
    Ok(Arc::new(Blocks::new(file, layout, block, footer.size, read_only)))
}

struct Table {
    footer: [u8; FOOTER],
    table: u64,
    entries: Vec<u32>,
    bitmap: u64,
    block: u64,
    end: u64,
    dirty: BTreeSet<usize>,
}

impl Layout for Table {
    fn find(&mut self, _file: &dyn Storage, index: u64) -> io::Result<Place> {
        Ok(match self.entries.get(index as usize) {
            None | Some(&NO_BLOCK) => Place::Hole,
            Some(sector) => Place::Data(u64::from(*sector) * SECTOR + self.bitmap),
        })
    }

    fn append(&mut self, file: &dyn Storage, _index: u64) -> io::Result<u64> {
        if self.end / SECTOR >= NO_BLOCK.into() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write(&vec![0xff; self.bitmap as usize], self.end)?;
        Ok(self.end + self.bitmap)
    }

    fn link(&mut self, file: &dyn Storage, index: u64, host: u64) -> io::Result<()> {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            *entry = ((host - self.bitmap) / SECTOR) as u32;
            self.dirty.insert(index as usize);
        }
        self.end = host + self.block;
        // The file always ends with it.
        file.write(&self.footer, self.end)
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn write_back(&mut self, file: &dyn Storage) -> io::Result<()> {
        while let Some(index) = self.dirty.first().copied() {
            let entry = self.entries.get(index).copied().unwrap_or(NO_BLOCK);
            file.write(&entry.to_be_bytes(), self.table + index as u64 * 4)?;
            self.dirty.remove(&index);
        }
        Ok(())
    }
}

/// Cylinders, heads and sectors of a disk, as the specification's appendix computes them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(65535 * 16 * 255);
    if sectors > 65535 * 16 * 63 {
        return ((sectors / (16 * 255)) as u16, 16, 255);
    }
    let mut per_track = 17;
    let mut tracks = sectors / per_track;
    let mut heads = tracks.div_ceil(1024).max(4);
    if tracks >= heads * 1024 || heads > 16 {
        (per_track, heads) = (31, 16);
        tracks = sectors / per_track;
    }
    if tracks >= heads * 1024 {
        (per_track, heads) = (63, 16);
        tracks = sectors / per_track;
    }
    ((tracks / heads) as u16, heads as u8, per_track as u8)
}

/// Make an empty image; with `fixed`, a raw disk with a footer.
pub(crate) fn create(file: &dyn Storage, size: u64, fixed: bool) -> Result<(), ImageError> {
    let size = size.next_multiple_of(SECTOR);
    if size > MOST_SIZE {
        return Err(ImageError::Invalid("a VHD image can be of 2040 GiB".into()));
    }
    let mut footer = [0; FOOTER];
    put(&mut footer, 0, COOKIE);
    put(&mut footer, 8, &2_u32.to_be_bytes());
    put(&mut footer, 12, &0x0001_0000_u32.to_be_bytes());
    let next = if fixed { u64::MAX } else { FOOTER as u64 };
    put(&mut footer, 16, &next.to_be_bytes());
    // Readers believe the size of known programs, and of others the geometry, which is rounded.
    put(&mut footer, 28, b"qem2");
    put(&mut footer, 32, &0x0005_0003_u32.to_be_bytes());
    put(&mut footer, 36, b"Wi2k");
    put(&mut footer, 40, &size.to_be_bytes());
    put(&mut footer, 48, &size.to_be_bytes());
    let (cylinders, heads, sectors) = geometry(size / SECTOR);
    put(&mut footer, 56, &cylinders.to_be_bytes());
    put(&mut footer, 58, &[heads, sectors]);
    put(&mut footer, 60, &if fixed { FIXED } else { DYNAMIC }.to_be_bytes());
    put(&mut footer, 68, Uuid::new_v4().as_bytes());
    let sum = checksum(&footer, 64);
    put(&mut footer, 64, &sum.to_be_bytes());
    let write = || {
        file.set_len(0)?;
        if fixed {
            file.set_len(size)?;
            return file.write(&footer, size);
        }
        let entries = size.div_ceil(BLOCK.into());
        let table = (FOOTER + SPARSE_HEADER) as u64;
        let end = table + (entries * 4).next_multiple_of(SECTOR);
        file.write(&footer, 0)?;
        file.write(&sparse_header(table, entries as u32), FOOTER as u64)?;
        file.write(&vec![0xff; (end - table) as usize], table)?;
        file.write(&footer, end)
    };
    write().map_err(ImageError::io("cannot write the image"))
}

fn sparse_header(table: u64, entries: u32) -> [u8; SPARSE_HEADER] {
    let mut header = [0; SPARSE_HEADER];
    put(&mut header, 0, SPARSE_COOKIE);
    put(&mut header, 8, &u64::MAX.to_be_bytes());
    put(&mut header, 16, &table.to_be_bytes());
    put(&mut header, 24, &0x0001_0000_u32.to_be_bytes());
    put(&mut header, 28, &entries.to_be_bytes());
    put(&mut header, 32, &BLOCK.to_be_bytes());
    let sum = checksum(&header, 36);
    put(&mut header, 36, &sum.to_be_bytes());
    header
}
