//! Registers, commands and status codes of NVMe 1.4.

pub(super) const BAR: u8 = 0;
pub(super) const BAR_SIZE: u64 = 0x4000;
pub(super) const DOORBELLS: u64 = 0x1000;
pub(super) const DOORBELLS_END: u64 = 0x2000;
pub(super) const MSIX_TABLE: u32 = 0x2000;
pub(super) const MSIX_PENDING: u32 = 0x3000;

pub(super) const PAGE: u64 = 4096;
/// Entries of an I/O queue at most.
pub(super) const MOST_ENTRIES: u32 = 1024;
/// Bytes in one transfer: 2 to this power pages.
pub(super) const MDTS: u8 = 8;
pub(super) const MOST_DATA: u64 = PAGE << MDTS;
/// Commands in flight, all queues together.
pub(super) const MOST_IN_FLIGHT: u32 = 1024;
/// Asynchronous event requests that wait at once.
pub(super) const MOST_EVENT_REQUESTS: usize = 4;

/// Optional events: "namespace attribute notices", in the identity and in the driver's choice.
pub(super) const NAMESPACE_NOTICES: u32 = 1 << 8;

/// Log pages.
pub(super) mod log {
    pub(crate) const ERRORS: u8 = 0x01;
    pub(crate) const HEALTH: u8 = 0x02;
    pub(crate) const FIRMWARE: u8 = 0x03;
    pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;
}

pub(super) mod register {
    pub(crate) const CAP: u64 = 0x00;
    pub(crate) const CAP_HIGH: u64 = 0x04;
    pub(crate) const VS: u64 = 0x08;
    pub(crate) const INTMS: u64 = 0x0c;
    pub(crate) const INTMC: u64 = 0x10;
    pub(crate) const CC: u64 = 0x14;
    pub(crate) const CSTS: u64 = 0x1c;
    pub(crate) const AQA: u64 = 0x24;
    pub(crate) const ASQ: u64 = 0x28;
    pub(crate) const ASQ_HIGH: u64 = 0x2c;
    pub(crate) const ACQ: u64 = 0x30;
    pub(crate) const ACQ_HIGH: u64 = 0x34;
}

/// Queues of so many entries, contiguous; ten seconds to get ready; NVM commands; 4 KiB pages only.
pub(super) const CAPABILITIES: u64 = 1 << 37 | 20 << 24 | 1 << 16 | (MOST_ENTRIES as u64 - 1);
pub(super) const VERSION: u32 = 0x0001_0400;

pub(super) mod cc {
    pub(crate) const ENABLE: u32 = 1;
    /// Command set, page size and arbitration: only zeros are provided.
    pub(crate) const FIXED: u32 = 0x7 << 4 | 0xf << 7 | 0x7 << 11;
    pub(crate) const SHUTDOWN: u32 = 0x3 << 14;
    /// Entry sizes, too.
    pub(crate) const WRITABLE: u32 = ENABLE | FIXED | SHUTDOWN | 0xff << 16;
}

pub(super) mod csts {
    pub(crate) const READY: u32 = 1;
    pub(crate) const FATAL: u32 = 1 << 1;
    pub(crate) const SHUTDOWN: u32 = 0x3 << 2;
    pub(crate) const SHUTTING_DOWN: u32 = 1 << 2;
    pub(crate) const SHUT_DOWN: u32 = 2 << 2;
}

pub(super) mod admin {
    pub(crate) const DELETE_SQ: u8 = 0x00;
    pub(crate) const CREATE_SQ: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const DELETE_CQ: u8 = 0x04;
    pub(crate) const CREATE_CQ: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
    pub(crate) const EVENT_REQUEST: u8 = 0x0c;
}

pub(super) mod nvm {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET: u8 = 0x09;
}

pub(super) mod feature {
    pub(crate) const ARBITRATION: u8 = 0x01;
    pub(crate) const POWER: u8 = 0x02;
    pub(crate) const TEMPERATURE: u8 = 0x04;
    pub(crate) const ERROR_RECOVERY: u8 = 0x05;
    pub(crate) const WRITE_CACHE: u8 = 0x06;
    pub(crate) const QUEUES: u8 = 0x07;
    pub(crate) const COALESCING: u8 = 0x08;
    pub(crate) const VECTOR: u8 = 0x09;
    pub(crate) const ATOMICITY: u8 = 0x0a;
    pub(crate) const EVENTS: u8 = 0x0b;
}

/// Status of a command: type in bits 8 to 10, code below, and "do not retry".
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Status(pub(super) u16);

impl Status {
    const DO_NOT_RETRY: u16 = 1 << 14;

    pub(super) const SUCCESS: Self = Self(0);
    pub(super) const OPCODE: Self = Self::refusal(0x001);
    pub(super) const FIELD: Self = Self::refusal(0x002);
    pub(super) const DATA: Self = Self(0x004);
    pub(super) const INTERNAL: Self = Self(0x006);
    pub(super) const NAMESPACE: Self = Self::refusal(0x00b);
    pub(super) const SEQUENCE: Self = Self::refusal(0x00c);
    pub(super) const PRP_OFFSET: Self = Self::refusal(0x013);
    pub(super) const WRITE_PROTECTED: Self = Self::refusal(0x020);
    pub(super) const RANGE: Self = Self::refusal(0x080);
    pub(super) const CAPACITY: Self = Self(0x081);
    pub(super) const NO_CQ: Self = Self::refusal(0x100);
    pub(super) const QUEUE_ID: Self = Self::refusal(0x101);
    pub(super) const QUEUE_SIZE: Self = Self::refusal(0x102);
    pub(super) const TOO_MANY_EVENT_REQUESTS: Self = Self::refusal(0x105);
    pub(super) const VECTOR: Self = Self::refusal(0x108);
    pub(super) const LOG_PAGE: Self = Self::refusal(0x109);
    pub(super) const QUEUE_DELETION: Self = Self::refusal(0x10c);
    pub(super) const NOT_SAVEABLE: Self = Self::refusal(0x10d);
    pub(super) const WRITE_FAULT: Self = Self(0x280);
    pub(super) const READ_ERROR: Self = Self(0x281);

    const fn refusal(code: u16) -> Self {
        Self(code | Self::DO_NOT_RETRY)
    }
}

/// A submission queue entry, as it was copied out of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Command([u8; 64]);

impl Command {
    pub(super) const LEN: u64 = 64;

    pub(super) fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 64] {
        &self.0
    }

    pub(super) fn dword(&self, index: usize) -> u32 {
        let at = 4 * index;
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn qword(&self, index: usize) -> u64 {
        u64::from(self.dword(index + 1)) << 32 | u64::from(self.dword(index))
    }

    pub(super) fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// Fused operations and scatter-gather lists: neither is provided.
    pub(super) fn is_plain(&self) -> bool {
        self.0[1] & 0xc3 == 0
    }

    pub(super) fn id(&self) -> u16 {
        u16::from_le_bytes([self.0[2], self.0[3]])
    }

    pub(super) fn namespace(&self) -> u32 {
        self.dword(1)
    }

    pub(super) fn pages(&self) -> (u64, u64) {
        (self.qword(6), self.qword(8))
    }

    pub(super) fn first_block(&self) -> u64 {
        self.qword(10)
    }

    /// The number of blocks counts from zero.
    pub(super) fn blocks(&self) -> u64 {
        u64::from(self.dword(12) & 0xffff) + 1
    }
}
