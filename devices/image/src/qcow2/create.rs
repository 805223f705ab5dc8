//! Making an empty image.

use super::spec::*;
use crate::bytes::put;
use crate::description::Reference;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    pub size: u64,
    pub cluster_size: u64,
    /// 2 or 3 (qemu-img's compat 0.10 and 1.1).
    pub version: u32,
    pub refcount_bits: u32,
    pub lazy_refcounts: bool,
    pub extended_l2: bool,
    pub compression: Compression,
    pub backing: Option<Reference>,
    /// Name of an empty file that the caller has made.
    pub data_file: Option<String>,
    pub data_file_raw: bool,
}

impl CreateOptions {
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            size,
            cluster_size: 1 << 16,
            version: 3,
            refcount_bits: 16,
            lazy_refcounts: false,
            extended_l2: false,
            compression: Compression::Zlib,
            backing: None,
            data_file: None,
            data_file_raw: false,
        }
    }

    fn check(&self) -> Result<(), ImageError> {
        let refuse = |what: String| Err(ImageError::Invalid(what));
        let size = self.cluster_size;
        if !size.is_power_of_two() || !CLUSTER_BITS.contains(&size.ilog2()) {
            return refuse(format!("a cluster has 512 bytes to 2 MiB, a power of two; not {size}"));
        }
        if !(2..=3).contains(&self.version) {
            return refuse(format!("there is no version {} of qcow2", self.version));
        }
        if !self.refcount_bits.is_power_of_two() || self.refcount_bits > 64 {
            let bits = self.refcount_bits;
            return refuse(format!(
                "a reference count has 1 to 64 bits, a power of two; not {bits}"
            ));
        }
        let new = self.refcount_bits != 16
            || self.lazy_refcounts
            || self.extended_l2
            || self.compression != Compression::Zlib
            || self.data_file.is_some();
        if self.version < 3 && new {
            return refuse("compat=0.10 knows none of the other options; use compat=1.1".into());
        }
        if self.extended_l2 && size < 1 << 14 {
            return refuse("extended_l2 needs clusters of 16 KiB or more".into());
        }
        if self.data_file_raw && (self.data_file.is_none() || self.backing.is_some()) {
            return refuse("data_file_raw needs a data file and no backing image".into());
        }
        let entry = if self.extended_l2 { 16 } else { 8 };
        let coverage = size / entry * size;
        if self.size > i64::MAX as u64 / 2 || self.size.div_ceil(coverage) * 8 > MOST_L1_BYTES {
            return refuse(format!("{} bytes are too many for clusters of {size}", self.size));
        }
        Ok(())
    }

    /// The header with its extensions and names.
    fn header(&self, l1_size: u32) -> Result<Vec<u8>, ImageError> {
        let v3 = self.version >= 3;
        let fixed = if v3 { FULL_HEADER } else { V2_HEADER };
        let mut header = vec![0; fixed as usize];
        put(&mut header, 0, &MAGIC.to_be_bytes());
        put(&mut header, 4, &self.version.to_be_bytes());
        put(&mut header, 20, &self.cluster_size.ilog2().to_be_bytes());
        put(&mut header, 24, &self.size.to_be_bytes());
        put(&mut header, 36, &l1_size.to_be_bytes());
        put(&mut header, 40, &(3 * self.cluster_size).to_be_bytes());
        put(&mut header, 48, &self.cluster_size.to_be_bytes());
        put(&mut header, 56, &1_u32.to_be_bytes());
        if v3 {
            let mut incompatible = 0;
            let mut set = |wanted, bit| incompatible |= if wanted { bit } else { 0 };
            set(self.data_file.is_some(), INCOMPATIBLE_DATA_FILE);
            set(self.compression != Compression::Zlib, INCOMPATIBLE_COMPRESSION);
            set(self.extended_l2, INCOMPATIBLE_EXTENDED_L2);
            let compatible = if self.lazy_refcounts { COMPATIBLE_LAZY_REFCOUNTS } else { 0 };
            let autoclear = if self.data_file_raw { AUTOCLEAR_RAW_DATA } else { 0 };
            put(&mut header, 72, &incompatible.to_be_bytes());
            put(&mut header, 80, &compatible.to_be_bytes());
            put(&mut header, 88, &autoclear.to_be_bytes());
            put(&mut header, 96, &self.refcount_bits.ilog2().to_be_bytes());
            put(&mut header, 100, &FULL_HEADER.to_be_bytes());
            header[104] = u8::from(self.compression == Compression::Zstd);
        }
        let mut extension = |kind: u32, data: &[u8]| {
            header.extend(kind.to_be_bytes());
            header.extend((data.len() as u32).to_be_bytes());
            header.extend(data);
            header.resize(header.len().next_multiple_of(8), 0);
        };
        if let Some(format) = self.backing.as_ref().and_then(|backing| backing.format.as_ref()) {
            extension(EXTENSION_BACKING_FORMAT, format.as_bytes());
        }
        if let Some(name) = &self.data_file {
            extension(EXTENSION_DATA_FILE, name.as_bytes());
        }
        if v3 {
            extension(EXTENSION_FEATURE_NAMES, &feature_names());
        }
        extension(0, &[]);
        if let Some(backing) = &self.backing {
            let (at, len) = (header.len() as u64, backing.name.len() as u32);
            put(&mut header, 8, &at.to_be_bytes());
            put(&mut header, 16, &len.to_be_bytes());
            header.extend(backing.name.as_bytes());
            if len > MOST_NAME {
                return Err(ImageError::Invalid("the backing image's name is too long".into()));
            }
        }
        if header.len() as u64 > self.cluster_size {
            let text = "the names do not fit into the first cluster; use larger clusters";
            return Err(ImageError::Invalid(text.into()));
        }
        Ok(header)
    }
}

