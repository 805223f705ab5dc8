//! The header: read with every number checked, written back when something in it changes.

use super::bitmap::{self, Directory};
use super::snapshot;
use super::spec::*;
use crate::bytes::{be32, be64, put};
use crate::description::{Description, Reference};
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// A header that makes sense by itself.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) encryption: u32,
    pub(super) l1_size: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
    pub(super) incompatible: u64,
    pub(super) compatible: u64,
    pub(super) autoclear: u64,
    pub(super) refcount_order: u32,
    pub(super) compression: Compression,
    pub(super) backing: Option<Reference>,
    pub(super) data_file: Option<String>,
    /// Where the directory of dirty bitmaps lies. None also when whoever wrote to the image did not
    /// keep them: they say nothing then.
    pub(super) bitmaps: Option<Directory>,
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(Format::Qcow2, what)
}

fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::unsupported(Format::Qcow2, what)
}

impl Header {
    pub(super) fn read(file: &dyn Storage) -> Result<Self, ImageError> {
        let mut start = [0; FULL_HEADER as usize];
        let have = file.read(&mut start, 0).map_err(ImageError::io("cannot read the header"))?;
        if be32(&start, 0) != MAGIC {
            let reason = "its first bytes are others";
            return Err(ImageError::NotThis { format: Format::Qcow2, reason });
        }
        let version = be32(&start, 4);
        if !(2..=3).contains(&version) {
            return Err(unsupported(format!("version {version} of the format")));
        }
        let needed = if version == 2 { V2_HEADER } else { V3_HEADER };
        if have < needed as usize {
            return Err(damaged("the file ends within its header"));
        }
        let cluster_bits = be32(&start, 20);
        if !CLUSTER_BITS.contains(&cluster_bits) {
            return Err(damaged(format!("clusters of 2^{cluster_bits} bytes")));
        }
        let extended = version >= 3;
        let header_length = if extended { be32(&start, 100) } else { V2_HEADER };
        if header_length < needed || u64::from(header_length) > 1 << cluster_bits {
            return Err(damaged(format!("a header of {header_length} bytes")));
        }
        let feature = |at| if extended { be64(&start, at) } else { 0 };
        let mut header = Self {
            version,
            cluster_bits,
            size: be64(&start, 24),
            encryption: be32(&start, 32),
            l1_size: be32(&start, 36),
            l1_offset: be64(&start, 40),
            refcount_table_offset: be64(&start, 48),
            refcount_table_clusters: be32(&start, 56),
            snapshots: be32(&start, 60),
            snapshots_offset: be64(&start, 64),
            incompatible: feature(72),
            compatible: feature(80),
            autoclear: feature(88),
            refcount_order: if extended { be32(&start, 96) } else { 4 },
            compression: Compression::Zlib,
            backing: None,
            data_file: None,
            bitmaps: None,
        };
        let kind = if header_length > V3_HEADER { start[104] } else { 0 };
        header.read_names(file, header_length, be64(&start, 8), be32(&start, 16))?;
        header.check(kind)?;
        Ok(header)
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(super) fn has(&self, incompatible: u64) -> bool {
        self.incompatible & incompatible != 0
    }

    pub(super) fn l2_entry_size(&self) -> u64 {
        if self.has(INCOMPATIBLE_EXTENDED_L2) { 16 } else { 8 }
    }

    /// Guest bytes that one L2 table describes.
    pub(super) fn l2_coverage(&self) -> u64 {
        self.cluster_size() / self.l2_entry_size() * self.cluster_size()
    }

    pub(super) fn raw_data_file(&self) -> bool {
        self.autoclear & AUTOCLEAR_RAW_DATA != 0
    }

    pub(super) fn encryption_name(&self) -> Option<String> {
        match self.encryption {
            0 => None,
            1 => Some("AES".into()),
            2 => Some("LUKS".into()),
            other => Some(format!("number {other}")),
        }
    }

    fn check(&mut self, compression: u8) -> Result<(), ImageError> {
        let unknown = self.incompatible & !INCOMPATIBLE_KNOWN;
        if unknown != 0 {
            let bits: Vec<_> = (0..64).filter(|bit| unknown >> bit & 1 != 0).collect();
            return Err(unsupported(format!("unknown incompatible features (bits {bits:?})")));
        }
        self.compression = match (compression, self.has(INCOMPATIBLE_COMPRESSION)) {
            (0, false) => Compression::Zlib,
            (1, true) => Compression::Zstd,
            (0 | 1, _) => return Err(damaged("its compression type contradicts its features")),
            (other, _) => return Err(unsupported(format!("compression type {other}"))),
        };
        if self.refcount_order > 6 {
            return Err(damaged(format!("reference counts of 2^{} bits", self.refcount_order)));
        }
        if self.has(INCOMPATIBLE_EXTENDED_L2) && self.cluster_bits < 14 {
            return Err(damaged("clusters too small for subclusters"));
        }
        if self.raw_data_file() && !self.has(INCOMPATIBLE_DATA_FILE) {
            return Err(damaged("a raw data file without a data file"));
        }
        let most = i64::MAX as u64 - self.cluster_size();
        if self.size > most {
            return Err(damaged(format!("a size of {} bytes", self.size)));
        }
        check_l1(self.l1_offset, self.l1_size, self)?;
        if u64::from(self.l1_size) < self.size.div_ceil(self.l2_coverage()) {
            return Err(damaged("an L1 table too small for the image's size"));
        }
        let bytes = u64::from(self.refcount_table_clusters) << self.cluster_bits;
        if self.refcount_table_clusters == 0 || bytes > MOST_REFCOUNT_TABLE_BYTES {
            let count = self.refcount_table_clusters;
            return Err(damaged(format!("a refcount table of {count} clusters")));
        }
        self.check_place("refcount table", self.refcount_table_offset, bytes)?;
        if self.refcount_table_offset == 0 {
            return Err(damaged("a refcount table over its header"));
        }
        if self.snapshots > MOST_SNAPSHOTS {
            return Err(damaged(format!("{} snapshots", self.snapshots)));
        }
        if self.snapshots > 0 {
            self.check_place("snapshot table", self.snapshots_offset, 0)?;
        }
        if let Some(directory) = &self.bitmaps {
            self.check_place("bitmap directory", directory.offset, directory.size)?;
        }
        Ok(())
    }

    /// A table of whole entries, on a cluster's boundary and below any offset that overflows.
    pub(super) fn check_place(&self, what: &str, offset: u64, len: u64) -> Result<(), ImageError> {
        if !offset.is_multiple_of(self.cluster_size()) {
            return Err(damaged(format!("a {what} off a cluster's boundary")));
        }
        match offset.checked_add(len) {
            Some(end) if end <= OFFSET => Ok(()),
            _ => Err(damaged(format!("a {what} beyond any file's end"))),
        }
    }

    /// Header extensions, then the backing image's name: both inside the first cluster.
    fn read_names(
        &mut self,
        file: &dyn Storage,
        header_length: u32,
        name_offset: u64,
        name_len: u32,
    ) -> Result<(), ImageError> {
        // What can be in it is small, and a cluster may be 2 MiB.
        let mut cluster = vec![0; self.cluster_size() as usize];
        file.read(&mut cluster, 0).map_err(ImageError::io("cannot read the header"))?;
        let end = match name_offset {
            0 => cluster.len(),
            _ => usize::try_from(name_offset)
                .ok()
                .filter(|offset| *offset >= header_length as usize && *offset <= cluster.len())
                .ok_or_else(|| damaged("a backing file's name outside the first cluster"))?,
        };
        let mut format = None;
        let mut at = header_length as usize;
        while at + 8 <= end {
            let (kind, len) = (be32(&cluster, at), be32(&cluster, at + 4) as usize);
            at += 8;
            if kind == 0 {
                break;
            }
            let data = at.checked_add(len).filter(|stop| *stop <= end);
            let data = data.and_then(|stop| cluster.get(at..stop));
            let data = data.ok_or_else(|| damaged(format!("a header extension of {len} bytes")))?;
            match kind {
                EXTENSION_BACKING_FORMAT => format = Some(text("backing format", data, 64)?),
                EXTENSION_BITMAPS if self.autoclear & AUTOCLEAR_BITMAPS != 0 => {
                    self.bitmaps = Some(Directory::read(data)?);
                }
                EXTENSION_DATA_FILE => self.data_file = Some(text("data file", data, MOST_NAME)?),
                _ => {}
            }
            at += len.next_multiple_of(8);
        }
        if name_offset != 0 {
            if name_len > MOST_NAME {
                return Err(damaged(format!("a backing file's name of {name_len} bytes")));
            }
            let name = cluster.get(end..).and_then(|rest| rest.get(..name_len as usize));
            let name = name.ok_or_else(|| damaged("a backing file's name cut off"))?;
            let name = text("backing file", name, MOST_NAME)?;
            self.backing = Some(Reference { name, format });
        }
        Ok(())
    }

    /// Write the fields that have a fixed place. Names and extensions stay as they are.
    pub(super) fn write_fields(&self, file: &dyn Storage) -> std::io::Result<()> {
        let mut fields = [0; 48];
        put(&mut fields, 0, &self.size.to_be_bytes());
        put(&mut fields, 8, &self.encryption.to_be_bytes());
        put(&mut fields, 12, &self.l1_size.to_be_bytes());
        put(&mut fields, 16, &self.l1_offset.to_be_bytes());
        put(&mut fields, 24, &self.refcount_table_offset.to_be_bytes());
        put(&mut fields, 32, &self.refcount_table_clusters.to_be_bytes());
        put(&mut fields, 36, &self.snapshots.to_be_bytes());
        put(&mut fields, 40, &self.snapshots_offset.to_be_bytes());
        if self.version < 3 {
            return file.write(&fields, 24);
        }
        let mut all = fields.to_vec();
        all.extend(self.incompatible.to_be_bytes());
        all.extend(self.compatible.to_be_bytes());
        all.extend(self.autoclear.to_be_bytes());
        file.write(&all, 24)
    }
}

/// An L1 table's place and size, of the image or a snapshot.
pub(super) fn check_l1(offset: u64, entries: u32, header: &Header) -> Result<(), ImageError> {
    let bytes = u64::from(entries) * 8;
    if bytes > MOST_L1_BYTES {
        return Err(damaged(format!("an L1 table of {entries} entries")));
    }
    if entries > 0 && offset == 0 {
        return Err(damaged("an L1 table over its header"));
    }
    header.check_place("L1 table", offset, bytes)
}

/// A name in the header: text, without the zero bytes that would end it early elsewhere.
fn text(what: &str, bytes: &[u8], most: u32) -> Result<String, ImageError> {
    if bytes.is_empty() || bytes.len() > most as usize {
        return Err(damaged(format!("a {what}'s name of {} bytes", bytes.len())));
    }
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.contains('\0') => Ok(name.to_owned()),
        _ => Err(damaged(format!("a {what}'s name that is no text"))),
    }
}

