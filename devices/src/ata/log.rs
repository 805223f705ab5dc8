//! Logs of a disk: the directory and the failed queued command (ATA8-ACS annex A), SMART data.

use serde::{Deserialize, Serialize};

use super::disk::AtaState;
use super::spec::SECTOR;

const DIRECTORY: u8 = 0x00;
const QUEUED_ERROR: u8 = 0x10;

/// A command of the native queue that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueuedError {
    pub(super) tag: u8,
    pub(super) status: u8,
    pub(super) error: u8,
    pub(super) lba: u64,
    pub(super) count: u16,
}

/// `count` pages of a log from `page` on, if there are.
pub(super) fn read(log: u8, page: u8, count: u16, state: &mut AtaState) -> Option<Vec<u8>> {
    // Each log here has one page.
    if page != 0 || count != 1 {
        return None;
    }
    let mut data = vec![0; SECTOR as usize];
    match log {
        DIRECTORY => {
            // Version, and the number of pages of each log.
            data[0] = 1;
            data[2 * usize::from(QUEUED_ERROR)] = 1;
        }
        QUEUED_ERROR => {
            // Bit 7: the command that failed was no queued one.
            data[0] = 0x80;
            if let Some(failed) = state.queued_error.take() {
                let lba = failed.lba.to_le_bytes();
                data[0] = failed.tag & 0x1f;
                data[2] = failed.status;
                data[3] = failed.error;
                data[4..7].copy_from_slice(&lba[..3]);
                data[7] = 0x40;
                data[8..11].copy_from_slice(&lba[3..6]);
                data[12..14].copy_from_slice(&failed.count.to_le_bytes());
            }
            checksum(&mut data);
        }
        _ => return None,
    }
    Some(data)
}

/// SMART data without attributes, of a disk that has tested nothing.
pub(super) fn smart_data() -> Vec<u8> {
    let mut data = vec![0; SECTOR as usize];
    data[0] = 0x10;
    // Saving of attributes.
    data[368] = 0x03;
    checksum(&mut data);
    data
}

/// All bytes add up to zero.
pub(super) fn checksum(data: &mut [u8]) {
    if let Some((last, rest)) = data.split_last_mut() {
        *last = rest.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
    }
}
