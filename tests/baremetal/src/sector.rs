//! Boot sectors: 16-bit code that a BIOS starts from a disk.
//!
//! It has DS, ES and SS zero and its stack below itself; DI, SI and the general registers are
//! clobbered freely. Errors of the disk are printed, and the guest stops.

/// Where a BIOS loads the first sector.
const LOAD: u16 = 0x7c00;
pub const SECTOR: usize = 512;
/// Less than a cylinder (16 heads of 63 sectors) is no disk to a BIOS.
const DISK: usize = 1 << 20;
/// Sectors behind the first that hold the rest of the code.
const BODY: usize = 16;
/// The drive that the BIOS booted from, kept for every later call.
const DRIVE: u16 = 0x600;
/// The disk address packet of INT 13h, AH 42h and 43h.
const PACKET: u16 = 0x610;
const COM1: u16 = 0x3f8;

/// Condition codes of conditional jumps.
#[derive(Debug, Clone, Copy)]
pub enum If {
    Below = 2,
    NotBelow = 3,
    Zero = 4,
    NotZero = 5,
}

#[derive(Debug, Default)]
pub struct Sector {
    code: Vec<u8>,
}

/// A disk of 1 MiB whose first sector loads the code behind it, and runs it.
pub fn disk(write: impl FnOnce(&mut Sector)) -> Vec<u8> {
    let mut first = Sector::default();
    // Segments and stack, whatever the BIOS left in them.
    first.raw(&[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc]).raw(&LOAD.to_le_bytes());
    first.raw(&[0x88, 0x16]).raw(&DRIVE.to_le_bytes());
    first.read(1, BODY as u16, LOAD + SECTOR as u16);
    // A far jump: some BIOSes start the sector at 07c0:0000.
    first.raw(&[0xea]).raw(&(LOAD + SECTOR as u16).to_le_bytes()).raw(&[0, 0]);
    let mut first = first.code;
    assert!(first.len() <= 440, "the first sector has room for the loader");
    first.resize(SECTOR - 2, 0);
    first.extend([0x55, 0xaa]);

    let mut body = Sector::default();
    write(&mut body);
    body.stop();
    assert!(body.code.len() <= BODY * SECTOR, "the code fits the sectors that are loaded");
    let mut image = [first, body.code].concat();
    image.resize(DISK, 0);
    image
}

/// Of a CD-ROM.
pub const CD_SECTOR: usize = 2048;
/// Where [`cdrom`] has room for data, of which the first byte is 5: a sector of the CD-ROM.
pub const CD_DATA: u32 = 32;

/// A CD-ROM that a BIOS boots without making a floppy or a disk of it (El Torito 1.0). It holds no
/// files: a volume descriptor, a boot record, the catalogue that it names, and the code.
pub fn cdrom(write: impl FnOnce(&mut Sector)) -> Vec<u8> {
    const CATALOGUE: u32 = 19;
    const CODE: u32 = 20;
    let mut code = Sector::default();
    // As `disk` does, but all of the code is there already, at 07c0:0000.
    code.raw(&[0xea]).raw(&(LOAD + 5).to_le_bytes()).raw(&[0, 0]);
    code.raw(&[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc]).raw(&LOAD.to_le_bytes());
    code.raw(&[0x88, 0x16]).raw(&DRIVE.to_le_bytes());
    write(&mut code);
    code.stop();
    assert!(code.code.len() <= BODY * SECTOR, "the code fits the sectors that are loaded");

    let mut image = vec![0; 64 * CD_SECTOR];
    let mut put = |sector: u32, at: usize, bytes: &[u8]| {
        let at = sector as usize * CD_SECTOR + at;
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(16, 0, b"\x01CD001\x01");
    put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION");
    put(17, 0x47, &CATALOGUE.to_le_bytes());
    put(18, 0, b"\xffCD001\x01");
    // The validation entry for an 80x86, whose words add up to zero, and the default entry:
    // bootable, without emulation.
    let mut validation = [0; 32];
    (validation[0], validation[30], validation[31]) = (1, 0x55, 0xaa);
    let words = validation.chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0_u16, u16::wrapping_add);
    validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    put(CATALOGUE, 0, &validation);
    put(CATALOGUE, 32, &[0x88, 0]);
    put(CATALOGUE, 32 + 6, &(BODY as u16).to_le_bytes());
    put(CATALOGUE, 32 + 8, &CODE.to_le_bytes());
    put(CODE, 0, &code.code);
    put(CD_DATA, 0, &[5]);
    image
}

