//! [`Chain`]: one descriptor chain (virtio 1.2 §2.7.5), owned and checked.

use memory::{GuestRam, IoBuffers, MemoryError};
use vm_memory::ByteValued;

#[cfg(test)]
mod properties;

/// A range of guest RAM, `(gpa, len)`, inside RAM throughout and not empty.
pub type Range = (u64, u64);

/// What keeps a chain from being usable. The driver wrote it, so the queue is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    #[error("the chain loops or is longer than the queue allows")]
    TooLong,
    #[error("descriptor index {0} is outside its table")]
    Index(u16),
    #[error("buffer {gpa:#x}+{len:#x} is not in guest memory")]
    Outside { gpa: u64, len: u64 },
    #[error("a buffer is empty")]
    Empty,
    #[error("the buffers add up to more than 4 GiB")]
    TooLarge,
    #[error("a readable buffer follows a writable one")]
    Order,
    #[error("an indirect table was not negotiated")]
    IndirectRefused,
    #[error("an indirect table has the impossible length {0:#x}")]
    IndirectLength(u32),
    #[error("an indirect table is nested or continued")]
    IndirectShape,
}

/// Where a queue's chains may lie, and how long they may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) table: u64,
    /// Descriptors in the queue's own table: also the longest chain within it.
    pub(super) direct: u16,
    /// Longest indirect table, when indirect descriptors were negotiated.
    pub(super) indirect: Option<u16>,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR: u64 = 16;

#[derive(Debug, Clone, Copy)]
struct Descriptor {
    gpa: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// One chain of buffers: first those the device reads, then those it writes.
///
/// The front is consumed by [`read_obj`](Self::read_obj) and [`write_obj`](Self::write_obj); the
/// rest goes to the kernel as [`IoBuffers`].
#[derive(Debug)]
pub struct Chain {
    ram: GuestRam,
    head: u16,
    readable: Vec<Range>,
    writable: Vec<Range>,
    readable_len: u64,
    writable_len: u64,
}

impl Chain {
    pub(super) fn new(ram: GuestRam) -> Self {
        Self {
            ram,
            head: 0,
            readable: Vec::new(),
            writable: Vec::new(),
            readable_len: 0,
            writable_len: 0,
        }
    }

    /// Become the chain that starts at `head`, replacing what was here.
    pub(super) fn load(&mut self, head: u16, limits: &Limits) -> Result<(), BadChain> {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        (self.readable_len, self.writable_len) = (0, 0);
        let ram = self.ram.clone();
        // One copy: what is checked afterwards is what is used.
        let read = |gpa| {
            let mut raw = [0; DESCRIPTOR as usize];
            ram.read_slice(gpa, &mut raw).is_ok().then(|| Descriptor::parse(raw))
        };
        walk(head, limits, read, |descriptor| self.push(descriptor))
    }

    fn push(&mut self, descriptor: &Descriptor) -> Result<(), BadChain> {
        let (gpa, len) = (descriptor.gpa, u64::from(descriptor.len));
        if len == 0 {
            return Err(BadChain::Empty);
        }
        if !self.ram.contains(gpa, len) {
            return Err(BadChain::Outside { gpa, len });
        }
        if self.readable_len + self.writable_len + len > u64::from(u32::MAX) {
            return Err(BadChain::TooLarge);
        }
        if descriptor.flags & WRITE != 0 {
            self.writable.push((gpa, len));
            self.writable_len += len;
        } else if self.writable.is_empty() {
            self.readable.push((gpa, len));
            self.readable_len += len;
        } else {
            return Err(BadChain::Order);
        }
        Ok(())
    }

    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes left for the device to read.
    #[must_use]
    pub fn readable_len(&self) -> u32 {
        // The sum of both parts was capped when the chain was loaded.
        self.readable_len as u32
    }

    /// Bytes left for the device to write.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        self.writable_len as u32
    }

