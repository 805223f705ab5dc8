//! [`Cdb`]: a command descriptor block, and the codes of commands (SPC-4, SBC-3, MMC-6).

/// A command, filled up with zeros: its numbers are big-endian.
#[derive(Debug, Clone, Copy)]
pub struct Cdb([u8; Self::LEN]);

impl Cdb {
    pub const LEN: usize = 32;

    /// The first 32 bytes of `bytes`; no command here is longer.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut block = [0; Self::LEN];
        for (place, byte) in block.iter_mut().zip(bytes) {
            *place = *byte;
        }
        Self(block)
    }

    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Bytes that a 12-byte command has room for (REPORT LUNS).
    #[must_use]
    pub fn allocation_32(&self) -> u32 {
        self.be32(6)
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(super) fn has(&self, at: usize, bits: u8) -> bool {
        self.0[at] & bits != 0
    }

    /// `count` bytes as one number.
    fn number(&self, at: usize, count: usize) -> u64 {
        self.0[at..at + count].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub(super) fn be16(&self, at: usize) -> u16 {
        self.number(at, 2) as u16
    }

    pub(super) fn be24(&self, at: usize) -> u32 {
        self.number(at, 3) as u32
    }

    pub(super) fn be32(&self, at: usize) -> u32 {
        self.number(at, 4) as u32
    }

    pub(super) fn be64(&self, at: usize) -> u64 {
        self.number(at, 8)
    }
}

pub(crate) mod op {
    pub(crate) const TEST_UNIT_READY: u8 = 0x00;
    pub(crate) const REQUEST_SENSE: u8 = 0x03;
    pub(crate) const READ_6: u8 = 0x08;
    pub(crate) const WRITE_6: u8 = 0x0a;
    pub(crate) const INQUIRY: u8 = 0x12;
    pub(crate) const MODE_SELECT_6: u8 = 0x15;
    pub(crate) const RESERVE_6: u8 = 0x16;
    pub(crate) const RELEASE_6: u8 = 0x17;
    pub(crate) const MODE_SENSE_6: u8 = 0x1a;
    pub(crate) const START_STOP: u8 = 0x1b;
    pub(crate) const SEND_DIAGNOSTIC: u8 = 0x1d;
    pub(crate) const PREVENT_ALLOW: u8 = 0x1e;
    pub(crate) const READ_CAPACITY_10: u8 = 0x25;
    pub(crate) const READ_10: u8 = 0x28;
    pub(crate) const WRITE_10: u8 = 0x2a;
    pub(crate) const SEEK_10: u8 = 0x2b;
    pub(crate) const WRITE_VERIFY_10: u8 = 0x2e;
    pub(crate) const VERIFY_10: u8 = 0x2f;
    pub(crate) const PREFETCH_10: u8 = 0x34;
    pub(crate) const SYNCHRONIZE_CACHE_10: u8 = 0x35;
    pub(crate) const WRITE_SAME_10: u8 = 0x41;
    pub(crate) const UNMAP: u8 = 0x42;
    pub(crate) const READ_TOC: u8 = 0x43;
    pub(crate) const GET_CONFIGURATION: u8 = 0x46;
    pub(crate) const GET_EVENT_STATUS: u8 = 0x4a;
    pub(crate) const READ_DISC_INFORMATION: u8 = 0x51;
    pub(crate) const READ_TRACK_INFORMATION: u8 = 0x52;
    pub(crate) const MODE_SELECT_10: u8 = 0x55;
    pub(crate) const RESERVE_10: u8 = 0x56;
    pub(crate) const RELEASE_10: u8 = 0x57;
    pub(crate) const MODE_SENSE_10: u8 = 0x5a;
    pub(crate) const READ_16: u8 = 0x88;
    pub(crate) const WRITE_16: u8 = 0x8a;
    pub(crate) const WRITE_VERIFY_16: u8 = 0x8e;
    pub(crate) const VERIFY_16: u8 = 0x8f;
    pub(crate) const PREFETCH_16: u8 = 0x90;
    pub(crate) const SYNCHRONIZE_CACHE_16: u8 = 0x91;
    pub(crate) const WRITE_SAME_16: u8 = 0x93;
    pub(crate) const SERVICE_ACTION_IN: u8 = 0x9e;
    pub(crate) const REPORT_LUNS: u8 = 0xa0;
    pub(crate) const READ_12: u8 = 0xa8;
    pub(crate) const WRITE_12: u8 = 0xaa;
    pub(crate) const WRITE_VERIFY_12: u8 = 0xae;
    pub(crate) const VERIFY_12: u8 = 0xaf;
    pub(crate) const SET_CD_SPEED: u8 = 0xbb;
    pub(crate) const MECHANISM_STATUS: u8 = 0xbd;
    pub(crate) const READ_CD: u8 = 0xbe;

    /// Service action of [`SERVICE_ACTION_IN`].
    pub(crate) const READ_CAPACITY_16: u8 = 0x10;
}
