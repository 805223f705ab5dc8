//! Constants and layouts of virtio 1.2 §5.2.

pub(super) const DEVICE_TYPE: u16 = 2;

pub(super) const SECTOR: u64 = 512;
pub(super) const ID_LEN: usize = 20;

pub(super) const F_SEG_MAX: u64 = 1 << 2;
pub(super) const F_RO: u64 = 1 << 5;
pub(super) const F_BLK_SIZE: u64 = 1 << 6;
pub(super) const F_FLUSH: u64 = 1 << 9;
pub(super) const F_TOPOLOGY: u64 = 1 << 10;
pub(super) const F_CONFIG_WCE: u64 = 1 << 11;
pub(super) const F_MQ: u64 = 1 << 12;
pub(super) const F_DISCARD: u64 = 1 << 13;
pub(super) const F_WRITE_ZEROES: u64 = 1 << 14;

pub(super) const T_IN: u32 = 0;
pub(super) const T_OUT: u32 = 1;
pub(super) const T_FLUSH: u32 = 4;
pub(super) const T_GET_ID: u32 = 8;
pub(super) const T_DISCARD: u32 = 11;
pub(super) const T_WRITE_ZEROES: u32 = 13;

pub(super) const S_OK: u8 = 0;
pub(super) const S_IOERR: u8 = 1;
pub(super) const S_UNSUPP: u8 = 2;

/// Flag of a discard or write-zeroes segment.
pub(super) const SEGMENT_UNMAP: u32 = 1;

/// Sectors in one discard.
pub(super) const MAX_DISCARD: u32 = (1 << 22) - 1;
/// Sectors in one write-zeroes: bounded, for file systems where zeros have to be written out.
pub(super) const MAX_WRITE_ZEROES: u32 = 1 << 17;
/// Sectors.
pub(super) const DISCARD_ALIGNMENT: u32 = 8;

/// Offset of `writeback` in the configuration space.
pub(super) const CONFIG_WRITEBACK: u64 = 32;

/// `struct virtio_blk_config`, up to `write_zeroes_may_unmap`.
pub(super) struct ConfigSpace {
    pub(super) capacity: u64,
    pub(super) seg_max: u32,
    pub(super) blk_size: u32,
    /// log2 of logical per physical blocks.
    pub(super) physical_exponent: u8,
    pub(super) writeback: bool,
    pub(super) queues: u16,
    pub(super) may_unmap: bool,
}

impl ConfigSpace {
    pub(super) fn bytes(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, &self.capacity.to_le_bytes());
        put(12, &self.seg_max.to_le_bytes());
        put(20, &self.blk_size.to_le_bytes());
        put(24, &[self.physical_exponent]);
        // Smallest I/O without penalty, in logical blocks.
        put(26, &(1_u16 << self.physical_exponent).to_le_bytes());
        put(CONFIG_WRITEBACK as usize, &[u8::from(self.writeback)]);
        put(34, &self.queues.to_le_bytes());
        put(36, &MAX_DISCARD.to_le_bytes());
        // One range per request: the spec lets the device choose, and no driver needs more.
        put(40, &1_u32.to_le_bytes());
        put(44, &DISCARD_ALIGNMENT.to_le_bytes());
        put(48, &MAX_WRITE_ZEROES.to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        put(56, &[u8::from(self.may_unmap)]);
        bytes
    }
}
