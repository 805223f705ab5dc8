use std::sync::Arc;

use super::*;
use crate::description::Reference;
use crate::qcow2::{CheckReport, CreateOptions, OpenOptions, Repair, check, create, describe};
use crate::storage::MemoryStorage;
use crate::view::Image as _;

const SIZE: u64 = 32 << 20;

fn new() -> Arc<MemoryStorage> {
    let file = Arc::new(MemoryStorage::default());
    let backing = Some(Reference { name: "below.raw".into(), format: Some("raw".into()) });
    let options = CreateOptions { cluster_size: 4096, backing, ..CreateOptions::new(SIZE) };
    create(&*file, &options).unwrap();
    file
}

fn open(file: &Arc<MemoryStorage>) -> Qcow2 {
    Qcow2::open(file.clone(), OpenOptions::default()).unwrap()
}

fn bitmap(name: &str, granularity: u64, dirty: &[usize]) -> DirtyBitmap {
    let mut words = vec![0; DirtyBitmap::words_for(SIZE, granularity)];
    for bit in dirty {
        words[bit / 64] |= 1 << (bit % 64);
    }
    let info = BitmapInfo { name: name.into(), granularity, enabled: true, inconsistent: false };
    DirtyBitmap { info, words }
}

fn clean(file: &Arc<MemoryStorage>) -> CheckReport {
    let report = check(&**file, Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    report
}

#[test]
fn what_is_stored_is_found_again_and_takes_no_more_space_when_it_is_replaced() {
    let file = new();
    // One bit for each sector: tables of several entries.
    let all =
        [bitmap("a", 512, &[0, 63, 64, 65535]), bitmap("b", 65536, &[]), bitmap("c", 4096, &[9])];
    open(&file).store_bitmaps(&all).unwrap();
    assert_eq!(open(&file).bitmaps().unwrap(), all);
    let backing = describe(&*file).unwrap().backing.unwrap();
    assert_eq!((backing.name.as_str(), backing.format.as_deref()), ("below.raw", Some("raw")));
    let used = clean(&file).allocated_clusters;
    for _ in 0..3 {
        open(&file).store_bitmaps(&all).unwrap();
    }
    assert_eq!(clean(&file).allocated_clusters, used);
    open(&file).store_bitmaps(&[]).unwrap();
    assert_eq!(open(&file).bitmaps().unwrap(), []);
    clean(&file);
}

#[test]
fn bitmaps_that_nobody_kept_while_the_disk_was_written_to_say_so() {
    let file = new();
    open(&file).store_bitmaps(&[bitmap("a", 65536, &[3])]).unwrap();
    let disk = open(&file);
    let mut data = [0; 512];
    disk.read(&mut data, 0).unwrap();
    drop(disk);
    assert!(!open(&file).bitmaps().unwrap()[0].info.inconsistent, "reading changes nothing");
    let disk = open(&file);
    disk.write(&[1; 512], 0).unwrap();
    // The writer dies here, or does not care.
    drop(disk);
    let found = open(&file).bitmaps().unwrap();
    assert!(found[0].info.inconsistent && found[0].words.is_empty());
    assert!(describe(&*file).unwrap().bitmaps[0].inconsistent);
    // Whoever kept them says so.
    let disk = open(&file);
    disk.write(&[1; 512], 65536).unwrap();
    disk.store_bitmaps(&[bitmap("a", 65536, &[1, 3])]).unwrap();
    drop(disk);
    assert_eq!(open(&file).bitmaps().unwrap(), [bitmap("a", 65536, &[1, 3])]);
    clean(&file);
}

#[test]
fn a_program_that_knows_no_bitmaps_makes_them_void() {
    let file = new();
    open(&file).store_bitmaps(&[bitmap("a", 65536, &[3])]).unwrap();
    // It clears the bit of what it does not know, and leaves the rest.
    file.write(&0_u64.to_be_bytes(), 88).unwrap();
    assert_eq!(open(&file).bitmaps().unwrap(), []);
    open(&file).store_bitmaps(&[bitmap("b", 65536, &[])]).unwrap();
    assert_eq!(open(&file).bitmaps().unwrap(), [bitmap("b", 65536, &[])]);
}

#[test]
fn merging_marks_what_either_has() {
    let mut parent = bitmap("a", 65536, &[1]);
    parent.merge(&bitmap("b", 65536, &[2])).unwrap();
    assert_eq!(parent, bitmap("a", 65536, &[1, 2]));
    assert!(parent.merge(&bitmap("c", 4096, &[])).unwrap_err().to_string().contains("granularity"));
    let lost = BitmapInfo { inconsistent: true, ..parent.info.clone() };
    let lost = DirtyBitmap { info: lost, words: Vec::new() };
    assert!(parent.merge(&lost).unwrap_err().to_string().contains("inconsistent"));
}

/// The file is cut off after each of its writes: the old bitmaps are there, or the new ones.
#[test]
fn a_power_cut_while_bitmaps_are_stored_leaves_the_old_or_the_new_ones() {
    let old = [bitmap("a", 65536, &[3]), bitmap("b", 65536, &[])];
    let new_ones = [bitmap("a", 65536, &[3, 4]), bitmap("c", 4096, &[100])];
    let file = new();
    open(&file).store_bitmaps(&old).unwrap();
    let before = file.bytes();
    let mut seen = [0, 0];
    for writes in 0.. {
        let file = Arc::new(MemoryStorage::new(before.clone()));
        let cut = Arc::new(PowerCut { file: file.clone(), left: (writes as i64).into() });
        let disk = Qcow2::open(cut, OpenOptions::default()).unwrap();
        let stored = disk.store_bitmaps(&new_ones);
        drop(disk);
        let found = open(&file).bitmaps().unwrap();
        assert!(found == old || found == new_ones, "after {writes} writes");
        seen[usize::from(found == new_ones)] += 1;
        let report = check(&*file, Repair::Nothing).unwrap();
        assert_eq!(report.corruptions, 0, "after {writes} writes: {:?}", report.messages);
        if stored.is_ok() {
            break;
        }
    }
    assert!(seen[0] > 3 && seen[1] > 0, "{seen:?}");
}

/// Takes so many writes and loses the others.
struct PowerCut {
    file: Arc<MemoryStorage>,
    left: std::sync::atomic::AtomicI64,
}

impl PowerCut {
    fn spend(&self) -> std::io::Result<()> {
        let left = self.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        if left > 0 { Ok(()) } else { Err(std::io::Error::other("no power")) }
    }
}

impl Storage for PowerCut {
    fn size(&self) -> std::io::Result<u64> {
        self.file.size()
    }

    fn read(&self, data: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.file.read(data, offset)
    }

    fn write(&self, data: &[u8], offset: u64) -> std::io::Result<()> {
        self.spend()?;
        self.file.write(data, offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> std::io::Result<()> {
        self.spend()?;
        self.file.write_zeroes(offset, len, unmap)
    }

    fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.file.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
    }

    fn data_run(&self, offset: u64, len: u64) -> std::io::Result<(bool, u64)> {
        self.file.data_run(offset, len)
    }

    fn allocated(&self) -> std::io::Result<u64> {
        self.file.allocated()
    }
}
