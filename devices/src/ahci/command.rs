//! Command headers, tables and physical region descriptors (AHCI 1.3.1 §4.2), each copied once.

use memory::{GuestRam, IoBuffers};

use super::spec::{FIS_COMMAND, FIS_H2D, HEADER_LEN, PACKET_OFFSET, PRD_LEN, PRDT_OFFSET};
use crate::ata::TaskFile;

/// Descriptors that are read at a time.
const BATCH: u64 = 64;

/// What a command's structures are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A structure is not in memory: a host bus fatal error.
    Structure,
    /// A buffer is not in memory: a host bus data error.
    Data,
    /// The buffers are shorter than the data.
    Short,
}

/// A command as the driver wrote it.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// Of the header, where the count of bytes goes.
    header: u64,
    table: u64,
    descriptors: u64,
    pub(super) fis: [u8; 20],
}

impl Command {
    pub(super) fn read(ram: &GuestRam, list: u64, slot: u32) -> Result<Self, Broken> {
        let header = list.checked_add(u64::from(slot) * HEADER_LEN).ok_or(Broken::Structure)?;
        let mut bytes = [0; 16];
        ram.read_slice(header, &mut bytes).map_err(|_| Broken::Structure)?;
        let [_, _, d0, d1, _, _, _, _, t0, t1, t2, t3, t4, t5, t6, t7] = bytes;
        let table = u64::from_le_bytes([t0 & 0x80, t1, t2, t3, t4, t5, t6, t7]);
        let mut fis = [0; 20];
        ram.read_slice(table, &mut fis).map_err(|_| Broken::Structure)?;
        Ok(Self { header, table, descriptors: u16::from_le_bytes([d0, d1]).into(), fis })
    }

    pub(super) fn is_host_to_device(&self) -> bool {
        self.fis[0] == FIS_H2D
    }

    /// Whether the FIS gives a command; else it writes the control register.
    pub(super) fn is_command(&self) -> bool {
        self.fis[1] & FIS_COMMAND != 0
    }

    pub(super) fn control(&self) -> u8 {
        self.fis[15]
    }

    pub(super) fn task_file(&self) -> TaskFile {
        let fis = &self.fis;
        TaskFile {
            command: fis[2],
            features: u16::from_le_bytes([fis[3], fis[11]]),
            lba: u64::from_le_bytes([fis[4], fis[5], fis[6], fis[8], fis[9], fis[10], 0, 0]),
            count: u16::from_le_bytes([fis[12], fis[13]]),
            device: fis[7],
        }
    }

    pub(super) fn packet(&self, ram: &GuestRam) -> Result<[u8; 16], Broken> {
        let mut packet = [0; 16];
        let at = self.table.checked_add(PACKET_OFFSET).ok_or(Broken::Structure)?;
        ram.read_slice(at, &mut packet).map_err(|_| Broken::Structure)?;
        Ok(packet)
    }

    /// Fill `buffers` with the first `len` bytes that the descriptors name.
    pub(super) fn fill(
        &self,
        ram: &GuestRam,
        len: u64,
        buffers: &mut IoBuffers,
    ) -> Result<(), Broken> {
        if self.fill_at_most(ram, len, buffers)? < len { Err(Broken::Short) } else { Ok(()) }
    }

    /// As [`fill`](Self::fill), as far as the descriptors go; the bytes they name.
    pub(super) fn fill_at_most(
        &self,
        ram: &GuestRam,
        len: u64,
        buffers: &mut IoBuffers,
    ) -> Result<u64, Broken> {
        let start = self.table.checked_add(PRDT_OFFSET).ok_or(Broken::Structure)?;
        let (mut index, mut left) = (0, len);
        let mut batch = vec![0; (BATCH * PRD_LEN) as usize];
        while left > 0 && index < self.descriptors {
            let count = BATCH.min(self.descriptors - index);
            let batch = &mut batch[..(count * PRD_LEN) as usize];
            let at = start.checked_add(index * PRD_LEN).ok_or(Broken::Structure)?;
            ram.read_slice(at, batch).map_err(|_| Broken::Structure)?;
            for descriptor in batch.chunks_exact(PRD_LEN as usize) {
                if left == 0 {
                    break;
                }
                let [a0, a1, a2, a3, a4, a5, a6, a7, _, _, _, _, c0, c1, c2, _] = descriptor else {
                    continue;
                };
                let address = u64::from_le_bytes([*a0, *a1, *a2, *a3, *a4, *a5, *a6, *a7]);
                let size = u64::from(u32::from_le_bytes([*c0, *c1, *c2 & 0x3f, 0])) + 1;
                let part = size.min(left);
                buffers.push(address, part).map_err(|_| Broken::Data)?;
                left -= part;
            }
            index += count;
        }
        Ok(len - left)
    }

    /// Tell the driver how many bytes have moved.
    pub(super) fn set_moved(&self, ram: &GuestRam, bytes: u64) {
        // The header was read from there: it is RAM.
        let _ = ram.write_obj(self.header + 4, u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}
