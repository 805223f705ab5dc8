//! Submission and completion queues (NVMe 1.4 §4.1), as the controller keeps them.

use std::collections::VecDeque;

use memory::GuestRam;
use serde::{Deserialize, Serialize};

use super::spec::{Command, Status};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SubmissionQueue {
    base: u64,
    pub(super) size: u32,
    head: u32,
    tail: u32,
    pub(super) completions: u16,
    /// The command that deletes it waits for its commands in flight.
    pub(super) deleted_by: Option<u16>,
    #[serde(skip)]
    pub(super) in_flight: u32,
}

/// A completion that goes to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Completion {
    pub(super) result: u32,
    pub(super) queue: u16,
    pub(super) id: u16,
    pub(super) status: Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CompletionQueue {
    base: u64,
    pub(super) size: u32,
    head: u32,
    tail: u32,
    phase: bool,
    pub(super) vector: u16,
    pub(super) interrupts: bool,
    /// Completions that wait until the driver has made room.
    waiting: VecDeque<Completion>,
    /// There is something that the driver was not told of.
    pub(super) untold: bool,
}

impl SubmissionQueue {
    pub(super) fn new(base: u64, size: u32, completions: u16) -> Self {
        Self { base, size, head: 0, tail: 0, completions, deleted_by: None, in_flight: 0 }
    }

    /// The driver has moved the tail; false if there is no such entry.
    pub(super) fn set_tail(&mut self, tail: u32) -> bool {
        let valid = tail < self.size;
        if valid {
            self.tail = tail;
        }
        valid
    }

    pub(super) fn head(&self) -> u32 {
        self.head
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Take the next command, copied once.
    pub(super) fn pop(&mut self, ram: &GuestRam) -> Option<Result<Command, Status>> {
        if self.is_empty() || self.deleted_by.is_some() {
            return None;
        }
        let offset = u64::from(self.head) * Command::LEN;
        self.head = (self.head + 1) % self.size;
        let mut bytes = [0; 64];
        let read = match self.base.checked_add(offset) {
            Some(at) => ram.read_slice(at, &mut bytes).map_err(|_| Status::DATA),
            None => Err(Status::DATA),
        };
        Some(read.map(|()| Command::new(bytes)))
    }

    pub(super) fn is_valid(&self) -> bool {
        let range = 2..=super::spec::MOST_ENTRIES.max(4096);
        range.contains(&self.size) && self.head < self.size && self.tail < self.size
    }
}

impl CompletionQueue {
    pub(super) fn new(base: u64, size: u32, vector: u16, interrupts: bool) -> Self {
        Self {
            base,
            size,
            head: 0,
            tail: 0,
            phase: true,
            vector,
            interrupts,
            waiting: VecDeque::new(),
            untold: false,
        }
    }

    /// The driver has moved the head; false if there is no such entry.
    pub(super) fn set_head(&mut self, head: u32) -> bool {
        let valid = head < self.size;
        if valid {
            self.head = head;
        }
        valid
    }

    pub(super) fn is_backed_up(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Entries that the driver has not consumed.
    pub(super) fn has_entries(&self) -> bool {
        self.head != self.tail
    }

    pub(super) fn push(&mut self, completion: Completion) {
        self.waiting.push_back(completion);
    }

    /// Write what waits, as far as there is room; `head_of` gives the head of a submission queue.
    pub(super) fn flush(&mut self, ram: &GuestRam, head_of: impl Fn(u16) -> u32) {
        while (self.tail + 1) % self.size != self.head {
            let Some(completion) = self.waiting.pop_front() else { return };
            let Completion { result, queue, id, status } = completion;
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&result.to_le_bytes());
            bytes[8..10].copy_from_slice(&(head_of(queue) as u16).to_le_bytes());
            bytes[10..12].copy_from_slice(&queue.to_le_bytes());
            bytes[12..14].copy_from_slice(&id.to_le_bytes());
            let status = status.0 << 1 | u16::from(self.phase);
            bytes[14..].copy_from_slice(&status.to_le_bytes());
            if let Some(at) = self.base.checked_add(16 * u64::from(self.tail)) {
                // The phase is in the last bytes: they are written after the others.
                let _ = ram.write_slice(at, &bytes[..12]);
                let _ = at.checked_add(12).map(|at| {
                    ram.write_obj(
                        at,
                        u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
                    )
                });
            }
            self.tail = (self.tail + 1) % self.size;
            self.phase ^= self.tail == 0;
            self.untold = true;
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        let range = 2..=super::spec::MOST_ENTRIES.max(4096);
        range.contains(&self.size) && self.head < self.size && self.tail < self.size
    }
}
