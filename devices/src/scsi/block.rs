//! Reading, writing and giving back blocks (SBC-3).

use std::collections::VecDeque;

use super::cdb::{Cdb, op};
use super::sense::Sense;
use super::unit::{LogicalUnit, Outcome, reply};
use super::{inquiry, mode};
use crate::backend::{Action, DiskInfo};

/// Descriptors in one UNMAP.
pub(super) const MOST_UNMAP_DESCRIPTORS: u16 = 256;
/// Bytes in one descriptor of UNMAP.
pub(super) const MOST_UNMAP: u64 = 2 << 30;
/// Bytes in one WRITE SAME: bounded, for file systems where zeros have to be written out.
pub(super) const MOST_WRITE_SAME: u64 = 64 << 20;
/// Blocks of a pattern that go to the disk in one step.
const PATTERN_STEP: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    None,
    FromDevice,
    ToDevice,
}

/// Work for the disk: steps that follow one another.
#[derive(Debug, PartialEq, Eq)]
pub struct Transfer {
    pub direction: Direction,
    /// Bytes that the initiator takes or gives.
    pub len: u64,
    pub steps: VecDeque<Step>,
}

/// One request to the disk, inside its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    /// Bytes.
    pub offset: u64,
    pub data: Data,
}

/// Which of the initiator's bytes belong to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    None,
    /// All of the transfer's.
    All,
    /// The transfer's, this many times over.
    Repeated(u64),
}

impl Transfer {
    fn one(direction: Direction, len: u64, action: Action, offset: u64) -> Outcome {
        let data = if direction == Direction::None { Data::None } else { Data::All };
        let steps = VecDeque::from([Step { action, offset, data }]);
        Outcome::Transfer(Self { direction, len, steps })
    }

    pub(super) fn read(offset: u64, len: u64) -> Outcome {
        if len == 0 {
            return Outcome::Done;
        }
        Self::one(Direction::FromDevice, len, Action::Read, offset)
    }
}

pub(super) fn execute(
    unit: &LogicalUnit,
    cdb: &Cdb,
    parameters: &mut dyn FnMut(&mut [u8]) -> bool,
) -> Result<Outcome, Sense> {
    let code = cdb.opcode();
    if matches!(code, op::MODE_SELECT_6 | op::MODE_SELECT_10) {
        return mode::select(unit, cdb, parameters);
    }
    let disk = Blocks { info: unit.info()?, write_cache: unit.with_state(|s| s.write_cache) };
    match code {
        op::READ_CAPACITY_10 => disk.capacity_10(),
        op::SERVICE_ACTION_IN if cdb.byte(1) & 0x1f == op::READ_CAPACITY_16 => {
            disk.capacity_16(cdb)
        }
        op::READ_6 | op::READ_10 | op::READ_12 | op::READ_16 => disk.read(cdb),
        op::WRITE_6 | op::WRITE_10 | op::WRITE_12 | op::WRITE_16 => disk.write(cdb, cdb.has(1, 8)),
        op::WRITE_VERIFY_10 | op::WRITE_VERIFY_12 | op::WRITE_VERIFY_16 => disk.write(cdb, true),
        op::VERIFY_10 | op::VERIFY_12 | op::VERIFY_16 => disk.verify(cdb),
        op::PREFETCH_10 | op::PREFETCH_16 => disk.range(cdb).map(|_| Outcome::Done),
        op::SYNCHRONIZE_CACHE_10 | op::SYNCHRONIZE_CACHE_16 => {
            disk.range(cdb)?;
            Ok(Transfer::one(Direction::None, 0, Action::Flush, 0))
        }
        op::WRITE_SAME_10 | op::WRITE_SAME_16 => disk.write_same(cdb, parameters),
        op::UNMAP => disk.unmap(cdb, parameters),
        _ => Err(Sense::OPCODE),
    }
}

/// The medium, as one command finds it.
struct Blocks {
    info: DiskInfo,
    write_cache: bool,
}

/// First block and number of blocks, by the shape of the command.
fn place(cdb: &Cdb) -> (u64, u64) {
    match cdb.opcode() >> 5 {
        0 => {
            let count = u64::from(cdb.byte(4));
            ((cdb.be24(1) & 0x1f_ffff).into(), if count == 0 { 256 } else { count })
        }
        1 | 2 => (cdb.be32(2).into(), cdb.be16(7).into()),
        4 => (cdb.be64(2), cdb.be32(10).into()),
        _ => (cdb.be32(2).into(), cdb.be32(6).into()),
    }
}

impl Blocks {
    fn block(&self) -> u64 {
        self.info.block_size.into()
    }

    fn count(&self) -> u64 {
        self.info.size / self.block()
    }

    /// The command's range in bytes: offset and length.
    fn range(&self, cdb: &Cdb) -> Result<(u64, u64), Sense> {
        let (first, count) = place(cdb);
        self.bytes(first, count)
    }

    fn bytes(&self, first: u64, count: u64) -> Result<(u64, u64), Sense> {
        let end = first.checked_add(count).ok_or(Sense::RANGE)?;
        if end > self.count() {
            return Err(Sense::RANGE);
        }
        // The end is inside the disk, so neither product overflows.
        Ok((first * self.block(), count * self.block()))
    }