impl Sector {
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.extend_from_slice(bytes);
        self
    }

    /// `text` to COM1.
    pub fn print(&mut self, text: &str) -> &mut Self {
        self.set_dx(COM1);
        for byte in text.bytes() {
            self.raw(&[0xb0, byte, 0xee]);
        }
        self
    }

    /// `text` by the BIOS (INT 10h, AH 0eh).
    pub fn say(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            self.raw(&[0xb4, 0x0e, 0xb0, byte, 0xbb, 7, 0, 0xcd, 0x10]);
        }
        self
    }

    /// The low three bits of the byte at `address` as a digit, to COM1.
    pub fn print_digit(&mut self, address: u16) -> &mut Self {
        self.load(address).raw(&[0x24, 7, 0x04, b'0']).set_dx(COM1).raw(&[0xee])
    }

    /// AL = the byte at `address`.
    pub fn load(&mut self, address: u16) -> &mut Self {
        self.raw(&[0xa0]).raw(&address.to_le_bytes())
    }

    pub fn increment(&mut self, address: u16) -> &mut Self {
        self.raw(&[0xfe, 0x06]).raw(&address.to_le_bytes())
    }

    /// Round and round.
    pub fn forever(&mut self, body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.code.len();
        body(self);
        let back = start as i64 - (self.code.len() as i64 + 3);
        let back = i16::try_from(back).expect("bodies are short");
        self.raw(&[0xe9]).raw(&back.to_le_bytes())
    }

    fn set_dx(&mut self, value: u16) -> &mut Self {
        self.raw(&[0xba]).raw(&value.to_le_bytes())
    }

    pub fn out_byte(&mut self, port: u16, value: u8) -> &mut Self {
        self.set_dx(port).raw(&[0xb0, value, 0xee])
    }

    pub fn out_word(&mut self, port: u16, value: u16) -> &mut Self {
        self.set_dx(port).raw(&[0xb8]).raw(&value.to_le_bytes()).raw(&[0xef])
    }

    /// AL compared with `value`.
    pub fn compare(&mut self, value: u8) -> &mut Self {
        self.raw(&[0x3c, value])
    }

    /// Bits of AL tested.
    pub fn test(&mut self, mask: u8) -> &mut Self {
        self.raw(&[0xa8, mask])
    }

    /// AL = the low byte of CR0.
    pub fn machine_status(&mut self) -> &mut Self {
        self.raw(&[0x0f, 0x01, 0xe0])
    }

    /// `body`, if the last comparison says so.
    pub fn when(&mut self, condition: If, body: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        body(&mut inner);
        let skip = condition as u8 ^ 1;
        let len = u16::try_from(inner.code.len()).expect("bodies are short");
        self.raw(&[0x0f, 0x80 | skip]).raw(&len.to_le_bytes()).raw(&inner.code)
    }

    /// Sectors from `lba` on to memory below 64 KiB (INT 13h, AH 42h).
    pub fn read(&mut self, lba: u32, count: u16, address: u16) -> &mut Self {
        self.transfer(0x42, lba, count, address)
    }

    /// And from memory (AH 43h).
    pub fn write(&mut self, lba: u32, count: u16, address: u16) -> &mut Self {
        self.transfer(0x43, lba, count, address)
    }

    fn transfer(&mut self, function: u8, lba: u32, count: u16, address: u16) -> &mut Self {
        let (low, high) = (lba as u16, (lba >> 16) as u16);
        for (at, word) in (PACKET..).step_by(2).zip([16, count, address, 0, low, high, 0, 0]) {
            self.raw(&[0xc7, 0x06]).raw(&at.to_le_bytes()).raw(&word.to_le_bytes());
        }
        self.raw(&[0xbe]).raw(&PACKET.to_le_bytes());
        self.raw(&[0x8a, 0x16]).raw(&DRIVE.to_le_bytes());
        self.raw(&[0xb8, 0, function, 0xcd, 0x13]); // carry: it failed
        self.when(If::Below, |failed| {
            failed.print("disk error\n").stop();
        })
    }

    /// Says `name`, or "no" and it, by whether the four bytes are at a multiple of 16 from 0xf0000 on.
    pub fn find_in_bios(&mut self, bytes: [u8; 4], name: &str) -> &mut Self {
        self.raw(&[0xb8, 0x00, 0xf0, 0x8e, 0xc0, 0x31, 0xff]);
        // cmp dword es:[di], bytes; je out; add di, 16; jnc back
        self.raw(&[0x66, 0x26, 0x81, 0x3d]).raw(&bytes);
        self.raw(&[0x74, 5, 0x83, 0xc7, 16, 0x73, 0xf1]);
        self.when(If::Below, |absent| {
            absent.print("no ");
        });
        self.print(name).print(" ")
    }

    /// Halt for good.
    pub fn stop(&mut self) -> &mut Self {
        self.raw(&[0xfa, 0xf4, 0xeb, 0xfc])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_bootable_and_of_the_size_asked_for() {
        let disk = disk(|code| {
            code.print("x");
        });
        assert_eq!(disk.len(), DISK);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        assert_eq!(disk[512..515], [0xba, 0xf8, 0x03]);
    }

    #[test]
    fn conditions_skip_their_body_when_they_are_not_met() {
        let mut code = Sector::default();
        code.when(If::Zero, |body| {
            body.raw(&[0x90, 0x90]);
        });
        assert_eq!(code.code, [0x0f, 0x85, 2, 0, 0x90, 0x90]);
    }
}
