//! One request, copied out of guest memory and checked (virtio 1.2 §5.2.6).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vm_memory::ByteValued;

use super::spec::{
    F_DISCARD, F_WRITE_ZEROES, ID_LEN, MAX_DISCARD, MAX_WRITE_ZEROES, S_IOERR, S_UNSUPP, SECTOR,
    SEGMENT_UNMAP, T_DISCARD, T_FLUSH, T_GET_ID, T_IN, T_OUT, T_WRITE_ZEROES,
};
use crate::backend::Action;
use crate::virtio::Chain;

/// What a request may do on this disk.
pub(super) struct Limits<'a> {
    /// Bytes; may change while the guest runs.
    pub(super) size: &'a AtomicU64,
    pub(super) writeback: &'a AtomicBool,
    pub(super) read_only: bool,
    pub(super) block_size: u64,
    pub(super) features: u64,
}

/// A request that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// For the disk; `len` is the length of the data or the range.
    Disk {
        action: Action,
        offset: u64,
        len: u64,
    },
    Identify,
}

type Bytes<const N: usize> = [u8; N];

/// Read the request off `chain` (its status byte taken off already). What does not make sense
/// ends with the status that is the error.
pub(super) fn parse(chain: &mut Chain, limits: &Limits<'_>) -> Result<Parsed, u8> {
    let header: Bytes<16> = read(chain).ok_or(S_IOERR)?;
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
    let sector = u64::from_le_bytes(sector);
    let durable = !limits.writeback.load(Ordering::Relaxed);
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        T_IN => limits.transfer(Action::Read, sector, chain.writable_len()),
        T_OUT => {
            limits.writable()?;
            limits.transfer(Action::Write { durable }, sector, chain.readable_len())
        }
        T_FLUSH => Ok(Parsed::Disk { action: Action::Flush, offset: 0, len: 0 }),
        T_GET_ID => Ok(Parsed::Identify),
        T_DISCARD if limits.features & F_DISCARD != 0 => {
            let segment = Segment::read(chain)?;
            limits.writable()?;
            if segment.flags != 0 {
                return Err(S_UNSUPP);
            }
            let (offset, len) = limits.range(&segment, MAX_DISCARD)?;
            Ok(Parsed::Disk { action: Action::Discard { len }, offset, len })
        }
        T_WRITE_ZEROES if limits.features & F_WRITE_ZEROES != 0 => {
            let segment = Segment::read(chain)?;
            limits.writable()?;
            if segment.flags & !SEGMENT_UNMAP != 0 {
                return Err(S_UNSUPP);
            }
            let unmap = segment.flags & SEGMENT_UNMAP != 0;
            let (offset, len) = limits.range(&segment, MAX_WRITE_ZEROES)?;
            Ok(Parsed::Disk { action: Action::Zero { len, unmap, durable }, offset, len })
        }
        _ => Err(S_UNSUPP),
    }
}

/// `struct virtio_blk_discard_write_zeroes`
struct Segment {
    sector: u64,
    sectors: u32,
    flags: u32,
}

impl Segment {
    /// Exactly one, as the configuration space says.
    fn read(chain: &mut Chain) -> Result<Self, u8> {
        if chain.readable_len() != 16 {
            return Err(S_UNSUPP);
        }
        let bytes: Bytes<16> = read(chain).ok_or(S_IOERR)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = bytes;
        Ok(Self {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            sectors: u32::from_le_bytes([n0, n1, n2, n3]),
            flags: u32::from_le_bytes([f0, f1, f2, f3]),
        })
    }
}

impl Limits<'_> {
    /// Whatever the driver acknowledged: a read-only disk is not written to.
    fn writable(&self) -> Result<(), u8> {
        if self.read_only { Err(S_IOERR) } else { Ok(()) }
    }

    fn transfer(&self, action: Action, sector: u64, len: u32) -> Result<Parsed, u8> {
        let len = u64::from(len);
        let offset = self.place(sector, len)?;
        Ok(Parsed::Disk { action, offset, len })
    }

    fn range(&self, segment: &Segment, max: u32) -> Result<(u64, u64), u8> {
        if segment.sectors > max {
            return Err(S_IOERR);
        }
        let len = u64::from(segment.sectors) * SECTOR;
        Ok((self.place(segment.sector, len)?, len))
    }

    /// The byte offset of `sector`, if `len` bytes from there are whole blocks inside the disk.
    fn place(&self, sector: u64, len: u64) -> Result<u64, u8> {
        let size = self.size.load(Ordering::Relaxed);
        sector
            .checked_mul(SECTOR)
            .filter(|offset| (offset | len).is_multiple_of(self.block_size))
            .filter(|offset| offset.checked_add(len).is_some_and(|end| end <= size))
            .ok_or(S_IOERR)
    }
}

fn read<const N: usize>(chain: &mut Chain) -> Option<Bytes<N>>
where
    Bytes<N>: ByteValued,
{
    chain.read_obj()
}

/// The serial number as GET_ID gives it: cut off, or filled up with zeros.
pub(super) fn identity(serial: &str) -> [u8; ID_LEN] {
    let mut id = [0; ID_LEN];
    for (place, byte) in id.iter_mut().zip(serial.bytes()) {
        *place = byte;
    }
    id
}

#[cfg(test)]
mod properties {
    use scope::every;

    use super::*;

    #[cfg_attr(kani, kani::proof)]
    #[cfg_attr(not(kani), test)]
    fn a_request_that_is_accepted_is_whole_blocks_inside_the_disk() {
        every(|any| {
            let block_size = any.of(&[512, 4096]);
            let size = block_size * any.of(&[0, 1, 9, 1 << 20]);
            let limits = Limits {
                size: &AtomicU64::new(size),
                writeback: &AtomicBool::new(true),
                read_only: false,
                block_size,
                features: 0,
            };
            let sector = if any.flag() { any.edge(2) } else { any.up_to(20) };
            let len = 512 * any.up_to(18) + any.up_to(1);
            let offset = u128::from(sector) * 512;
            let fits = offset + u128::from(len) <= u128::from(size);
            let is_whole =
                offset.is_multiple_of(block_size.into()) && len.is_multiple_of(block_size);
            let placed = limits.place(sector, len);
            assert_eq!(placed.ok().map(u128::from), (fits && is_whole).then_some(offset));
        });
    }

    #[cfg_attr(kani, kani::proof)]
    #[cfg_attr(not(kani), test)]
    fn a_range_is_no_longer_than_is_said_and_ends_inside_the_disk() {
        every(|any| {
            let limits = Limits {
                size: &AtomicU64::new(1 << 30),
                writeback: &AtomicBool::new(true),
                read_only: false,
                block_size: 512,
                features: 0,
            };
            let (sector, sectors) = (any.edge(1), any.edge(1) as u32);
            let max = any.of(&[1, 64, 1 << 22]);
            if let Ok((offset, len)) = limits.range(&Segment { sector, sectors, flags: 0 }, max) {
                assert!(len <= u64::from(max) * 512);
                assert!(u128::from(offset) + u128::from(len) <= 1 << 30);
            }
        });
    }
}
