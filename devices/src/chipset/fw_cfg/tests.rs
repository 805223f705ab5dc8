use std::sync::atomic::{AtomicU8, Ordering};

use memory::Backing;

use super::*;

const REQUEST: u64 = 0x1000;
const BUFFER: u64 = 0x2000;
const UNTOUCHED: u8 = 0xa5;

struct Rig {
    device: FwCfg,
    ram: GuestRam,
    made: Arc<AtomicU8>,
    note: Arc<Note>,
}

/// A file of eight bytes that is written to.
#[derive(Default)]
struct Note(Mutex<[u8; 8]>);

impl Writable for Note {
    fn content(&self) -> Vec<u8> {
        self.0.hold().to_vec()
    }

    fn write(&self, offset: usize, data: &[u8]) {
        self.0.hold()[offset..offset + data.len()].copy_from_slice(data);
    }
}

fn rig() -> Rig {
    let made = Arc::new(AtomicU8::new(0));
    let count = made.clone();
    let late = Late {
        files: vec![("late/one".into(), 4), ("late/two".into(), 4)],
        make: Box::new(move || {
            let times = count.fetch_add(1, Ordering::Relaxed) + 1;
            vec![vec![times; 2], vec![times; 9]]
        }),
    };
    let files = vec![("opt/b".into(), b"second".to_vec()), ("opt/a".into(), b"first".to_vec())];
    let note = Arc::new(Note::default());
    let items = Items::new(
        vec![(key::CPUS, vec![4, 0])],
        files,
        Some(late),
        vec![("etc/note".into(), note.clone())],
    )
    .unwrap();
    let ram = GuestRam::new(&[(0, 1 << 20)], &Backing::Anonymous).unwrap();
    ram.write_slice(BUFFER, &[UNTOUCHED; 64]).unwrap();
    Rig { device: FwCfg::new(items, ram.clone()), ram, made, note }
}

impl Rig {
    fn select(&self, selector: u16) {
        let _ = self.device.write(SELECTOR, &selector.to_le_bytes());
    }

    fn bytes(&self, count: usize) -> Vec<u8> {
        let byte = || {
            let mut data = [0];
            self.device.read(DATA, &mut data);
            data[0]
        };
        (0..count).map(|_| byte()).collect()
    }

    fn item(&self, selector: u16, count: usize) -> Vec<u8> {
        self.select(selector);
        self.bytes(count)
    }

    /// Length and selector of a file, by the directory.
    fn find(&self, name: &str) -> (u32, u16) {
        let count = u32::from_be_bytes(self.item(key::DIRECTORY, 4).try_into().unwrap());
        let mut entries = (0..count).map(|_| self.bytes(64));
        let entry = entries.find(|entry| entry[8..].starts_with(&[name.as_bytes(), &[0]].concat()));
        let entry = entry.unwrap();
        let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
        (size, u16::from_be_bytes([entry[4], entry[5]]))
    }

    /// A DMA request; the control field afterwards.
    fn dma(&self, control: u32, length: u32, address: u64) -> u32 {
        let words = [control, length, (address >> 32) as u32, address as u32];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.ram.write_slice(REQUEST, &bytes).unwrap();
        self.start(REQUEST);
        self.ram.read_obj::<u32>(REQUEST).unwrap().swap_bytes()
    }

    fn start(&self, at: u64) {
        let _ = self.device.write(DMA, &((at >> 32) as u32).to_be_bytes());
        let _ = self.device.write(DMA + 4, &(at as u32).to_be_bytes());
    }

    fn buffer(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.ram.read_slice(BUFFER, &mut bytes).unwrap();
        bytes
    }
}

const READ: u32 = 2;
const SKIP: u32 = 4;
const SELECT: u32 = 8;
const WRITE: u32 = 16;

#[test]
fn items_read_byte_by_byte_and_as_zeros_past_their_end() {
    let rig = rig();
    assert_eq!(rig.item(key::SIGNATURE, 6), b"QEMU\0\0");
    assert_eq!(rig.item(key::ID, 4), [3, 0, 0, 0]);
    assert_eq!(rig.item(key::CPUS, 3), [4, 0, 0]);
    assert_eq!(rig.item(0x7777, 3), [0, 0, 0], "no such item");
}

#[test]
fn the_directory_names_every_file_in_order_of_name() {
    let rig = rig();
    assert_eq!(rig.item(key::DIRECTORY, 4), [0, 0, 0, 5]);
    assert_eq!(rig.find("etc/note"), (8, 0x20));
    assert_eq!(rig.find("late/one"), (4, 0x21));
    assert_eq!(rig.find("opt/b"), (6, 0x24));
    let (len, selector) = rig.find("opt/a");
    assert_eq!(rig.item(selector, len as usize), b"first");
}

#[test]
fn late_files_are_made_together_once_a_boot_and_have_their_announced_length() {
    let rig = rig();
    let (_, one) = rig.find("late/one");
    let (_, two) = rig.find("late/two");
    assert_eq!(rig.made.load(Ordering::Relaxed), 0);
    assert_eq!(rig.item(one, 5), [1, 1, 0, 0, 0]);
    assert_eq!(rig.item(two, 5), [1, 1, 1, 1, 0]);
    assert_eq!(rig.item(one, 1), [1]);
    rig.device.reset();
    assert_eq!(rig.item(two, 1), [2]);
}

