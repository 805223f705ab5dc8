//! [`OptionRom`]: the expansion ROM of a function (PCI Firmware 3.2 §5), from which firmware boots by
//! what it has no driver for. The guest reads it without an exit, wherever firmware puts it.
//!
//! ```text
//! 0 55 aa   2 u8 length / 512   6 u8 checksum   0x18 u16 ──▶ "PCIR", vendor, device, … type, last
//! ```

use std::io;
use std::sync::Arc;

use memory::{Backing, GuestRam, MemoryError};

use crate::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use crate::limit::warn_limited;

/// Of the memslot.
const PAGE: u64 = 4096;
const BLOCK: usize = 512;

const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// A byte without meaning by which makers of ROMs make the sum come out.
const CHECKSUM: usize = 6;
const DATA_POINTER: usize = 0x18;
const DATA_SIGNATURE: [u8; 4] = *b"PCIR";
const DATA_LEN: usize = 0x18;
const TYPE_BIOS: u8 = 0;
const LAST: u8 = 1 << 7;

#[derive(Debug, thiserror::Error)]
pub enum OptionRomError {
    #[error("an option ROM of {0} bytes: it must have 512 bytes to 16 MiB")]
    Size(usize),
    #[error("the file is no option ROM: it does not start with 55 aa")]
    Signature,
    #[error("memory for the option ROM cannot be had")]
    Memory(#[from] MemoryError),
    #[error("the option ROM cannot be shown to the guest")]
    Map(#[source] io::Error),
}

pub struct OptionRom {
    memory: GuestRam,
    window: Arc<dyn MemoryWindow>,
}

impl OptionRom {
    /// Larger ones would not leave each other room below 4 GiB.
    pub const MAX: usize = 16 << 20;

    /// `image`, said to be for the function `vendor:device`: a ROM may be made for the older of two
    /// ids by which its driver knows a device, and a BIOS runs it only for the id that it names.
    pub fn new(
        image: &[u8],
        vendor: u16,
        device: u16,
        mapper: &dyn MemoryMapper,
    ) -> Result<Self, OptionRomError> {
        if image.len() < BLOCK || image.len() > Self::MAX {
            return Err(OptionRomError::Size(image.len()));
        }
        if image[..2] != SIGNATURE {
            return Err(OptionRomError::Signature);
        }
        let mut image = image.to_vec();
        rename(&mut image, vendor, device);
        let size = (image.len() as u64).next_power_of_two().max(PAGE);
        let memory = GuestRam::new(&[(0, size)], &Backing::Anonymous)?;
        memory.write_slice(0, &image)?;
        let window = mapper.window(&memory, GuestAccess::ReadOnly).map_err(OptionRomError::Map)?;
        Ok(Self { memory, window })
    }

    /// A power of two, for the BAR.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.memory.size()
    }

    pub fn read(&self, offset: u64, data: &mut [u8]) {
        if self.memory.read_slice(offset, data).is_err() {
            data.fill(0xff);
        }
    }

    pub fn moved(&self, base: Option<u64>) {
        if let Err(error) = self.window.place(base) {
            warn_limited!(%error, "an option ROM is not mapped: accesses are slow");
        }
    }
}

/// Put the ids into every image for a BIOS, and make its sum zero again.
fn rename(rom: &mut [u8], vendor: u16, device: u16) {
    let mut start = 0;
    while let Some(image) = rom.get_mut(start..).filter(|image| image.starts_with(&SIGNATURE)) {
        let Some((data, blocks)) = data_structure(image) else { return };
        let header = &mut image[data..data + DATA_LEN];
        let (kind, last) = (header[0x14], header[0x15] & LAST != 0);
        if kind == TYPE_BIOS {
            let ids = [vendor.to_le_bytes(), device.to_le_bytes()].concat();
            let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            let change = sum(&header[4..8]).wrapping_sub(sum(&ids));
            header[4..8].copy_from_slice(&ids);
            image[CHECKSUM] = image[CHECKSUM].wrapping_add(change);
        }
        if last || blocks == 0 {
            return;
        }
        start += blocks * BLOCK;
    }
}

/// Where the PCI data structure of an image lies, and how many blocks the image has.
fn data_structure(image: &[u8]) -> Option<(usize, usize)> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*image.get(at..)?.first_chunk()?));
    let data = usize::from(u16_at(DATA_POINTER)?);
    let inside = image.get(data..data.checked_add(DATA_LEN)?)?;
    inside.starts_with(&DATA_SIGNATURE).then_some(())?;
    Some((data, usize::from(u16_at(data + 0x10)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeMapper;

    const DATA: usize = 0x20;

    /// An image of two blocks.
    fn image(kind: u8, last: bool) -> Vec<u8> {
        let mut image = vec![0; 2 * BLOCK];
        image[..3].copy_from_slice(&[0x55, 0xaa, 2]);
        image[DATA_POINTER] = DATA as u8;
        image[DATA..DATA + 8].copy_from_slice(b"PCIR\xf4\x1a\x00\x10");
        image[DATA + 0x10] = 2;
        image[DATA + 0x14] = kind;
        image[DATA + 0x15] = if last { LAST } else { 0 };
        image[BLOCK * 2 - 1] = 0u8.wrapping_sub(sum(&image));
        image
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn images_for_a_bios_get_the_ids_of_the_device_and_keep_their_sum() {
        let rom = [image(3, false), image(0, true), image(0, true)].concat();
        let mapper = FakeMapper::default();
        let built = OptionRom::new(&rom, 0x1af4, 0x1041, &mapper).unwrap();
        assert_eq!(built.size(), 4096);
        let mut bytes = vec![0; rom.len()];
        built.read(0, &mut bytes);
        assert!(bytes[..2 * BLOCK] == rom[..2 * BLOCK], "what is for UEFI stays as it is");
        let bios = &bytes[2 * BLOCK..4 * BLOCK];
        assert_eq!((&bios[DATA + 4..DATA + 8], sum(bios)), (&[0xf4, 0x1a, 0x41, 0x10][..], 0));
        assert!(bytes[4 * BLOCK..] == rom[4 * BLOCK..], "nothing comes after the last");
        built.moved(Some(0xfeb0_0000));
        assert_eq!(mapper.places(), [Some(0xfeb0_0000)]);
    }

    #[test]
    fn images_that_lie_about_themselves_are_left_alone() {
        let mut no_end = image(0, false);
        no_end[DATA + 0x10] = 0;
        let mut outside = image(0, true);
        outside[DATA_POINTER + 1] = 0xff;
        let mut cut = image(0, false);
        cut[DATA + 0x10..DATA + 0x12].fill(0xff);
        for rom in [no_end, outside, cut, vec![0x55; 3 * BLOCK]] {
            let _ = OptionRom::new(&rom, 1, 2, &FakeMapper::default());
        }
    }

    #[test]
    fn what_is_no_rom_is_refused() {
        let refused = |bytes: &[u8]| OptionRom::new(bytes, 1, 2, &FakeMapper::default()).err();
        assert!(matches!(refused(&[0x55, 0xaa]), Some(OptionRomError::Size(2))));
        assert!(matches!(refused(&[0; 1024]), Some(OptionRomError::Signature)));
        assert!(matches!(refused(&vec![0x55; OptionRom::MAX + 1]), Some(OptionRomError::Size(_))));
    }
}
