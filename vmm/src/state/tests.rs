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

/// Where pages that hold something lie between such that do not, each is a page of the file.
#[test]
fn a_page_of_zeros_between_others_takes_no_space() {
    use std::os::unix::fs::FileExt as _;
    const PAGE: u64 = 4096;
    let source = GuestRam::new(&[(0, 2 * MIB)], &Backing::Anonymous).unwrap();
    for page in (0..2 * MIB).step_by(2 * PAGE as usize) {
        source.write_obj(page, page + 1).unwrap();
    }
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * MIB).unwrap();
    let mut writer = ram::Writer::new(source, 0);
    while writer.step(&file).unwrap() {}
    file.sync_all().unwrap();
    assert!(file.metadata().unwrap().blocks() * 512 < MIB + MIB / 4);
    for page in (0..2 * MIB).step_by(PAGE as usize) {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, page).unwrap();
        let expected = if page.is_multiple_of(2 * PAGE) { page + 1 } else { 0 };
        assert_eq!(u64::from_le_bytes(word), expected, "{page:#x}");
    }
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
