use std::os::unix::fs::MetadataExt;

use memory::Backing;

use super::*;

const MIB: u64 = 1 << 20;

fn ram() -> GuestRam {
    let ram = GuestRam::new(&[(0, 8 * MIB), (16 * MIB, 2 * MIB)], &Backing::Anonymous).unwrap();
    ram.write_slice(5 * MIB, b"low").unwrap();
    ram.write_slice(17 * MIB, b"high").unwrap();
    ram
}

/// A file with sections of plain bytes, as far as the header is concerned.
fn image() -> File {
    let file = tempfile::tempfile().unwrap();
    let header = Header::new(b"sections", ram().size());
    file.set_len(header.end()).unwrap();
    file.write_all_at(b"sections", header::SECTIONS).unwrap();
    file.write_all_at(&header.bytes(), 0).unwrap();
    file
}

fn open(file: &File) -> Result<Header, ImageError> {
    Header::read(file, file.metadata().unwrap().len())
}

#[test]
fn ram_comes_back_and_zeros_take_no_space() {
    let file = tempfile::tempfile().unwrap();
    let start = 2 * MIB;
    file.set_len(start + ram().size()).unwrap();
    ram::write(&file, start, &ram()).unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 < MIB);
    let back =
        GuestRam::new(&[(0, 8 * MIB), (16 * MIB, 2 * MIB)], &Backing::CopyOnWrite(&file, start))
            .unwrap();
    let mut low = [0; 3];
    back.read_slice(5 * MIB, &mut low).unwrap();
    let mut high = [0; 4];
    back.read_slice(17 * MIB, &mut high).unwrap();
    assert_eq!((&low, &high), (b"low", b"high"));
}

#[test]
fn every_changed_byte_of_a_header_is_noticed() {
    let intact = image();
    assert!(open(&intact).is_ok());
    for at in 0..48 {
        let file = image();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
        assert!(open(&file).is_err(), "byte {at}");
    }
}

#[test]
fn a_shortened_file_is_refused() {
    let file = image();
    let len = file.metadata().unwrap().len();
    for cut in [0, 10, 4096, len / 2, len - 1] {
        file.set_len(cut).unwrap();
        assert!(open(&file).is_err(), "cut at {cut}");
        file.set_len(len).unwrap();
    }
}

#[test]
fn wrong_sections_are_refused() {
    let error = read(&image()).err().unwrap();
    assert!(matches!(error, ImageError::Damaged { .. }), "{error}");
    let file = image();
    file.write_all_at(b"S", header::SECTIONS).unwrap();
    let error = read(&file).err().unwrap();
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(header::checksum(b"123456789"), 0xcbf4_3926);
}
