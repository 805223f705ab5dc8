//! A sparse extent: grains, behind a directory of tables. Everything in it is little-endian.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress};

use super::{SECTOR, damaged};
use crate::blocks::{Blocks, Layout, Place};
use crate::bytes::{le16, le32, le64, put};
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;
use crate::view::Image;

/// `KDMV`
pub(crate) const MAGIC: u32 = 0x564d_444b;
const HEADER: usize = 512;
/// Entries of a table.
const PER_TABLE: u32 = 512;
const TABLE_BYTES: u64 = 4 * PER_TABLE as u64;
const GRAIN: u64 = 128;

const FLAG_NEWLINES: u32 = 1 << 0;
const FLAG_SECOND_DIRECTORY: u32 = 1 << 1;
const FLAG_ZERO_GRAINS: u32 = 1 << 2;
const FLAG_COMPRESSED: u32 = 1 << 16;
const FLAG_MARKERS: u32 = 1 << 17;
/// The directory stands in a footer at the file's end.
const AT_END: u64 = u64::MAX;
const ZERO_GRAIN: u32 = 1;
/// A directory of 8 MiB, of a disk of 64 TiB.
const MOST_TABLES: u64 = 1 << 21;
const MOST_DESCRIPTOR: u64 = 2048;

#[derive(Debug, Clone)]
pub(super) struct Header {
    version: u32,
    flags: u32,
    /// Sectors.
    pub(super) capacity: u64,
    /// Sectors.
    pub(super) grain: u64,
    descriptor: (u64, u64),
    second_directory: u64,
    directory: u64,
    compression: u16,
}

impl Header {
    pub(super) fn read(file: &dyn Storage) -> Result<Self, ImageError> {
        let first = Self::read_at(file, 0)?;
        if first.directory != AT_END {
            return Ok(first);
        }
        // Marker, footer, end of stream: one sector each.
        let size = file.size().map_err(ImageError::io("cannot find the image's size"))?;
        let at = size.checked_sub(2 * SECTOR).ok_or_else(|| damaged("no footer"))?;
        let last = Self::read_at(file, at)?;
        if last.directory == AT_END || last.capacity != first.capacity || last.grain != first.grain
        {
            return Err(damaged("a footer that contradicts the header"));
        }
        Ok(last)
    }

    fn read_at(file: &dyn Storage, at: u64) -> Result<Self, ImageError> {
        let mut bytes = [0; HEADER];
        let have = file.read(&mut bytes, at).map_err(ImageError::io("cannot read the header"))?;
        if have < HEADER || le32(&bytes, 0) != MAGIC {
            return Err(damaged("no header where there should be one"));
        }
        let header = Self {
            version: le32(&bytes, 4),
            flags: le32(&bytes, 8),
            capacity: le64(&bytes, 12),
            grain: le64(&bytes, 20),
            descriptor: (le64(&bytes, 28), le64(&bytes, 36)),
            second_directory: le64(&bytes, 48),
            directory: le64(&bytes, 56),
            compression: le16(&bytes, 77),
        };
        if !(1..=3).contains(&header.version) {
            let what = format!("version {} of the format", header.version);
            return Err(ImageError::unsupported(Format::Vmdk, what));
        }
        if header.flags & FLAG_NEWLINES != 0 && bytes[73..77] != *b"\n \r\n" {
            return Err(damaged("line ends that were changed on the way, as by a text transfer"));
        }
        if !header.grain.is_power_of_two() || !(1..=2048).contains(&header.grain) {
            return Err(damaged(format!("grains of {} sectors", header.grain)));
        }
        if le32(&bytes, 44) != PER_TABLE {
            let count = le32(&bytes, 44);
            return Err(damaged(format!("tables of {count} entries")));
        }
        if header.capacity > 1 << 50 || header.tables() > MOST_TABLES {
            return Err(damaged(format!("a disk of {} sectors", header.capacity)));
        }
        match (header.flags & FLAG_COMPRESSED != 0, header.compression) {
            (false, _) | (true, 1) => {}
            (true, other) => {
                let what = format!("compression number {other}");
                return Err(ImageError::unsupported(Format::Vmdk, what));
            }
        }
        Ok(header)
    }

    fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain * u64::from(PER_TABLE))
    }

    /// The text inside the extent.
    pub(super) fn descriptor(&self, file: &dyn Storage) -> Result<Option<Vec<u8>>, ImageError> {
        let (at, len) = self.descriptor;
        if at == 0 || len == 0 {
            return Ok(None);
        }
        if len > MOST_DESCRIPTOR || at > 1 << 50 {
            return Err(damaged("a descriptor out of place"));
        }
        let mut text = vec![0; (len * SECTOR) as usize];
        let read = file.read(&mut text, at * SECTOR);
        read.map_err(ImageError::io("cannot read the descriptor"))?;
        Ok(Some(text))
    }

    fn is_compressed(&self) -> bool {
        self.flags & FLAG_COMPRESSED != 0
    }

    fn read_directory(&self, file: &dyn Storage, at: u64) -> Result<Vec<u32>, ImageError> {
        let mut bytes = vec![0; self.tables() as usize * 4];
        if at == 0 || at > 1 << 50 {
            return Err(damaged("a grain directory out of place"));
        }
        let have = file.read(&mut bytes, at * SECTOR);
        if have.map_err(ImageError::io("cannot read the grain directory"))? < bytes.len() {
            return Err(damaged("the file ends within its grain directory"));
        }
        Ok(bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect())
    }
}