#[test]
fn dma_selects_reads_and_skips() {
    let rig = rig();
    let (_, selector) = rig.find("opt/b");
    assert_eq!(rig.dma(u32::from(selector) << 16 | SELECT | READ, 3, BUFFER), 0);
    assert_eq!(rig.buffer(4), [b's', b'e', b'c', UNTOUCHED]);
    assert_eq!(rig.dma(SKIP, 1, 0), 0);
    assert_eq!(rig.dma(READ, 6, BUFFER), 0);
    assert_eq!(rig.buffer(7), [b'n', b'd', 0, 0, 0, 0, UNTOUCHED]);
    let mut signature = [0; 4];
    rig.device.read(DMA, &mut signature);
    assert_eq!(&signature, b"QEMU");
    rig.device.read(DMA + 4, &mut signature);
    assert_eq!(&signature, b" CFG");
}

#[test]
fn dma_that_cannot_be_done_is_an_error_and_changes_nothing() {
    let rig = rig();
    let end = 1 << 20;
    for (control, length, address) in [
        (WRITE, 4, BUFFER),
        (READ, 2, end - 1),
        (READ, 2, u64::MAX),
        (READ, u32::MAX, BUFFER),
        (READ, 1, end),
    ] {
        assert_eq!(rig.dma(control, length, address), 1, "{control:#x} {length} {address:#x}");
    }
    assert_eq!(rig.buffer(4), [UNTOUCHED; 4]);
    // Requests that lie nowhere cannot even be answered.
    for at in [end - 15, end, u64::MAX, u64::MAX - 15] {
        rig.start(at);
    }
    assert_eq!(rig.dma(u32::from(key::SIGNATURE) << 16 | SELECT | READ, 4, BUFFER), 0);
    assert_eq!(rig.buffer(4), b"QEMU");
}

#[test]
fn a_writable_file_takes_what_lies_inside_of_it_and_reads_back() {
    let rig = rig();
    let (_, selector) = rig.find("etc/note");
    rig.ram.write_slice(BUFFER, b"abcdefghij").unwrap();
    let select = u32::from(selector) << 16 | SELECT;
    assert_eq!(rig.dma(select | WRITE, 5, BUFFER), 0);
    assert_eq!(rig.dma(WRITE, 4, BUFFER), 1, "three bytes are left");
    assert_eq!(rig.dma(WRITE, u32::MAX, BUFFER), 1);
    assert_eq!(rig.dma(WRITE, 3, (1 << 20) - 2), 1, "not in memory");
    assert_eq!(*rig.note.0.hold(), *b"abcde\0\0\0");
    assert_eq!(rig.dma(WRITE, 3, BUFFER + 7), 0);
    assert_eq!(*rig.note.0.hold(), *b"abcdehij");
    assert_eq!(rig.dma(WRITE, 1, BUFFER), 1, "at its end");
    assert_eq!(rig.item(selector, 9), b"abcdehij\0");
    // Behind its end after a skip, and by the port.
    assert_eq!(rig.dma(select | SKIP, u32::MAX, 0), 0);
    assert_eq!(rig.dma(WRITE, 1, BUFFER), 1);
    let _ = rig.device.write(DATA, b"x");
    assert_eq!(*rig.note.0.hold(), *b"abcdehij");
}

#[test]
fn a_request_may_overwrite_itself_and_is_answered_all_the_same() {
    let rig = rig();
    let control = u32::from(key::DIRECTORY) << 16 | SELECT | READ;
    assert_eq!(rig.dma(control, 64, REQUEST), 0);
}

#[test]
fn skipping_for_ever_ends_nowhere() {
    let rig = rig();
    rig.select(key::SIGNATURE);
    for _ in 0..4 {
        assert_eq!(rig.dma(SKIP, u32::MAX, 0), 0);
    }
    assert_eq!(rig.bytes(2), [0, 0]);
    assert_eq!(rig.item(key::SIGNATURE, 1), b"Q");
}

#[test]
fn misshapen_accesses_read_as_ones_and_select_nothing() {
    let rig = rig();
    rig.select(key::SIGNATURE);
    for (offset, len) in [(0, 1), (0, 2), (1, 2), (1, 4), (2, 1), (4, 9), (11, 2)] {
        let mut data = vec![0; len];
        rig.device.read(offset, &mut data);
        assert!(data.iter().all(|byte| *byte == 0xff), "{offset}+{len}");
        if offset != 0 || len != 2 {
            let _ = rig.device.write(offset, &vec![0x11; len]);
        }
    }
    assert_eq!(rig.bytes(4), b"QEMU");
}

#[test]
fn a_saved_device_goes_on_in_the_middle_of_a_late_file() {
    let rig = rig();
    let (_, two) = rig.find("late/two");
    rig.select(two);
    rig.bytes(1);
    let state = rig.device.save().unwrap();
    let other = self::rig();
    other.made.store(7, Ordering::Relaxed);
    other.device.restore(&state).unwrap();
    assert_eq!(other.bytes(4), [1, 1, 1, 0]);
    assert_eq!(other.made.load(Ordering::Relaxed), 7, "nothing was made anew");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let items = |names: &[&str]| {
        let files = names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        Items::new(Vec::new(), files, None, Vec::new()).map(drop)
    };
    let long = "x".repeat(56);
    for name in ["", "a\0b", &long] {
        assert_eq!(items(&[name]), Err(FwCfgError::Name { name: name.to_owned() }));
    }
    assert_eq!(items(&["a", "b", "a"]), Err(FwCfgError::Twice { name: "a".to_owned() }));
    assert_eq!(items(&[&long[1..]]), Ok(()));
}
