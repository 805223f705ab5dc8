//! [`Task`]: one command of the driver, from its request to its response.

use memory::{IoBuffers, MemoryError};

use super::spec::{Address, RESPONSE_HEADER, response, status};
use crate::backend::Action;
use crate::scsi::{Data, Direction, Sense, Step, Transfer};
use crate::virtio::{ActiveQueue, Chain, Place};

/// A command whose response is still owed.
pub(super) struct Task {
    /// Position of its queue in the worker.
    pub(super) queue: usize,
    pub(super) address: Address,
    /// The driver's name for it.
    pub(super) id: u64,
    pub(super) chain: Chain,
    pub(super) answer: Answer,
    pub(super) transfer: Transfer,
    /// Of the step in flight.
    pub(super) action: Action,
    /// The function that ended it before its time, and what it answers therefore.
    pub(super) ended: Option<(u64, u8)>,
}

/// Where a response goes.
pub(super) struct Answer {
    place: Place,
    sense_size: u32,
}

impl Answer {
    /// Taken off the front of the chain's writable part.
    pub(super) fn take(chain: &mut Chain, sense_size: u32) -> Option<Self> {
        let place = chain.split_writable(RESPONSE_HEADER as u32 + sense_size)?;
        Some(Self { place, sense_size })
    }

    /// Complete the chain with a status of the unit; `data` bytes of the writable rest are filled,
    /// `residual` of those expected did not move.
    pub(super) fn finish(
        &self,
        queue: &mut ActiveQueue,
        chain: Chain,
        result: Result<(), Sense>,
        data: u32,
        residual: u32,
    ) {
        let mut bytes = vec![0; RESPONSE_HEADER + self.sense_size as usize];
        bytes[4..8].copy_from_slice(&residual.to_le_bytes());
        bytes[10] = status::GOOD;
        bytes[11] = response::OK;
        if let Err(sense) = result {
            bytes[10] = status::CHECK_CONDITION;
            let sense = sense.fixed();
            let len = sense.len().min(self.sense_size as usize);
            bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
            bytes[RESPONSE_HEADER..][..len].copy_from_slice(&sense[..len]);
        }
        self.place.write(queue.ram(), &bytes);
        queue.complete(chain, bytes.len() as u32 + data);
    }

    /// Complete the chain without a status: the command did not reach the unit, or was ended.
    pub(super) fn refuse(&self, queue: &mut ActiveQueue, chain: Chain, code: u8) {
        let mut bytes = vec![0; RESPONSE_HEADER + self.sense_size as usize];
        bytes[11] = code;
        self.place.write(queue.ram(), &bytes);
        queue.complete(chain, bytes.len() as u32);
    }
}

impl Task {
    /// Bytes that the initiator has room for, or gives.
    pub(super) fn room(&self) -> u32 {
        match self.transfer.direction {
            Direction::FromDevice => self.chain.writable_len(),
            Direction::ToDevice => self.chain.readable_len(),
            Direction::None => 0,
        }
    }

    /// Bytes of the chain that the transfer does not use: it fits, or was refused.
    pub(super) fn residual(&self) -> u32 {
        self.room().saturating_sub(self.transfer.len as u32)
    }

    /// Bytes of the chain's writable part that a good end has filled.
    pub(super) fn filled(&self) -> u32 {
        if self.transfer.direction == Direction::FromDevice { self.transfer.len as u32 } else { 0 }
    }

    /// The guest's memory for `step`.
    pub(super) fn fill(&self, step: &Step, buffers: &mut IoBuffers) -> Result<(), MemoryError> {
        let len = self.transfer.len;
        match (step.data, step.action) {
            (Data::None, _) => {}
            (Data::All, Action::Read) => {
                self.chain.append_writable(buffers)?;
                buffers.truncate(len);
            }
            (Data::All, _) => {
                self.chain.append_readable(buffers)?;
                buffers.truncate(len);
            }
            (Data::Repeated(times), _) => {
                for copies in 1..=times {
                    self.chain.append_readable(buffers)?;
                    buffers.truncate(copies * len);
                }
            }
        }
        Ok(())
    }
}