    #[must_use]
    pub fn readable(&self) -> &[Range] {
        &self.readable
    }

    #[must_use]
    pub fn writable(&self) -> &[Range] {
        &self.writable
    }

    /// Copy the next `data.len()` readable bytes out and consume them; false (and nothing
    /// consumed) when there are fewer.
    #[must_use]
    pub fn read(&mut self, data: &mut [u8]) -> bool {
        let ram = &self.ram;
        let mut rest = data;
        take_front(&mut self.readable, &mut self.readable_len, rest.len() as u64, |gpa, part| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(part);
            rest = later;
            ram.read_slice(gpa, now).is_ok()
        })
    }

    /// Copy `data` into the next writable bytes and consume them; false (and nothing consumed)
    /// when there is less room.
    #[must_use]
    pub fn write(&mut self, data: &[u8]) -> bool {
        let ram = &self.ram;
        let mut rest = data;
        take_front(&mut self.writable, &mut self.writable_len, rest.len() as u64, |gpa, part| {
            let (now, later) = rest.split_at(part);
            rest = later;
            ram.write_slice(gpa, now).is_ok()
        })
    }

    /// Copy a plain value out of the readable part, once, however the driver cut it up.
    pub fn read_obj<T: ByteValued>(&mut self) -> Option<T> {
        let mut value = T::zeroed();
        self.read(value.as_mut_slice()).then_some(value)
    }

    #[must_use]
    pub fn write_obj<T: ByteValued>(&mut self, value: T) -> bool {
        self.write(value.as_slice())
    }

    /// Consume the next `count` readable bytes unread; false when there are fewer.
    #[must_use]
    pub fn skip(&mut self, count: u32) -> bool {
        take_front(&mut self.readable, &mut self.readable_len, count.into(), |_, _| true)
    }

    /// Take the last writable byte off the chain, whatever its shape: where a status goes.
    pub fn split_status(&mut self) -> Option<StatusByte> {
        let gpa = take_last(&mut self.writable)?;
        self.writable_len -= 1;
        Some(StatusByte(gpa))
    }

    /// Take the next `count` writable bytes off the chain, to be written later; nothing is taken
    /// when there are fewer.
    pub fn split_writable(&mut self, count: u32) -> Option<Place> {
        let mut ranges = Vec::with_capacity(1);
        let taken =
            take_front(&mut self.writable, &mut self.writable_len, count.into(), |gpa, part| {
                ranges.push((gpa, part as u64));
                true
            });
        taken.then_some(Place(ranges))
    }

    /// Append the rest of the readable part, for the kernel to read from.
    pub fn append_readable(&self, buffers: &mut IoBuffers) -> Result<(), MemoryError> {
        self.readable.iter().try_for_each(|(gpa, len)| buffers.push(*gpa, *len))
    }

    /// Append the rest of the writable part, for the kernel to write into.
    pub fn append_writable(&self, buffers: &mut IoBuffers) -> Result<(), MemoryError> {
        self.writable.iter().try_for_each(|(gpa, len)| buffers.push(*gpa, *len))
    }

    /// The rest of the readable part as a list of its own.
    pub fn readable_buffers(&self) -> Result<IoBuffers, MemoryError> {
        self.ram.buffers(self.readable.iter().copied())
    }

    /// The rest of the writable part as a list of its own.
    pub fn writable_buffers(&self) -> Result<IoBuffers, MemoryError> {
        self.ram.buffers(self.writable.iter().copied())
    }

    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }
}

/// Where the status of a request goes, taken off a chain by [`Chain::split_status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusByte(u64);

impl StatusByte {
    pub fn set(self, ram: &GuestRam, status: u8) {
        // The chain's ranges were checked to be RAM, and RAM never shrinks.
        let _ = ram.write_slice(self.0, &[status]);
    }
}

/// Where an answer goes, taken off a chain by [`Chain::split_writable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Vec<Range>);

