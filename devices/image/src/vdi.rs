//! VDI, VirtualBox's format: a table of blocks of 1 MiB. Everything in it is little-endian.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use uuid::Uuid;

use crate::blocks::{Blocks, Layout, Place};
use crate::bytes::{le32, le64, put};
use crate::description::Description;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;
use crate::view::Image;

pub(crate) const SIGNATURE: u32 = 0xbeda_107f;
const TEXT: &[u8] = b"<<< Manor VM Virtual Disk Image >>>\n";
const HEADER: usize = 512;
const BLOCK: u64 = 1 << 20;
const DYNAMIC: u32 = 1;
const FIXED: u32 = 2;
const NO_BLOCK: u32 = u32::MAX;
const ZERO_BLOCK: u32 = u32::MAX - 1;
/// A table of 64 MiB, of a disk of 16 TiB.
const MOST_BLOCKS: u32 = 1 << 24;

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u32,
    table: u64,
    data: u64,
    size: u64,
    blocks: u32,
    allocated: u32,
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(Format::Vdi, what)
}

impl Header {
    fn read(file: &dyn Storage) -> Result<Self, ImageError> {
        let mut bytes = [0; HEADER];
        let have = file.read(&mut bytes, 0).map_err(ImageError::io("cannot read the header"))?;
        if le32(&bytes, 0x40) != SIGNATURE {
            let reason = "its signature is another";
            return Err(ImageError::NotThis { format: Format::Vdi, reason });
        }
        if have < HEADER {
            return Err(damaged("the file ends within its header"));
        }
        let version = le32(&bytes, 0x44);
        if version != 0x0001_0001 {
            let what = format!("version {}.{} of the format", version >> 16, version & 0xffff);
            return Err(ImageError::unsupported(Format::Vdi, what));
        }
        let header = Self {
            kind: le32(&bytes, 0x4c),
            table: le32(&bytes, 0x154).into(),
            data: le32(&bytes, 0x158).into(),
            size: le64(&bytes, 0x170),
            blocks: le32(&bytes, 0x180),
            allocated: le32(&bytes, 0x184),
        };
        let linked = bytes[0x1a8..0x1c8].iter().any(|byte| *byte != 0);
        if !matches!(header.kind, DYNAMIC | FIXED) || linked {
            let what = "a parent image (snapshots of VirtualBox)";
            return Err(ImageError::unsupported(Format::Vdi, what));
        }
        if le32(&bytes, 0x168) != 512 || le32(&bytes, 0x178) != BLOCK as u32 {
            return Err(ImageError::unsupported(Format::Vdi, "blocks that are not of 1 MiB"));
        }
        if header.blocks > MOST_BLOCKS {
            return Err(ImageError::unsupported(Format::Vdi, "a disk of more than 16 TiB"));
        }
        if header.size > u64::from(header.blocks) * BLOCK {
            return Err(damaged("a table too small for the disk"));
        }
        if !header.table.is_multiple_of(512) || !header.data.is_multiple_of(512) {
            return Err(damaged("a table off a sector's boundary"));
        }
        let end = header.table + u64::from(header.blocks) * 4;
        if header.table < HEADER as u64 || end > header.data {
            return Err(damaged("a table over the header or the data"));
        }
        Ok(header)
    }
}

pub(crate) fn describe(file: &dyn Storage) -> Result<Description, ImageError> {
    let header = Header::read(file)?;
    let mut description = Description::new(Format::Vdi, header.size);
    description.cluster_size = Some(BLOCK);
    let kind = if header.kind == FIXED { "fixed" } else { "dynamic" };
    description.details.push(("image type".into(), kind.into()));
    Ok(description)
}

