//! IDENTIFY DEVICE and IDENTIFY PACKET DEVICE (ATA8-ACS §7.16, §7.17).

use super::disk::{AtaIdentity, AtaState, MOST_MULTIPLE, MOST_TRIM_SECTORS};
use super::log::checksum;
use super::spec::SECTOR;
use crate::backend::DiskInfo;

/// Ultra DMA 5, as firmware would have set it.
pub(super) const DEFAULT_MODE: u8 = 0x45;

/// The geometry that every disk has which has more than it can say.
const HEADS: u64 = 16;
const SECTORS_PER_TRACK: u64 = 63;
const MOST_CYLINDERS: u64 = 16_383;

/// 256 words.
struct Words([u16; 256]);

impl Words {
    fn set(&mut self, at: usize, value: u16) -> &mut Self {
        self.0[at] = value;
        self
    }

    fn set_long(&mut self, at: usize, value: u32) -> &mut Self {
        self.set(at, value as u16).set(at + 1, (value >> 16) as u16)
    }

    /// Text, the first character of each word in its high byte.
    fn text(&mut self, at: usize, words: usize, text: &str) -> &mut Self {
        let mut bytes = text.bytes().map(u16::from).chain(std::iter::repeat(b' '.into()));
        for word in &mut self.0[at..at + words] {
            let (high, low) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
            *word = high << 8 | low;
        }
        self
    }

    fn bytes(self) -> Vec<u8> {
        let mut data: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        data[510] = 0xa5;
        checksum(&mut data);
        data
    }
}

/// The supported modes of a kind, and the selected one of them.
fn modes(state_mode: u8, kind: u8, most: u8) -> u16 {
    let selected = if state_mode & 0xf8 == kind { 0x100 << (state_mode & 7) } else { 0 };
    ((1 << (most + 1)) - 1) | selected
}

pub(super) fn disk(info: &DiskInfo, identity: &AtaIdentity, state: &AtaState) -> Vec<u8> {
    let sectors = info.size / SECTOR;
    let cylinders = (sectors / (HEADS * SECTORS_PER_TRACK)).clamp(1, MOST_CYLINDERS) as u16;
    let short = u32::try_from(sectors).unwrap_or(u32::MAX).min(0x0fff_ffff);
    let by_geometry = u32::from(cylinders) * (HEADS * SECTORS_PER_TRACK) as u32;
    let flag = |is: bool, bit: u16| u16::from(is) << bit;
    let serial_ata = !identity.parallel;
    let trims = info.discard && !info.read_only;

    let mut words = Words([0; 256]);
    words
        .set(0, 0x0040)
        .set(1, cylinders)
        .set(3, HEADS as u16)
        .set(6, SECTORS_PER_TRACK as u16)
        .text(10, 10, &identity.serial)
        .text(23, 4, env!("CARGO_PKG_VERSION"))
        .text(27, 20, &identity.model)
        .set(47, 0x8000 | u16::from(MOST_MULTIPLE))
        .set(48, 1)
        // LBA, DMA, IORDY that can be switched off.
        .set(49, 0x0f00)
        .set(50, 0x4000)
        .set(51, 0x0200)
        .set(52, 0x0200)
        // Words 54 to 58, 64 to 70, and 88 mean something.
        .set(53, 0x0007)
        .set(54, cylinders)
        .set(55, HEADS as u16)
        .set(56, SECTORS_PER_TRACK as u16)
        .set_long(57, by_geometry)
        .set(59, if state.multiple > 0 { 0x100 | u16::from(state.multiple) } else { 0 })
        .set_long(60, short)
        .set(63, modes(state.mode, 0x20, 2))
        // PIO modes 3 and 4; nanoseconds of a cycle.
        .set(64, 0x0003);
    for word in 65..=68 {
        words.set(word, 120);
    }
    if serial_ata {
        // Thirty-two queued commands; generations 1 to 3 with a native queue.
        words.set(75, 31).set(76, 0x010e).set(222, 0x101f);
    }
    // What is there: SMART, write cache, look-ahead, NOP; 48 bits and both flushes; logs, FUA, a name.
    let extra = 0x4040 | flag(serial_ata, 5) | flag(identity.wwn.is_some(), 8);
    words
        // ATA-4 to ATA8-ACS.
        .set(80, 0x01f0)
        .set(82, 0x4061)
        .set(83, 0x7400)
        .set(84, extra)
        .set(
            85,
            0x4000 | flag(state.look_ahead, 6) | flag(state.write_cache, 5) | flag(state.smart, 0),
        )
        .set(86, 0x3400)
        .set(87, extra)
        .set(88, modes(state.mode, 0x40, if serial_ata { 6 } else { 5 }));
    if identity.parallel {
        // Reset found the device by jumper, and a cable with 80 wires.
        words.set(93, 0x6001);
    }
    words.set_long(100, sectors as u32).set_long(102, (sectors >> 32) as u32);
    if trims {
        words.set(105, MOST_TRIM_SECTORS).set(169, 1);
    }
    let exponent = (info.physical_block_size / SECTOR as u32).checked_ilog2().unwrap_or(0) as u16;
    words.set(106, 0x4000 | flag(exponent > 0, 13) | exponent & 0xf);
    if let Some(wwn) = identity.wwn {
        for (at, part) in (108..112).zip([48, 32, 16, 0]) {
            words.set(at, (wwn >> part) as u16);
        }
    }
    words.set(217, identity.rotation_rate);
    words.bytes()
}

/// A CD-ROM drive with packets of 12 bytes.
pub(super) fn packet(identity: &AtaIdentity, mode: u8) -> Vec<u8> {
    let mut words = Words([0; 256]);
    words
        // ATAPI, CD-ROM, removable, DRQ within 50 µs.
        .set(0, 0x85c0)
        .text(10, 10, &identity.serial)
        .text(23, 4, env!("CARGO_PKG_VERSION"))
        .text(27, 20, &identity.model)
        .set(48, 1)
        .set(49, 0x0f00)
        .set(53, 0x0007)
        .set(63, modes(mode, 0x20, 2))
        .set(64, 0x0003);
    for word in 65..=68 {
        words.set(word, 120);
    }
    words
        .set(71, 30)
        .set(72, 30)
        .set(80, 0x01f0)
        // PACKET, DEVICE RESET, NOP.
        .set(82, 0x4210)
        .set(83, 0x4000)
        .set(84, 0x4000)
        .set(85, 0x4210)
        .set(87, 0x4000)
        .set(88, modes(mode, 0x40, 5));
    if identity.parallel {
        words.set(93, 0x6001);
    } else {
        words.set(76, 0x000e).set(222, 0x101f);
    }
    words.bytes()
}

/// The sector that cylinder, head and sector name; there is no sector 0.
pub(super) fn sector_of(lba: u64, device: u8) -> Option<u64> {
    let (sector, cylinder, head) = (lba & 0xff, lba >> 8 & 0xffff, u64::from(device & 0xf));
    let valid = (1..=SECTORS_PER_TRACK).contains(&sector);
    valid.then(|| (cylinder * HEADS + head) * SECTORS_PER_TRACK + sector - 1)
}