impl Place {
    /// Write as much of `data` as there is room for.
    pub fn write(&self, ram: &GuestRam, data: &[u8]) {
        let mut rest = data;
        for (gpa, len) in &self.0 {
            let part = usize::try_from(*len).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(part);
            // The chain's ranges were checked to be RAM, and RAM never shrinks.
            let _ = ram.write_slice(*gpa, now);
            rest = later;
        }
    }
}

/// Follow a chain from `head` to its end, or to what is wrong with it. `read` fetches the descriptor
/// at an address; `each` gets those of buffers.
fn walk(
    head: u16,
    limits: &Limits,
    read: impl Fn(u64) -> Option<Descriptor>,
    mut each: impl FnMut(&Descriptor) -> Result<(), BadChain>,
) -> Result<(), BadChain> {
    let mut table = (limits.table, limits.direct);
    let mut inside_indirect = false;
    let mut index = head;
    let mut left = limits.direct;
    loop {
        left = left.checked_sub(1).ok_or(BadChain::TooLong)?;
        let gpa = place(table, index)?;
        let descriptor = read(gpa).ok_or(BadChain::Outside { gpa, len: DESCRIPTOR })?;
        if descriptor.flags & INDIRECT != 0 {
            if inside_indirect || descriptor.flags & NEXT != 0 {
                return Err(BadChain::IndirectShape);
            }
            let longest = limits.indirect.ok_or(BadChain::IndirectRefused)?;
            let len = descriptor.len;
            let count = entries(len, longest).ok_or(BadChain::IndirectLength(len))?;
            table = (descriptor.gpa, count);
            (inside_indirect, index, left) = (true, 0, count);
            continue;
        }
        each(&descriptor)?;
        if descriptor.flags & NEXT == 0 {
            return Ok(());
        }
        index = descriptor.next;
    }
}

/// Where a table of so many entries has the one with this index.
fn place((table, entries): (u64, u16), index: u16) -> Result<u64, BadChain> {
    if index >= entries {
        return Err(BadChain::Index(index));
    }
    let offset = DESCRIPTOR * u64::from(index);
    table.checked_add(offset).ok_or(BadChain::Outside { gpa: table, len: offset })
}

/// How many entries an indirect table of this length has, if it can be one.
fn entries(len: u32, longest: u16) -> Option<u16> {
    let count = u16::try_from(u64::from(len) / DESCRIPTOR).ok()?;
    (u64::from(len).is_multiple_of(DESCRIPTOR) && (1..=longest).contains(&count)).then_some(count)
}

/// Take the last byte off `ranges`; its address.
fn take_last(ranges: &mut Vec<Range>) -> Option<u64> {
    let last = ranges.last_mut()?;
    last.1 -= 1;
    let gpa = last.0 + last.1;
    if last.1 == 0 {
        ranges.pop();
    }
    Some(gpa)
}

impl Descriptor {
    fn parse(raw: [u8; DESCRIPTOR as usize]) -> Self {
        let [g0, g1, g2, g3, g4, g5, g6, g7, l0, l1, l2, l3, f0, f1, n0, n1] = raw;
        Self {
            gpa: u64::from_le_bytes([g0, g1, g2, g3, g4, g5, g6, g7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        }
    }
}

/// Consume `count` bytes from the front of `ranges`, calling `each` per piece.
fn take_front(
    ranges: &mut Vec<Range>,
    total: &mut u64,
    count: u64,
    mut each: impl FnMut(u64, usize) -> bool,
) -> bool {
    if count > *total {
        return false;
    }
    let mut left = count;
    let mut used_up = 0;
    let mut good = true;
    for range in ranges.iter_mut() {
        if left == 0 {
            break;
        }
        let part = left.min(range.1);
        good &= each(range.0, part as usize);
        *range = (range.0 + part, range.1 - part);
        left -= part;
        if range.1 == 0 {
            used_up += 1;
        }
    }
    ranges.drain(..used_up);
    *total -= count;
    good
}
