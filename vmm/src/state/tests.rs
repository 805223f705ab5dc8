use std::os::unix::fs::MetadataExt;

use memory::Backing;

use super::*;

const MIB: u64 = 1 << 20;
const LAYOUT: [(u64, u64); 2] = [(0, 8 * MIB), (16 * MIB, 2 * MIB)];

/// Written, and its body.
fn written() -> (File, Body) {
    let source = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
    source.write_slice(5 * MIB, b"low").unwrap();
    source.write_slice(17 * MIB, b"high").unwrap();
    let file = tempfile::tempfile().unwrap();
    let body = Body::new(b"sections", source.size());
    body.begin(&file, b"sections").unwrap();
    let mut writer = ram::Writer::new(source);
    while writer.step(&file, body.ram()).unwrap() {}
    assert_eq!(writer.done(), 10 * MIB);
    body.finish(&file, writer.sums()).unwrap();
    (file, body)
}

fn assert_is_back(ram: &GuestRam) {
    let (mut low, mut high) = ([0; 3], [0; 4]);
    ram.read_slice(5 * MIB, &mut low).unwrap();
    ram.read_slice(17 * MIB, &mut high).unwrap();
    assert_eq!((&low, &high), (b"low", b"high"));
}

#[test]
fn ram_comes_back_and_zeros_take_no_space() {
    let (file, body) = written();
    assert!(file.metadata().unwrap().blocks() * 512 < MIB);
    assert_is_back(&ram::map(&LAYOUT, &file, &body).unwrap());
    vmm_protocol::saved::check_ram(&file, |_, _| Ok(())).unwrap();
}

#[test]
fn ram_is_read_where_it_cannot_be_mapped() {
    let (file, body) = written();
    let ram = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
    ram::fill(&ram, &file, &body).unwrap();
    assert_is_back(&ram);
}

#[test]
fn sections_of_no_machine_are_refused() {
    let (file, _) = written();
    let error = Image::open(file).err().unwrap();
    assert!(matches!(error, ImageError::Damaged { .. }), "{error}");
}
