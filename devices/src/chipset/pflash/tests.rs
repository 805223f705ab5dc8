use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::testing::FakeMapper;

const END: u64 = 0xffc8_4000;
const LEN: usize = 4 * BLOCK;

struct Rig {
    flash: Pflash,
    mapper: FakeMapper,
    file: File,
}

fn on(file: File) -> Rig {
    let mapper = FakeMapper::default();
    let flash = Pflash::new(file.try_clone().unwrap(), END, &mapper).unwrap();
    Rig { flash, mapper, file }
}

/// Erased, but for the first block: zeros and then a pattern.
fn rig() -> Rig {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0xff; LEN]).unwrap();
    file.write_all_at(&[0x00, 0x5a, 0xa5, 0xf0], 0).unwrap();
    on(file)
}

impl Rig {
    fn write(&self, offset: u64, value: u8) {
        assert_eq!(self.flash.write(offset, &[value]), Effect::None);
    }

    fn read(&self, offset: u64) -> u8 {
        let mut data = [0];
        self.flash.read(offset, &mut data);
        data[0]
    }

    fn is_shown(&self) -> bool {
        match self.mapper.places()[..] {
            [Some(base)] => base == END - LEN as u64,
            _ => false,
        }
    }

    fn file(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    fn program(&self, offset: u64, value: u8) {
        self.write(offset, PROGRAM);
        self.write(offset, value);
    }

    fn status(&self) -> u8 {
        self.write(0, READ_STATUS);
        self.read(0)
    }
}

#[test]
fn firmware_recognises_it() {
    let rig = rig();
    assert!(rig.is_shown());
    let original = rig.read(1);
    rig.write(1, CLEAR_STATUS);
    assert_eq!(rig.read(1), original, "it is no RAM");
    rig.write(1, READ_STATUS);
    assert_eq!(rig.read(1), 0, "it is no ROM");
    // And it can be written: programming a byte with itself sets no error.
    rig.program(1, original);
    assert_eq!(rig.status(), READY);
    rig.write(1, READ_ARRAY);
    assert_eq!(rig.read(1), original);
}

#[test]
fn programming_clears_bits_in_the_file_and_sets_none() {
    let rig = rig();
    rig.program(0x1000, 0x3c);
    rig.program(0x1000, 0xf3);
    assert_eq!(rig.read(0x1000), READY, "status until told otherwise");
    assert!(!rig.is_shown());
    rig.write(0, READ_ARRAY);
    assert!(rig.is_shown());
    assert_eq!(rig.read(0x1000), 0x30);
    assert_eq!(rig.file(0xfff, 3), [0xff, 0x30, 0xff]);
}

#[test]
fn erasing_takes_one_block_and_needs_its_confirmation() {
    let rig = rig();
    rig.program(BLOCK as u64, 0);
    rig.write(0x123, ERASE);
    rig.write(0x123, CONFIRM);
    assert_eq!(rig.status(), READY);
    assert_eq!(rig.file(0, BLOCK), [0xff; BLOCK]);
    assert_eq!(rig.file(BLOCK as u64, 1), [0]);

    rig.write(BLOCK as u64, ERASE);
    rig.write(BLOCK as u64, 0x00);
    assert_eq!(rig.status() & ERASE_ERROR, ERASE_ERROR);
    assert_eq!(rig.file(BLOCK as u64, 1), [0]);
    rig.write(0, ERASE);
    rig.write(0, READ_ARRAY);
    assert!(rig.is_shown());
}

#[test]
fn a_buffer_is_programmed_when_it_is_confirmed() {
    let rig = rig();
    rig.write(0x2000, WRITE_BUFFER);
    assert_eq!(rig.read(0x2000) & READY, READY);
    rig.write(0x2000, 3);
    for (offset, value) in (0x2000..).zip([1, 2, 3, 4]) {
        rig.write(offset, value);
    }
    assert_eq!(rig.file(0x2000, 4), [0xff; 4]);
    rig.write(0x2000, CONFIRM);
    assert_eq!(rig.file(0x2000, 5), [1, 2, 3, 4, 0xff]);

    rig.write(0x2004, WRITE_BUFFER);
    rig.write(0x2004, 0);
    rig.write(0x2004, 7);
    rig.write(0x2004, 0x70);
    assert_eq!(rig.status() & PROGRAM_ERROR, PROGRAM_ERROR);
    assert_eq!(rig.file(0x2004, 1), [0xff]);
}

#[test]
fn wide_and_unaligned_accesses_are_those_of_a_byte_wide_chip() {
    let rig = rig();
    let mut data = [0; 4];
    rig.flash.read(0, &mut data);
    assert_eq!(data, [0x00, 0x5a, 0xa5, 0xf0]);
    // Only the low byte is a command; all bytes are data.
    let _ = rig.flash.write(0x1001, &[PROGRAM, ERASE, 0, 0]);
    let _ = rig.flash.write(0x1001, &[1, 2, 3, 4]);
    rig.flash.read(0x1001, &mut data);
    assert_eq!(data, [READY; 4]);
    assert_eq!(rig.file(0x1001, 4), [1, 2, 3, 4]);
    // Over the end, as a bus would never let it pass.
    let end = LEN as u64;
    let _ = rig.flash.write(end - 1, &[PROGRAM]);
    let _ = rig.flash.write(end - 1, &[0, 0]);
    assert_eq!(rig.status() & PROGRAM_ERROR, PROGRAM_ERROR);
    assert_eq!(rig.file(end - 1, 1), [0xff]);
    let _ = rig.flash.write(0, &[]);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_and_changes_nothing() {
    let rig = rig();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&rig.file));
    let rig = on(File::open(path).unwrap());
    rig.program(0x1000, 0);
    assert_eq!(rig.status(), READY | PROGRAM_ERROR);
    rig.write(0, ERASE);
    rig.write(0, CONFIRM);
    assert_eq!(rig.status() & ERASE_ERROR, ERASE_ERROR);
    rig.write(0, READ_ARRAY);
    assert_eq!((rig.read(0x1000), rig.read(1)), (0xff, 0x5a));
}