    fn writable(&self) -> Result<(), Sense> {
        if self.info.read_only { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Protection information is not provided; the first byte of all but the 6-byte commands asks for it.
    fn unprotected(cdb: &Cdb) -> Result<(), Sense> {
        if cdb.opcode() >> 5 != 0 && cdb.has(1, 0xe0) { Err(Sense::FIELD) } else { Ok(()) }
    }

    fn read(&self, cdb: &Cdb) -> Result<Outcome, Sense> {
        Self::unprotected(cdb)?;
        let (offset, len) = self.range(cdb)?;
        Ok(Transfer::read(offset, len))
    }

    fn write(&self, cdb: &Cdb, at_once: bool) -> Result<Outcome, Sense> {
        Self::unprotected(cdb)?;
        let (offset, len) = self.range(cdb)?;
        self.writable()?;
        if len == 0 {
            return Ok(Outcome::Done);
        }
        // Six-byte commands have part of the address where the others have FUA.
        let forced = at_once && cdb.opcode() != op::WRITE_6;
        let action = Action::Write { durable: forced || !self.write_cache };
        Ok(Transfer::one(Direction::ToDevice, len, action, offset))
    }

    fn verify(&self, cdb: &Cdb) -> Result<Outcome, Sense> {
        Self::unprotected(cdb)?;
        // Comparing with bytes of the initiator is not provided.
        if cdb.has(1, 0x06) {
            return Err(Sense::FIELD);
        }
        self.range(cdb).map(|_| Outcome::Done)
    }

    fn capacity_10(&self) -> Result<Outcome, Sense> {
        let last = self.count().saturating_sub(1);
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        let mut data = last.to_be_bytes().to_vec();
        data.extend(self.info.block_size.to_be_bytes());
        Ok(Outcome::Reply(data))
    }

    fn capacity_16(&self, cdb: &Cdb) -> Result<Outcome, Sense> {
        let mut data = vec![0; 32];
        data[..8].copy_from_slice(&self.count().saturating_sub(1).to_be_bytes());
        data[8..12].copy_from_slice(&self.info.block_size.to_be_bytes());
        data[13] = inquiry::physical_exponent(&self.info);
        if !self.info.read_only && self.info.discard {
            data[14] = 0x80;
        }
        reply(data, cdb.be32(10))
    }

    fn write_same(
        &self,
        cdb: &Cdb,
        parameters: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<Outcome, Sense> {
        let (_, blocks) = place(cdb);
        let (offset, len) = self.range(cdb)?;
        let no_data = cdb.opcode() == op::WRITE_SAME_16 && cdb.has(1, 1);
        // Protection, anchored blocks, and the obsolete forms that write addresses.
        let refused = if no_data { 0xf6 } else { 0xf7 };
        if cdb.has(1, refused) || len == 0 || len > MOST_WRITE_SAME {
            return Err(Sense::FIELD);
        }
        self.writable()?;
        let unmap = cdb.has(1, 0x08);
        let durable = !self.write_cache;
        let mut pattern = vec![0; self.info.block_size as usize];
        if !no_data && !parameters(&mut pattern) {
            return Err(Sense::FIELD);
        }
        let zero = Action::Zero { len, unmap, durable };
        if pattern.iter().all(|byte| *byte == 0) {
            let given = if no_data { 0 } else { self.block() };
            let step = Step { action: zero, offset, data: Data::None };
            let direction = if no_data { Direction::None } else { Direction::ToDevice };
            let steps = VecDeque::from([step]);
            return Ok(Outcome::Transfer(Transfer { direction, len: given, steps }));
        }
        let step = |first: u64| Step {
            action: Action::Write { durable },
            offset: offset + first * self.block(),
            data: Data::Repeated((blocks - first).min(PATTERN_STEP)),
        };
        let steps = (0..blocks).step_by(PATTERN_STEP as usize).map(step).collect();
        let (direction, len) = (Direction::ToDevice, self.block());
        Ok(Outcome::Transfer(Transfer { direction, len, steps }))
    }

    fn unmap(
        &self,
        cdb: &Cdb,
        parameters: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<Outcome, Sense> {
        if !self.info.discard {
            return Err(Sense::OPCODE);
        }
        // Anchored blocks are not provided.
        if cdb.has(1, 1) {
            return Err(Sense::FIELD);
        }
        self.writable()?;
        let len = usize::from(cdb.be16(7));
        if len == 0 {
            return Ok(Outcome::Done);
        }
        if !(8..=8 + 16 * usize::from(MOST_UNMAP_DESCRIPTORS)).contains(&len) {
            return Err(Sense::LIST_LENGTH);
        }
        let mut list = vec![0; len];
        if !parameters(&mut list) {
            return Err(Sense::LIST_LENGTH);
        }
        let announced = usize::from(u16::from_be_bytes([list[2], list[3]]));
        let mut steps = VecDeque::new();
        for descriptor in list[8..].chunks_exact(16).take(announced / 16) {
            let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
            let (offset, len) = self.bytes(number(&descriptor[..8]), number(&descriptor[8..12]))?;
            if len > MOST_UNMAP {
                return Err(Sense::LIST_FIELD);
            }
            if len > 0 {
                steps.push_back(Step { action: Action::Discard { len }, offset, data: Data::None });
            }
        }
        if steps.is_empty() {
            return Ok(Outcome::Done);
        }
        let len = len as u64;
        Ok(Outcome::Transfer(Transfer { direction: Direction::ToDevice, len, steps }))
    }
}
