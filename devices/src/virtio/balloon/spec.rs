//! Constants of virtio 1.2 §5.5.

pub(super) const DEVICE_TYPE: u16 = 5;
/// Size of a page in the lists of pages and in `num_pages`, whatever page sizes the guest has.
pub(super) const PAGE: u64 = 4096;

pub(super) mod feature {
    pub(crate) const STATS_VQ: u64 = 1 << 1;
    pub(crate) const DEFLATE_ON_OOM: u64 = 1 << 2;
    pub(crate) const REPORTING: u64 = 1 << 5;
}

/// Offsets in the configuration space.
pub(super) const ACTUAL: u64 = 4;

/// One entry of a statistics buffer: a 16-bit tag and a 64-bit value.
pub(super) const ENTRY: usize = 10;

pub(super) mod tag {
    pub(crate) const SWAP_IN: u16 = 0;
    pub(crate) const SWAP_OUT: u16 = 1;
    pub(crate) const MAJOR_FAULTS: u16 = 2;
    pub(crate) const MINOR_FAULTS: u16 = 3;
    pub(crate) const FREE: u16 = 4;
    pub(crate) const TOTAL: u16 = 5;
    pub(crate) const AVAILABLE: u16 = 6;
    pub(crate) const CACHES: u16 = 7;
    pub(crate) const HUGE_ALLOCATIONS: u16 = 8;
    pub(crate) const HUGE_FAILURES: u16 = 9;
}