pub(super) fn open(
    file: Arc<dyn Storage>,
    header: &Header,
    read_only: bool,
) -> Result<Box<dyn Image>, ImageError> {
    if header.is_compressed() && !read_only {
        let reason = "a stream-optimised image is written once; convert it";
        return Err(ImageError::NotWritable { reason: reason.into() });
    }
    let directory = header.read_directory(&*file, header.directory)?;
    let second = match header.flags & FLAG_SECOND_DIRECTORY != 0 {
        true => Some(header.read_directory(&*file, header.second_directory)?),
        false => None,
    };
    let end = file.size().map_err(ImageError::io("cannot find the image's size"))?;
    let grain = header.grain * SECTOR;
    let layout = Grains {
        header: header.clone(),
        directory,
        second,
        tables: BTreeMap::new(),
        dirty: BTreeSet::new(),
        end: end.next_multiple_of(grain),
    };
    Ok(Box::new(Blocks::new(file, layout, grain, header.capacity * SECTOR, read_only)))
}

struct Grains {
    header: Header,
    /// Sectors of the tables.
    directory: Vec<u32>,
    second: Option<Vec<u32>>,
    /// Tables that were used, by their number.
    tables: BTreeMap<usize, Vec<u32>>,
    dirty: BTreeSet<usize>,
    end: u64,
}

fn split(index: u64) -> (usize, usize) {
    ((index / u64::from(PER_TABLE)) as usize, (index % u64::from(PER_TABLE)) as usize)
}

impl Grains {
    fn table(&mut self, file: &dyn Storage, number: usize) -> io::Result<Option<&mut Vec<u32>>> {
        let sector = self.directory.get(number).copied().unwrap_or(0);
        if sector == 0 {
            return Ok(None);
        }
        if let std::collections::btree_map::Entry::Vacant(place) = self.tables.entry(number) {
            let mut bytes = [0; TABLE_BYTES as usize];
            if file.read(&mut bytes, u64::from(sector) * SECTOR)? < bytes.len() {
                return Err(damaged("a grain table beyond the file's end").into());
            }
            place.insert(bytes.chunks_exact(4).map(|entry| le32(entry, 0)).collect());
        }
        Ok(self.tables.get_mut(&number))
    }

    /// A table for a part of the disk that has none, with its entry in the directory.
    fn make_table(&mut self, file: &dyn Storage, number: usize) -> io::Result<()> {
        let copies = if self.second.is_some() { 2 } else { 1 };
        file.write_zeroes(self.end, copies * TABLE_BYTES, false)?;
        file.sync()?;
        let mut place = |directory: &mut Vec<u32>, at: u64| -> io::Result<()> {
            let sector =
                u32::try_from(self.end / SECTOR).map_err(|_| io::ErrorKind::StorageFull)?;
            let entry = directory.get_mut(number).ok_or(io::ErrorKind::InvalidInput)?;
            *entry = sector;
            self.end += TABLE_BYTES;
            file.write(&sector.to_le_bytes(), at * SECTOR + number as u64 * 4)
        };
        place(&mut self.directory, self.header.directory)?;
        if let Some(second) = &mut self.second {
            place(second, self.header.second_directory)?;
        }
        self.end = self.end.next_multiple_of(self.header.grain * SECTOR);
        self.tables.insert(number, vec![0; PER_TABLE as usize]);
        Ok(())
    }
}

impl Layout for Grains {
    fn find(&mut self, file: &dyn Storage, index: u64) -> io::Result<Place> {
        let (number, entry) = split(index);
        let zeros = self.header.flags & FLAG_ZERO_GRAINS != 0;
        let packed = self.header.is_compressed();
        let Some(table) = self.table(file, number)? else { return Ok(Place::Hole) };
        let offset = |sector: u32| u64::from(sector) * SECTOR;
        Ok(match table.get(entry).copied().unwrap_or(0) {
            0 => Place::Hole,
            ZERO_GRAIN if zeros => Place::Zero,
            sector if packed => Place::Packed(offset(sector)),
            sector => Place::Data(offset(sector)),
        })
    }

    fn append(&mut self, file: &dyn Storage, index: u64) -> io::Result<u64> {
        let (number, _) = split(index);
        if self.table(file, number)?.is_none() {
            self.make_table(file, number)?;
        }
        if self.end / SECTOR >= u32::MAX.into() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(self.end)
    }

