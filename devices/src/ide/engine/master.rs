//! Transfers by the bus master: the guest's memory as its table of descriptors names it.

use std::collections::VecDeque;

use memory::IoBuffers;

use super::super::channel::{Channel, Progress, REASON_DONE};
use super::{Flight, IdeEngine, Kind, Place};
use crate::ata::Drive;
use crate::ata::spec::error;
use crate::backend::{Action, Request};
use crate::scsi::Sense;
use crate::sync::Lock;

/// Descriptors of a transfer: the table is at most 64 KiB.
const MOST_DESCRIPTORS: u32 = 8192;

impl IdeEngine {
    /// The bus master runs: move what waits for it.
    pub(super) fn by_master(&mut self, place: Place, progress: Progress) {
        let index = place.index;
        match progress {
            Progress::Sectors { write, offset, left, .. } => {
                let action = write.map_or(Action::Read, |durable| Action::Write { durable });
                self.start_by_master(place, action, offset, left);
            }
            Progress::PacketData { offset, left, .. } => {
                self.start_by_master(place, Action::Read, offset, left);
            }
            Progress::PacketReply => {
                let data = std::mem::take(&mut self.shared.channels[index].hold().reply);
                let mut buffers = IoBuffers::new(self.shared.ram.clone());
                let filled = self.descriptors(index, data.len() as u64, &mut buffers);
                buffers.copy_from(&data);
                self.end_master(place, filled.is_none());
            }
            Progress::Trim { len } => self.trim(place, len),
            _ => self.with(index, Channel::abort),
        }
    }

    fn start_by_master(&mut self, place: Place, action: Action, offset: u64, len: u64) {
        let Some(medium) = &mut self.media[place.index][place.unit] else {
            return self.failed(place, action, Sense::NO_MEDIUM);
        };
        let mut buffers = medium.direct.buffers();
        if self.descriptors(place.index, len, &mut buffers) != Some(len) {
            return self.end_master(place, true);
        }
        let request = Request { action, offset, buffers };
        let flight = Flight { kind: Kind::Dma, action, rest: VecDeque::new() };
        if let Some(medium) = &mut self.media[place.index][place.unit] {
            medium.direct.start(request, flight);
        }
    }

    fn trim(&mut self, place: Place, len: u64) {
        let shared = self.shared.clone();
        let mut buffers = IoBuffers::new(shared.ram.clone());
        if self.descriptors(place.index, len, &mut buffers) != Some(len) {
            return self.end_master(place, true);
        }
        let mut payload = vec![0; len as usize];
        buffers.copy_to(&mut payload);
        let Some(Drive::Disk(disk)) = &shared.drives[place.index][place.unit] else {
            return self.end_master(place, true);
        };
        match disk.trim_ranges(&payload) {
            Ok(ranges) => {
                let mut rest = VecDeque::from(ranges);
                match rest.pop_front() {
                    Some((offset, len)) => {
                        self.start(place, Kind::Dma, Action::Discard { len }, offset, rest);
                    }
                    None => self.end_master(place, false),
                }
            }
            Err(_) => self.end_master(place, true),
        }
    }

    /// Fill `buffers` with the first `len` bytes that the bus master's table names; how many there
    /// are, or none when one lies outside of memory.
    fn descriptors(&self, index: usize, len: u64, buffers: &mut IoBuffers) -> Option<u64> {
        let table = u64::from(self.shared.channels[index].hold().descriptors);
        let mut left = len;
        for number in 0..MOST_DESCRIPTORS {
            if left == 0 {
                break;
            }
            let mut entry = [0; 8];
            self.shared.ram.read_slice(table + 8 * u64::from(number), &mut entry).ok()?;
            let [a0, a1, a2, a3, c0, c1, _, flags] = entry;
            let address = u64::from(u32::from_le_bytes([a0, a1, a2, a3]) & !1);
            let count = match u64::from(u16::from_le_bytes([c0, c1]) & !1) {
                0 => 0x1_0000,
                count => count,
            };
            let part = count.min(left);
            buffers.push(address, part).ok()?;
            left -= part;
            if flags & 0x80 != 0 {
                break;
            }
        }
        Some(len - left)
    }

    /// The bus master has moved everything, or could not.
    pub(super) fn end_master(&mut self, place: Place, failed: bool) {
        let packet = matches!(self.shared.drives[place.index][place.unit], Some(Drive::Packets(_)));
        self.with(place.index, |channel| {
            channel.master_ended(failed);
            let error = if failed { error::ABRT } else { 0 };
            channel.finish(error, packet.then_some(REASON_DONE), None);
        });
    }
}
