//! Why a command failed: sense data in fixed format (SPC-4 §4.5.3).

use std::io;

use serde::{Deserialize, Serialize};

use crate::backend::Action;

/// Sense key, additional sense code and its qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    pub key: u8,
    pub asc: u8,
    pub ascq: u8,
}

const NOT_READY: u8 = 0x2;
const MEDIUM_ERROR: u8 = 0x3;
const HARDWARE_ERROR: u8 = 0x4;
const ILLEGAL_REQUEST: u8 = 0x5;
const UNIT_ATTENTION: u8 = 0x6;
const DATA_PROTECT: u8 = 0x7;

impl Sense {
    /// Bytes of [`fixed`](Self::fixed).
    pub const LEN: usize = 18;

    pub const NONE: Self = Self::new(0, 0, 0);
    pub const NO_MEDIUM: Self = Self::new(NOT_READY, 0x3a, 0x01);
    pub const TRAY_OPEN: Self = Self::new(NOT_READY, 0x3a, 0x02);
    pub const READ_ERROR: Self = Self::new(MEDIUM_ERROR, 0x11, 0x00);
    pub const WRITE_ERROR: Self = Self::new(MEDIUM_ERROR, 0x0c, 0x00);
    pub const INTERNAL: Self = Self::new(HARDWARE_ERROR, 0x44, 0x00);
    pub const LIST_LENGTH: Self = Self::new(ILLEGAL_REQUEST, 0x1a, 0x00);
    pub const OPCODE: Self = Self::new(ILLEGAL_REQUEST, 0x20, 0x00);
    pub const RANGE: Self = Self::new(ILLEGAL_REQUEST, 0x21, 0x00);
    pub const FIELD: Self = Self::new(ILLEGAL_REQUEST, 0x24, 0x00);
    pub const NO_UNIT: Self = Self::new(ILLEGAL_REQUEST, 0x25, 0x00);
    pub const LIST_FIELD: Self = Self::new(ILLEGAL_REQUEST, 0x26, 0x00);
    pub const NO_SAVED_PAGES: Self = Self::new(ILLEGAL_REQUEST, 0x39, 0x00);
    pub const REMOVAL_PREVENTED: Self = Self::new(ILLEGAL_REQUEST, 0x53, 0x02);
    pub const MEDIUM_CHANGED: Self = Self::new(UNIT_ATTENTION, 0x28, 0x00);
    pub const RESET: Self = Self::new(UNIT_ATTENTION, 0x29, 0x00);
    pub const CAPACITY_CHANGED: Self = Self::new(UNIT_ATTENTION, 0x2a, 0x09);
    pub const WRITE_PROTECTED: Self = Self::new(DATA_PROTECT, 0x27, 0x00);
    pub const SPACE: Self = Self::new(DATA_PROTECT, 0x27, 0x07);

    #[must_use]
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq }
    }

    #[must_use]
    pub fn is_attention(self) -> bool {
        self.key == UNIT_ATTENTION
    }

    #[must_use]
    pub fn fixed(self) -> [u8; Self::LEN] {
        let mut data = [0; Self::LEN];
        data[0] = 0x70;
        data[2] = self.key;
        data[7] = Self::LEN as u8 - 8;
        data[12] = self.asc;
        data[13] = self.ascq;
        data
    }
}

/// What a failed step means to the initiator.
pub(crate) fn sense_of(action: Action, error: &io::Error) -> Sense {
    match action {
        _ if error.kind() == io::ErrorKind::StorageFull => Sense::SPACE,
        Action::Read => Sense::READ_ERROR,
        Action::Write { .. } => Sense::WRITE_ERROR,
        Action::Flush | Action::Discard { .. } | Action::Zero { .. } => Sense::INTERNAL,
    }
}