pub(crate) fn open(file: Arc<dyn Storage>, read_only: bool) -> Result<Arc<dyn Image>, ImageError> {
    let header = Header::read(&*file)?;
    let mut bytes = vec![0; header.blocks as usize * 4];
    let have = file.read(&mut bytes, header.table);
    if have.map_err(ImageError::io("cannot read the block table"))? < bytes.len() {
        return Err(damaged("the file ends within its block table"));
    }
    let entries: Vec<u32> = bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect();
    // The header's count may be stale: no new block lies over an old one.
    let used = entries.iter().filter(|entry| **entry < ZERO_BLOCK).max();
    let next = header.allocated.max(used.map_or(0, |last| last.saturating_add(1)));
    let layout = Table { header, entries, next, dirty: BTreeSet::new() };
    Ok(Arc::new(Blocks::new(file, layout, BLOCK, header.size, read_only)))
}

struct Table {
    header: Header,
    entries: Vec<u32>,
    /// Number of the next block in the file.
    next: u32,
    dirty: BTreeSet<usize>,
}

impl Layout for Table {
    fn find(&mut self, _file: &dyn Storage, index: u64) -> io::Result<Place> {
        Ok(match self.entries.get(index as usize) {
            None | Some(&NO_BLOCK) => Place::Hole,
            Some(&ZERO_BLOCK) => Place::Zero,
            Some(number) => Place::Data(self.header.data + u64::from(*number) * BLOCK),
        })
    }

    fn append(&mut self, _file: &dyn Storage, _index: u64) -> io::Result<u64> {
        if self.next >= MOST_BLOCKS {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.header.data + u64::from(self.next) * BLOCK)
    }

    fn link(&mut self, _file: &dyn Storage, index: u64, host: u64) -> io::Result<()> {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            *entry = ((host - self.header.data) / BLOCK) as u32;
            self.next = *entry + 1;
            self.dirty.insert(index as usize);
        }
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn write_back(&mut self, file: &dyn Storage) -> io::Result<()> {
        file.write(&self.next.to_le_bytes(), 0x184)?;
        while let Some(index) = self.dirty.first().copied() {
            let entry = self.entries.get(index).copied().unwrap_or(NO_BLOCK);
            file.write(&entry.to_le_bytes(), self.header.table + index as u64 * 4)?;
            self.dirty.remove(&index);
        }
        Ok(())
    }
}

/// Make an empty image; with `fixed`, its blocks are all there.
pub(crate) fn create(file: &dyn Storage, size: u64, fixed: bool) -> Result<(), ImageError> {
    let size = size.next_multiple_of(512);
    let blocks = size.div_ceil(BLOCK);
    if blocks > MOST_BLOCKS.into() {
        return Err(ImageError::Invalid("a VDI image can be of 16 TiB here".into()));
    }
    let data = (HEADER as u64 + blocks * 4).next_multiple_of(4096);
    let mut header = [0; HEADER];
    put(&mut header, 0, TEXT);
    let mut number = |at, value: u32| put(&mut header, at, &value.to_le_bytes());
    number(0x40, SIGNATURE);
    number(0x44, 0x0001_0001);
    number(0x48, 0x180);
    number(0x4c, if fixed { FIXED } else { DYNAMIC });
    number(0x154, HEADER as u32);
    number(0x158, data as u32);
    number(0x168, 512);
    number(0x178, BLOCK as u32);
    number(0x180, blocks as u32);
    number(0x184, if fixed { blocks as u32 } else { 0 });
    put(&mut header, 0x170, &size.to_le_bytes());
    put(&mut header, 0x188, Uuid::new_v4().as_bytes());
    put(&mut header, 0x198, Uuid::new_v4().as_bytes());
    let entry = |index| if fixed { index } else { NO_BLOCK };
    let table: Vec<u8> = (0..blocks as u32).flat_map(|index| entry(index).to_le_bytes()).collect();
    let len = data + if fixed { blocks * BLOCK } else { 0 };
    let write = || {
        file.set_len(0)?;
        file.set_len(len)?;
        file.write(&header, 0)?;
        file.write(&table, HEADER as u64)
    };
    write().map_err(ImageError::io("cannot write the image"))
}
