//! [`PowerCut`]: a file that remembers what a host could have lost of it at any moment.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Random;
use crate::storage::{MemoryStorage, Storage};

/// What a host keeps whole, or not at all.
const SECTOR: usize = 512;

/// A file in memory, with everything that was done to it.
pub struct PowerCut {
    start: Vec<u8>,
    now: MemoryStorage,
    steps: Mutex<Vec<Step>>,
}

#[derive(Clone)]
enum Step {
    Write { offset: u64, data: Vec<u8> },
    Resize(u64),
    Sync,
}

impl PowerCut {
    #[must_use]
    pub fn new(start: Vec<u8>) -> Self {
        Self { now: MemoryStorage::new(start.clone()), start, steps: Mutex::new(Vec::new()) }
    }

    /// How many steps there were: writes and syncs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is found after a cut behind the first `stop` steps: all that was synced, and some of the
    /// sectors that were written since, in whatever order.
    #[must_use]
    pub fn after(&self, stop: usize, random: &mut Random) -> Vec<u8> {
        let steps = self.steps();
        let steps = &steps[..stop.min(steps.len())];
        let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
        let (durable, open) = steps.split_at(synced);
        let mut bytes = self.start.clone();
        for step in durable {
            step.apply(&mut bytes, |_| true);
        }
        // None, all, or by chance.
        let chance = random.below(4);
        for step in open {
            step.apply(&mut bytes, |_| match chance {
                0 => false,
                1 => true,
                _ => random.below(2) == 0,
            });
        }
        bytes
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, offset: u64, data: &[u8]) {
        self.steps().push(Step::Write { offset, data: data.to_vec() });
    }
}

impl Step {
    fn apply(&self, bytes: &mut Vec<u8>, mut keeps: impl FnMut(usize) -> bool) {
        match self {
            Self::Write { offset, data } => {
                let offset = *offset as usize;
                let mut at = offset;
                while at < offset + data.len() {
                    let end = (at - at % SECTOR + SECTOR).min(offset + data.len());
                    if keeps(at) {
                        if bytes.len() < end {
                            bytes.resize(end, 0);
                        }
                        bytes[at..end].copy_from_slice(&data[at - offset..end - offset]);
                    }
                    at = end;
                }
            }
            Self::Resize(len) if keeps(0) => bytes.resize(*len as usize, 0),
            Self::Resize(_) | Self::Sync => {}
        }
    }
}

impl Storage for PowerCut {
    fn size(&self) -> io::Result<u64> {
        self.now.size()
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        self.now.read(data, offset)
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.note(offset, data);
        self.now.write(data, offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.note(offset, &vec![0; len as usize]);
        self.now.write_zeroes(offset, len, unmap)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let len = len.min(self.size()?.saturating_sub(offset));
        if len > 0 { self.write_zeroes(offset, len, true) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.steps().push(Step::Resize(len));
        self.now.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.steps().push(Step::Sync);
        Ok(())
    }

    fn data_run(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        self.now.data_run(offset, len)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.now.allocated()
    }
}