    fn link(&mut self, file: &dyn Storage, index: u64, host: u64) -> io::Result<()> {
        let (number, entry) = split(index);
        let sector = (host / SECTOR) as u32;
        if let Some(place) = self.table(file, number)?.and_then(|table| table.get_mut(entry)) {
            *place = sector;
            self.dirty.insert(number);
            self.end = host + self.header.grain * SECTOR;
        }
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn write_back(&mut self, file: &dyn Storage) -> io::Result<()> {
        while let Some(number) = self.dirty.first().copied() {
            let table = self.tables.get(&number).map(Vec::as_slice).unwrap_or_default();
            let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            let second = self.second.as_ref().and_then(|second| second.get(number));
            for sector in second.into_iter().chain(self.directory.get(number)) {
                if *sector != 0 {
                    file.write(&bytes, u64::from(*sector) * SECTOR)?;
                }
            }
            self.dirty.remove(&number);
        }
        Ok(())
    }

    /// With markers, a grain has its address and length in front.
    fn unpack(&mut self, file: &dyn Storage, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let broken = || io::Error::from(damaged("a compressed grain that does not unpack"));
        let mut start = [0; 12];
        file.read(&mut start, offset)?;
        let (skip, len) = match self.header.flags & FLAG_MARKERS != 0 {
            true => (12, le32(&start, 8) as usize),
            false => (0, out.len() * 2),
        };
        if len > out.len() * 2 + 1024 {
            return Err(broken());
        }
        let mut bytes = vec![0; len];
        file.read(&mut bytes, offset + skip)?;
        let mut inflate = Decompress::new(true);
        let status = inflate.decompress(&bytes, out, FlushDecompress::Finish);
        let done = inflate.total_out() as usize;
        status.map_err(|_| broken())?;
        // The last grain may be short.
        out.get_mut(done..).ok_or_else(broken)?.fill(0);
        if done == 0 { Err(broken()) } else { Ok(()) }
    }
}

/// Make an empty image, all in one file; `name` is the file's own.
pub(crate) fn create(file: &dyn Storage, size: u64, name: &str) -> Result<(), ImageError> {
    let capacity = size.div_ceil(SECTOR);
    let header = Header {
        version: 1,
        flags: FLAG_NEWLINES | FLAG_SECOND_DIRECTORY,
        capacity,
        grain: GRAIN,
        descriptor: (1, 20),
        second_directory: 21,
        directory: 0,
        compression: 0,
    };
    let tables = header.tables();
    if tables > MOST_TABLES / 32 {
        return Err(ImageError::Invalid("a VMDK image can be of 2 TiB".into()));
    }
    // Twice the same: a directory, then its tables.
    let directory = (tables * 4).div_ceil(SECTOR);
    let one = directory + tables * (TABLE_BYTES / SECTOR);
    let second = header.second_directory;
    let first = second + one;
    let data = (first + one).next_multiple_of(GRAIN);
    let mut bytes = [0; HEADER];
    put(&mut bytes, 0, &MAGIC.to_le_bytes());
    put(&mut bytes, 4, &header.version.to_le_bytes());
    put(&mut bytes, 8, &header.flags.to_le_bytes());
    for (at, value) in
        [(12, capacity), (20, GRAIN), (28, 1), (36, 20), (48, second), (56, first), (64, data)]
    {
        put(&mut bytes, at, &value.to_le_bytes());
    }
    put(&mut bytes, 44, &PER_TABLE.to_le_bytes());
    put(&mut bytes, 73, b"\n \r\n");
    let text = descriptor(capacity, name);
    if text.len() as u64 > 20 * SECTOR {
        return Err(ImageError::Invalid("the image's name is too long".into()));
    }
    let entries = |start: u64| -> Vec<u8> {
        let tables = (0..tables).map(|n| start + directory + n * (TABLE_BYTES / SECTOR));
        tables.flat_map(|sector| (sector as u32).to_le_bytes()).collect()
    };
    let write = || {
        file.set_len(0)?;
        file.set_len(data * SECTOR)?;
        file.write(&bytes, 0)?;
        file.write(text.as_bytes(), SECTOR)?;
        file.write(&entries(second), second * SECTOR)?;
        file.write(&entries(first), first * SECTOR)
    };
    write().map_err(ImageError::io("cannot write the image"))
}

fn descriptor(capacity: u64, name: &str) -> String {
    let id = uuid::Uuid::new_v4().as_fields().0;
    let cylinders = (capacity / (63 * 16)).min(16383);
    // Quotes would end the name.
    let name = name.replace(['"', '\n'], "_");
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={id:08x}\nparentCID=ffffffff\n\
         createType=\"monolithicSparse\"\n\n# Extent description\nRW {capacity} SPARSE \"{name}\"\n\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"16\"\n\
         ddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n"
    )
}
