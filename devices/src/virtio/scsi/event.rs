//! Events: what the driver is told unasked (virtio 1.2 §5.6.6.3).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::spec::Address;
use crate::virtio::ActiveQueue;

/// Events that wait for a buffer; the driver is told when there were more.
const MOST: usize = 64;

const TRANSPORT_RESET: u32 = 1;
const PARAMETER_CHANGE: u32 = 3;
const MISSED: u32 = 1 << 31;

const RESCAN: u32 = 1;
const REMOVED: u32 = 2;
/// CAPACITY DATA HAS CHANGED, code and qualifier.
const CAPACITY_CHANGED: u32 = 0x2a | 0x09 << 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    Plugged(Address),
    Unplugged(Address),
    Resized(Address),
}

impl Event {
    /// `struct virtio_scsi_event`
    fn bytes(self, missed: bool) -> [u8; 16] {
        let (event, address, reason) = match self {
            Self::Plugged(address) => (TRANSPORT_RESET, address, RESCAN),
            Self::Unplugged(address) => (TRANSPORT_RESET, address, REMOVED),
            Self::Resized(address) => (PARAMETER_CHANGE, address, CAPACITY_CHANGED),
        };
        let event = if missed { event | MISSED } else { event };
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&event.to_le_bytes());
        bytes[4..12].copy_from_slice(&address.field());
        bytes[12..].copy_from_slice(&reason.to_le_bytes());
        bytes
    }
}

/// Events on their way to the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Events {
    waiting: VecDeque<Event>,
    missed: bool,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        if self.waiting.len() < MOST {
            self.waiting.push_back(event);
        } else {
            self.missed = true;
        }
    }

    /// Deliver as many as there are buffers for.
    pub(super) fn deliver(&mut self, queue: &mut ActiveQueue) {
        while let Some(event) = self.waiting.front().copied()
            && let Some(mut chain) = queue.next()
        {
            self.waiting.pop_front();
            let bytes = event.bytes(std::mem::take(&mut self.missed));
            // A buffer that is too short gets nothing, and says so by its length.
            let written = if chain.write(&bytes) { bytes.len() as u32 } else { 0 };
            queue.complete(chain, written);
        }
    }
}
