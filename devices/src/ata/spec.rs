//! Commands, and bits of the status and error registers.

pub(crate) mod command {
    pub(crate) const DATA_SET_MANAGEMENT: u8 = 0x06;
    pub(crate) const DEVICE_RESET: u8 = 0x08;
    pub(crate) const READ_SECTORS: u8 = 0x20;
    pub(crate) const READ_SECTORS_NO_RETRY: u8 = 0x21;
    pub(crate) const READ_SECTORS_EXT: u8 = 0x24;
    pub(crate) const READ_DMA_EXT: u8 = 0x25;
    pub(crate) const READ_MULTIPLE_EXT: u8 = 0x29;
    pub(crate) const READ_LOG_EXT: u8 = 0x2f;
    pub(crate) const WRITE_SECTORS: u8 = 0x30;
    pub(crate) const WRITE_SECTORS_NO_RETRY: u8 = 0x31;
    pub(crate) const WRITE_SECTORS_EXT: u8 = 0x34;
    pub(crate) const WRITE_DMA_EXT: u8 = 0x35;
    pub(crate) const WRITE_MULTIPLE_EXT: u8 = 0x39;
    pub(crate) const WRITE_DMA_FUA_EXT: u8 = 0x3d;
    pub(crate) const READ_VERIFY: u8 = 0x40;
    pub(crate) const READ_VERIFY_NO_RETRY: u8 = 0x41;
    pub(crate) const READ_VERIFY_EXT: u8 = 0x42;
    pub(crate) const READ_QUEUED: u8 = 0x60;
    pub(crate) const WRITE_QUEUED: u8 = 0x61;
    pub(crate) const SEEK: u8 = 0x70;
    pub(crate) const DIAGNOSTIC: u8 = 0x90;
    pub(crate) const INITIALIZE_PARAMETERS: u8 = 0x91;
    pub(crate) const STANDBY_IMMEDIATE_OLD: u8 = 0x94;
    pub(crate) const SLEEP_OLD: u8 = 0x99;
    pub(crate) const PACKET: u8 = 0xa0;
    pub(crate) const IDENTIFY_PACKET: u8 = 0xa1;
    pub(crate) const SMART: u8 = 0xb0;
    pub(crate) const READ_MULTIPLE: u8 = 0xc4;
    pub(crate) const WRITE_MULTIPLE: u8 = 0xc5;
    pub(crate) const SET_MULTIPLE: u8 = 0xc6;
    pub(crate) const READ_DMA: u8 = 0xc8;
    pub(crate) const READ_DMA_NO_RETRY: u8 = 0xc9;
    pub(crate) const WRITE_DMA: u8 = 0xca;
    pub(crate) const WRITE_DMA_NO_RETRY: u8 = 0xcb;
    pub(crate) const WRITE_MULTIPLE_FUA_EXT: u8 = 0xce;
    pub(crate) const STANDBY_IMMEDIATE: u8 = 0xe0;
    pub(crate) const CHECK_POWER: u8 = 0xe5;
    pub(crate) const CHECK_POWER_OLD: u8 = 0x98;
    pub(crate) const SLEEP: u8 = 0xe6;
    pub(crate) const FLUSH: u8 = 0xe7;
    pub(crate) const FLUSH_EXT: u8 = 0xea;
    pub(crate) const IDENTIFY: u8 = 0xec;
    pub(crate) const SET_FEATURES: u8 = 0xef;
}

pub(crate) mod status {
    pub(crate) const ERR: u8 = 0x01;
    pub(crate) const DRQ: u8 = 0x08;
    /// Seek complete, as older drivers look for it.
    pub(crate) const DSC: u8 = 0x10;
    pub(crate) const DRDY: u8 = 0x40;
    pub(crate) const BSY: u8 = 0x80;
    pub(crate) const READY: u8 = DRDY | DSC;
}

pub(crate) mod error {
    pub(crate) const ABRT: u8 = 0x04;
    pub(crate) const IDNF: u8 = 0x10;
    pub(crate) const UNC: u8 = 0x40;
}

/// Bytes of a sector.
pub(crate) const SECTOR: u64 = 512;

/// What a device that passed its diagnostics has in count, LBA low, mid and high.
pub(crate) const SIGNATURE_DISK: [u8; 4] = [1, 1, 0, 0];
pub(crate) const SIGNATURE_PACKET: [u8; 4] = [1, 1, 0x14, 0xeb];