/// Lets older programs say which feature they lack.
fn feature_names() -> Vec<u8> {
    let names: [(u8, u8, &str); 7] = [
        (0, 0, "dirty bit"),
        (0, 1, "corrupt bit"),
        (0, 2, "external data file"),
        (0, 3, "compression type"),
        (0, 4, "extended L2 entries"),
        (1, 0, "lazy refcounts"),
        (2, 1, "raw external data"),
    ];
    let mut table = Vec::new();
    for (kind, bit, name) in names {
        table.extend([kind, bit]);
        table.extend(name.as_bytes());
        table.resize(table.len().next_multiple_of(48), 0);
    }
    table
}

/// Make an empty image in `file`, which is empty itself.
///
/// # Errors
/// When the options do not go together, or the host refuses.
pub fn create(file: &dyn Storage, options: &CreateOptions) -> Result<(), ImageError> {
    // Sectors are whole, as other programs have it.
    let size = options.size.checked_next_multiple_of(512).unwrap_or(u64::MAX);
    let options = &CreateOptions { size, ..options.clone() };
    options.check()?;
    let cluster = options.cluster_size;
    let entry = if options.extended_l2 { 16 } else { 8 };
    let coverage = cluster / entry * cluster;
    // At most 4 Mi entries.
    let l1_size = options.size.div_ceil(coverage).max(1) as u32;
    let header = options.header(l1_size)?;
    let l1_clusters = (u64::from(l1_size) * 8).div_ceil(cluster);
    write(file, options, &header, 3 + l1_clusters).map_err(|source| match source.kind() {
        std::io::ErrorKind::InvalidData => ImageError::damaged(Format::Qcow2, source.to_string()),
        _ => ImageError::Io { act: "cannot write the image", source },
    })
}

/// Header, refcount table, one refcount block, L1 table; the clusters of the latter that one block
/// cannot count are counted by the blocks that follow.
fn write(
    file: &dyn Storage,
    options: &CreateOptions,
    header: &[u8],
    fixed: u64,
) -> std::io::Result<()> {
    let cluster = options.cluster_size;
    let per_block = cluster * 8 / u64::from(options.refcount_bits);
    let mut blocks = 1;
    while blocks * per_block < fixed + blocks - 1 {
        blocks += 1;
    }
    let used = fixed + blocks - 1;
    file.set_len(0)?;
    file.write_zeroes(0, used * cluster, false)?;
    // Of small clusters and a large L1 table: the further blocks lie behind it.
    let place = |block: u64| if block == 0 { 2 } else { fixed + block - 1 } * cluster;
    for block in 0..blocks {
        file.write(&place(block).to_be_bytes(), cluster + block * 8)?;
        let count = per_block.min(used - block * per_block);
        file.write(&ones(count, options.refcount_bits), place(block))?;
    }
    file.write(header, 0)?;
    file.sync()
}

/// That many counts of one.
fn ones(count: u64, bits: u32) -> Vec<u8> {
    if bits >= 8 {
        let width = bits as usize / 8;
        let mut bytes = vec![0; count as usize * width];
        bytes.iter_mut().skip(width - 1).step_by(width).for_each(|byte| *byte = 1);
        return bytes;
    }
    let per_byte = u64::from(8 / bits);
    let mut bytes = vec![0_u8; count.div_ceil(per_byte) as usize];
    for at in 0..count {
        bytes[(at / per_byte) as usize] |= 1 << (at % per_byte * u64::from(bits));
    }
    bytes
}