/// What a qcow2 image says of itself.
///
/// # Errors
/// As for opening it, but for encryption.
pub fn describe(file: &dyn Storage) -> Result<Description, ImageError> {
    let header = Header::read(file)?;
    let mut description = Description::new(Format::Qcow2, header.size);
    description.cluster_size = Some(header.cluster_size());
    description.backing.clone_from(&header.backing);
    if header.has(INCOMPATIBLE_DATA_FILE) {
        let name = header.data_file.clone();
        let missing = || damaged("a data file without a name");
        description.data_file = Some(name.ok_or_else(missing)?);
    }
    description.encryption = header.encryption_name();
    let table = snapshot::read_table(file, &header)?;
    description.snapshots = table.iter().map(|snapshot| snapshot.info.clone()).collect();
    description.bitmaps = bitmap::list(file, &header)?;
    description.dirty = header.has(INCOMPATIBLE_DIRTY);
    description.corrupt = header.has(INCOMPATIBLE_CORRUPT);
    if description.corrupt {
        description.read_only = Some("it is marked as corrupt; repair it first".into());
    }
    let lazy = header.compatible & COMPATIBLE_LAZY_REFCOUNTS != 0;
    let mut detail = |name: &str, value: String| {
        description.details.push((name.to_owned(), value));
    };
    detail("compat", if header.version == 2 { "0.10" } else { "1.1" }.to_owned());
    detail("compression type", header.compression.name().to_owned());
    detail("refcount bits", (1_u32 << header.refcount_order).to_string());
    if header.version >= 3 {
        detail("lazy refcounts", lazy.to_string());
        detail("corrupt", header.has(INCOMPATIBLE_CORRUPT).to_string());
        detail("extended l2", header.has(INCOMPATIBLE_EXTENDED_L2).to_string());
    }
    if header.has(INCOMPATIBLE_DATA_FILE) {
        detail("data file raw", header.raw_data_file().to_string());
    }
    Ok(description)
}