#[test]
fn a_saved_chip_goes_on_in_the_middle_of_a_command() {
    let rig = rig();
    rig.write(0x3000, WRITE_BUFFER);
    rig.write(0x3000, 1);
    rig.write(0x3000, 0x11);
    rig.flash.pause();
    let saved = rig.flash.save().unwrap();
    let other = on(rig.file);
    other.flash.restore(&saved).unwrap();
    assert!(!other.is_shown());
    other.write(0x3001, 0x22);
    other.write(0x3000, CONFIRM);
    assert_eq!(other.file(0x3000, 2), [0x11, 0x22]);
    other.flash.reset();
    assert!(other.is_shown());
    assert_eq!(other.read(0x3001), 0x22);
}

#[test]
fn images_of_odd_sizes_are_refused() {
    for len in [0, 100, BLOCK as u64 + 1, SIZE_MAX + BLOCK as u64] {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        let error = Pflash::new(file, END, &FakeMapper::default()).err().unwrap();
        assert!(matches!(error, PflashError::Size { .. }), "{len}: {error}");
    }
}

proptest! {
    /// Whatever is written, the guest reads what is in the file once it asks for the array, and the
    /// buffer stays within its bounds.
    #[test]
    fn array_and_file_never_differ(
        writes in prop::collection::vec(
            (0..LEN as u64 - 8, prop::sample::select(vec![
                PROGRAM, ERASE, CONFIRM, WRITE_BUFFER, READ_ARRAY, READ_STATUS, CLEAR_STATUS,
                READ_IDENTITY, 0x00, 0x01, 0x55,
            ]), 1..8usize),
            0..200,
        ),
    ) {
        let rig = rig();
        for (offset, value, width) in writes {
            let _ = rig.flash.write(offset, &vec![value; width]);
            let state = rig.flash.state.hold();
            prop_assert!(state.buffer.len() <= BUFFER_MAX);
            prop_assert_eq!(state.mode == Mode::Array, rig.is_shown());
        }
        rig.flash.reset();
        let mut array = vec![0; LEN];
        rig.flash.read(0, &mut array);
        prop_assert!(array == rig.file(0, LEN));
    }
}
