//! Numbers of the format.

pub const MAGIC: u32 = 0x5146_49fb;

pub(super) const V2_HEADER: u32 = 72;
pub(super) const V3_HEADER: u32 = 104;
/// With the compression type.
pub(super) const FULL_HEADER: u32 = 112;

pub(super) const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
pub(super) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
pub(super) const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
pub(super) const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
pub(super) const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
pub(super) const INCOMPATIBLE_KNOWN: u64 = (1 << 5) - 1;

pub(super) const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1 << 0;

/// Dirty bitmaps are up to date.
pub(super) const AUTOCLEAR_BITMAPS: u64 = 1 << 0;
/// The data file reads as a raw image by itself.
pub(super) const AUTOCLEAR_RAW_DATA: u64 = 1 << 1;

pub(super) const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
pub(super) const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
pub(super) const EXTENSION_BITMAPS: u32 = 0x2385_2875;
pub(super) const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;

/// Of L1 and L2 entries: the reference count is exactly one, so it may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
/// Of L2 entries.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// Of L2 entries without subclusters, since version 3.
pub(super) const ZERO: u64 = 1;
/// Host offset in L1 and L2 entries.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
pub(super) const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
pub(super) const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
pub(super) const REFCOUNT_TABLE_RESERVED: u64 = 0x1ff;

pub(super) const SUBCLUSTERS: u64 = 32;

/// Limits beyond which an image is refused, those of QEMU.
pub(super) const MOST_L1_BYTES: u64 = 32 << 20;
pub(super) const MOST_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
pub(super) const MOST_SNAPSHOTS: u32 = 65536;
pub(super) const MOST_SNAPSHOT_TABLE_BYTES: u64 = 16 << 20;
pub(super) const MOST_SNAPSHOT_EXTRA: u32 = 1024;
/// QEMU keeps a name in 256 bytes with a zero at the end.
pub(super) const MOST_SNAPSHOT_NAME: usize = 255;
pub(super) const MOST_NAME: u32 = 1023;
pub(super) const MOST_BITMAPS: u32 = 65535;
pub(super) const MOST_BITMAP_DIRECTORY: u64 = 16 << 20;
pub(super) const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without a header.
    Zlib,
    Zstd,
}

impl Compression {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }
}
