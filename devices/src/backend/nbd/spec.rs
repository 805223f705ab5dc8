//! Numbers of the NBD protocol (<https://github.com/NetworkBlockDevice/nbd>, `doc/proto.md`). All are
//! big-endian on the wire.

pub(super) const GREETING: &[u8; 8] = b"NBDMAGIC";
pub(super) const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const REPLY_MAGIC: u32 = 0x6744_6698;

/// What a server can, in its greeting; the client answers with what it takes of them.
pub(super) const FIXED_NEWSTYLE: u16 = 1 << 0;
pub(super) const NO_ZEROES: u16 = 1 << 1;

pub(super) mod option {
    pub(crate) const ABORT: u32 = 2;
    pub(crate) const STARTTLS: u32 = 5;
    pub(crate) const GO: u32 = 7;
}

pub(super) mod reply {
    pub(crate) const ACK: u32 = 1;
    pub(crate) const INFO: u32 = 3;
    pub(crate) const ERROR: u32 = 1 << 31;
    pub(crate) const UNSUPPORTED: u32 = ERROR | 1;
    pub(crate) const TLS_REQUIRED: u32 = ERROR | 5;
    pub(crate) const UNKNOWN: u32 = ERROR | 6;

    pub(crate) fn is_error(kind: u32) -> bool {
        kind & ERROR != 0
    }
}

pub(super) mod info {
    pub(crate) const EXPORT: u16 = 0;
    pub(crate) const BLOCK_SIZE: u16 = 3;
}

/// Of an export.
pub(super) mod flag {
    pub(crate) const HAS_FLAGS: u16 = 1 << 0;
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    pub(crate) const SEND_TRIM: u16 = 1 << 5;
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
}

pub(super) mod command {
    pub(crate) const READ: u16 = 0;
    pub(crate) const WRITE: u16 = 1;
    pub(crate) const DISCONNECT: u16 = 2;
    pub(crate) const FLUSH: u16 = 3;
    pub(crate) const TRIM: u16 = 4;
    pub(crate) const WRITE_ZEROES: u16 = 6;

    /// Done when it is durable.
    pub(crate) const FUA: u16 = 1 << 0;
    /// Zeros that take space.
    pub(crate) const NO_HOLE: u16 = 1 << 1;
}

/// Linux' numbers, whatever the server runs on.
pub(super) mod error {
    pub(crate) const SHUTDOWN: u32 = 108;
}
