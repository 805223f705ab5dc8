use std::os::unix::fs::MetadataExt;

use memory::Backing;

use super::*;

const MIB: u64 = 1 << 20;
const LAYOUT: [(u64, u64); 2] = [(0, 8 * MIB), (16 * MIB, 2 * MIB)];

/// Written, and its body.
fn written(body: impl FnOnce(&GuestRam) -> Body) -> (File, Body) {
    let source = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
    source.write_slice(5 * MIB, b"low").unwrap();
    source.write_slice(17 * MIB, b"high").unwrap();
    let file = tempfile::tempfile().unwrap();
    let body = body(&source);
    body.begin(&file, b"sections").unwrap();
    let mut writer = match body.is_packed() {
        false => ram::Writer::new(source, body.ram()),
        true => ram::Writer::packing(source, body.ram()),
    };
    while writer.step(&file).unwrap() {}
    assert_eq!(writer.done(), 10 * MIB);
    writer.finish(body, &file).unwrap();
    let body = Body::read(&file).unwrap();
    (file, body)
}

fn as_it_is(source: &GuestRam) -> Body {
    Body::new(b"sections", source.size())
}

fn assert_is_back(ram: &GuestRam) {
    let (mut low, mut high) = ([0; 3], [0; 4]);
    ram.read_slice(5 * MIB, &mut low).unwrap();
    ram.read_slice(17 * MIB, &mut high).unwrap();
    assert_eq!((&low, &high), (b"low", b"high"));
}

#[test]
fn ram_comes_back_and_zeros_take_no_space() {
    let (file, body) = written(as_it_is);
    assert!(file.metadata().unwrap().blocks() * 512 < MIB);
    assert_is_back(&ram::map(&LAYOUT, &file, &body).unwrap());
    vmm_protocol::saved::check_ram(&file, |_, _| Ok(())).unwrap();
}

#[test]
fn ram_is_read_where_it_cannot_be_mapped() {
    let (file, body) = written(as_it_is);
    let ram = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
    ram::fill(&ram, &file, &body).unwrap();
    assert_is_back(&ram);
}

#[test]
fn packed_ram_comes_back_by_many_hands() {
    let (file, body) = written(|source| Body::packed(b"sections", source.size()));
    assert!(body.end() - body.ram() < 4096);
    let ram = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
    ram::fill(&ram, &file, &body).unwrap();
    assert_is_back(&ram);
    // Whatever is damaged is noticed before anything runs.
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(&[0x55; 8], body.end() - 12).unwrap();
    let ram = GuestRam::new(&LAYOUT, &Backing::Anonymous).unwrap();
    let error = ram::fill(&ram, &file, &body).unwrap_err().to_string();
    assert!(error.contains("its memory at"), "{error}");
}

#[test]
fn sections_of_no_machine_are_refused() {
    let (file, _) = written(as_it_is);
    let error = Image::open(file).err().unwrap();
    assert!(matches!(error, ImageError::Damaged { .. }), "{error}");
}
