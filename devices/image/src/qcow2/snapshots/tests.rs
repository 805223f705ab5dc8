use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::qcow2::{BitmapInfo, CreateOptions, DirtyBitmap, OpenOptions, Repair, check, create};
use crate::storage::{MemoryStorage, Storage};
use crate::torture::{PowerCut, Random};

const SIZE: u64 = 1 << 20;

fn new(options: &CreateOptions) -> Arc<MemoryStorage> {
    let file = Arc::new(MemoryStorage::default());
    create(&*file, options).unwrap();
    file
}

fn small() -> CreateOptions {
    CreateOptions { cluster_size: 4096, ..CreateOptions::new(SIZE) }
}

fn open(file: &Arc<MemoryStorage>) -> Qcow2 {
    Qcow2::open(file.clone(), OpenOptions::default()).unwrap()
}

fn named(name: &str) -> NewSnapshot {
    let date = Duration::from_secs(1_700_000_000);
    NewSnapshot { name: name.into(), date, vm_clock: Duration::from_nanos(1234) }
}

fn contents(disk: &Qcow2) -> Vec<u8> {
    let mut data = vec![0; disk.size() as usize];
    disk.read(&mut data, 0).unwrap();
    data
}

fn as_snapshot(file: &Arc<MemoryStorage>, name: &str) -> Vec<u8> {
    let snapshot = Some(name.to_owned());
    contents(
        &Qcow2::open(file.clone(), OpenOptions { snapshot, ..OpenOptions::default() }).unwrap(),
    )
}

#[track_caller]
fn is_clean(file: &dyn Storage) {
    let report = check(file, Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
}

#[test]
fn what_a_snapshot_has_stays_whatever_is_written_later() {
    for options in [
        small(),
        CreateOptions { version: 2, ..small() },
        CreateOptions { cluster_size: 512, refcount_bits: 4, ..small() },
        CreateOptions { extended_l2: true, ..CreateOptions::new(SIZE) },
    ] {
        let file = new(&options);
        let disk = open(&file);
        disk.write(&[1; 50_000], 3000).unwrap();
        let first = contents(&disk);
        disk.create_snapshot(&named("first")).unwrap();
        is_clean(&*file);
        disk.write(&[2; 9000], 10_000).unwrap();
        disk.write_zeroes(40_000, 8192, true).unwrap();
        let second = contents(&disk);
        disk.create_snapshot(&named("second")).unwrap();
        disk.write(&[3; SIZE as usize], 0).unwrap();
        disk.flush().unwrap();
        is_clean(&*file);
        assert!(as_snapshot(&file, "first") == first);
        assert!(as_snapshot(&file, "second") == second);

        disk.apply_snapshot(SnapshotRef::Name("first")).unwrap();
        assert!(contents(&disk) == first);
        is_clean(&*file);
        disk.write(&[4; 5000], 0).unwrap();
        disk.delete_snapshot(SnapshotRef::Name("first")).unwrap();
        is_clean(&*file);
        assert!(as_snapshot(&file, "second") == second);
        disk.delete_snapshot(SnapshotRef::Name("second")).unwrap();
        drop(disk);
        is_clean(&*file);
        let disk = open(&file);
        assert!(contents(&disk)[..5000] == [4; 5000]);
        assert!(contents(&disk)[5000..] == first[5000..]);
        assert_eq!(disk.snapshots().unwrap(), []);
    }
}

#[test]
fn a_snapshot_is_told_by_name_or_id_and_there_is_one_of_each() {
    let file = new(&small());
    let disk = open(&file);
    disk.create_snapshot(&named("2")).unwrap();
    disk.create_snapshot(&named("other")).unwrap();
    let all = disk.snapshots().unwrap();
    let names: Vec<_> = all.iter().map(|it| (it.id.as_str(), it.name.as_str())).collect();
    assert_eq!(names, [("1", "2"), ("2", "other")]);
    assert_eq!((all[0].date, all[0].vm_clock, all[0].icount), (1_700_000_000, 1234, None));
    let refused = |name: &str| disk.create_snapshot(&named(name)).unwrap_err().in_full();
    assert_eq!(refused("other"), "the image has a snapshot \"other\" already");
    assert!(refused("").contains("1 to 255 bytes"));
    assert!(refused("a\nb").contains("no control characters"));
    let missing = disk.delete_snapshot(SnapshotRef::Name("1")).unwrap_err().in_full();
    assert_eq!(missing, "the image has no snapshot \"1\"");
    assert_eq!(disk.delete_snapshot(SnapshotRef::IdOrName("2")).unwrap().name, "other");
    assert_eq!(disk.delete_snapshot(SnapshotRef::Name("2")).unwrap().id, "1");
}

#[test]
fn a_snapshot_has_the_size_that_the_disk_had() {
    let file = new(&small());
    let disk = open(&file);
    disk.write(&[5; 4096], SIZE - 4096).unwrap();
    disk.create_snapshot(&named("small")).unwrap();
    disk.grow(64 << 20).unwrap();
    disk.write(&[6; 4096], 60 << 20).unwrap();
    disk.create_snapshot(&named("large")).unwrap();
    disk.apply_snapshot(SnapshotRef::Name("small")).unwrap();
    assert_eq!(disk.size(), SIZE);
    is_clean(&*file);
    disk.apply_snapshot(SnapshotRef::Name("large")).unwrap();
    let mut back = [0; 4096];
    disk.read(&mut back, 60 << 20).unwrap();
    assert_eq!((disk.size(), back), (64 << 20, [6; 4096]));
    is_clean(&*file);
}

#[test]
fn counts_too_small_for_one_more_snapshot_are_an_error_and_nothing_changes() {
    let file = new(&CreateOptions { refcount_bits: 1, ..small() });
    let disk = open(&file);
    disk.write(&[1; 9000], 0).unwrap();
    disk.flush().unwrap();
    let before = file.bytes();
    let error = disk.create_snapshot(&named("one")).unwrap_err().in_full();
    assert!(error.contains("too little for one more snapshot"), "{error}");
    assert!(file.bytes() == before);
    disk.write(&[2; 9000], 0).unwrap();
    drop(disk);
    is_clean(&*file);
}

/// Blocks and table have to grow while the snapshot is made.
#[test]
fn the_refcount_table_grows_with_the_tables_of_a_snapshot() {
    let file = new(&CreateOptions {
        cluster_size: 512,
        refcount_bits: 64,
        ..CreateOptions::new(16 << 20)
    });
    let disk = open(&file);
    let mut random = Random(5);
    let mut model = vec![0; 16 << 20];
    for round in 0..12_u8 {
        for _ in 0..40 {
            let at = (random.below(16 << 20) & !511) as usize;
            let end = (at + 60_000).min(16 << 20);
            model[at..end].fill(round + 1);
            disk.write(&model[at..end], at as u64).unwrap();
        }
        disk.create_snapshot(&named(&format!("at{round}"))).unwrap();
        is_clean(&*file);
    }
    assert!(contents(&disk) == model);
    for round in 0..12 {
        disk.delete_snapshot(SnapshotRef::Name(&format!("at{round}"))).unwrap();
        is_clean(&*file);
    }
    assert!(contents(&disk) == model);
}

/// They are about the disk: making and deleting snapshots changes nothing of it, applying one does.
#[test]
fn dirty_bitmaps_are_true_until_a_snapshot_is_applied() {
    let file = new(&small());
    let disk = open(&file);
    disk.write(&[1; 50_000], 0).unwrap();
    let granularity = 65536;
    let info = BitmapInfo { name: "b".into(), granularity, enabled: true, inconsistent: false };
    let words = vec![5; DirtyBitmap::words_for(SIZE, granularity)];
    let kept = DirtyBitmap { info, words };
    disk.store_bitmaps(std::slice::from_ref(&kept)).unwrap();
    disk.create_snapshot(&named("one")).unwrap();
    disk.create_snapshot(&named("two")).unwrap();
    disk.delete_snapshot(SnapshotRef::Name("two")).unwrap();
    assert!(disk.apply_snapshot(SnapshotRef::Name("two")).is_err());
    assert_eq!(disk.bitmaps().unwrap(), [kept]);
    is_clean(&*file);
    disk.apply_snapshot(SnapshotRef::Name("one")).unwrap();
    drop(disk);
    is_clean(&*file);
    let found = open(&file).bitmaps().unwrap();
    assert!(matches!(&found[..], [bitmap] if bitmap.info.inconsistent), "{found:?}");
}

/// What is freed is free: many rounds cost no more than a few.
#[test]
fn space_of_deleted_snapshots_is_used_again() {
    let file = new(&small());
    let disk = open(&file);
    disk.write(&[1; 200_000], 0).unwrap();
    let mut len = 0;
    for round in 0..40_u8 {
        disk.create_snapshot(&named("round")).unwrap();
        disk.write(&[round; 200_000], 0).unwrap();
        disk.delete_snapshot(SnapshotRef::Name("round")).unwrap();
        if round == 3 {
            len = file.size().unwrap();
        }
    }
    is_clean(&*file);
    assert!(file.size().unwrap() <= len + 65536, "{} after {len}", file.size().unwrap());
}

/// Counts that contradict the tables stop the operation before anything is changed.
#[test]
fn a_contradiction_is_an_error_and_the_file_is_as_it_was() {
    let file = new(&small());
    let disk = open(&file);
    disk.write(&[1; 20_000], 0).unwrap();
    disk.create_snapshot(&named("one")).unwrap();
    drop(disk);
    let place = |at: u64| {
        let mut bytes = [0; 8];
        file.read(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    // The first data cluster counts as free.
    let l2 = place(place(40)) & OFFSET;
    let data = place(l2) & OFFSET;
    let block = place(place(48));
    file.write(&0_u16.to_be_bytes(), block + data / 4096 * 2).unwrap();
    for act in ["create", "apply", "delete"] {
        let disk = open(&file);
        disk.flush().unwrap();
        let header = file.bytes()[..4096].to_vec();
        let error = match act {
            "create" => disk.create_snapshot(&named("two")),
            "apply" => disk.apply_snapshot(SnapshotRef::Name("one")),
            _ => disk.delete_snapshot(SnapshotRef::Name("one")),
        };
        let error = error.unwrap_err().in_full();
        assert!(error.contains("counts as free"), "{act}: {error}");
        assert!(file.bytes()[..4096] == header, "{act}");
        disk.read(&mut [0; 512], 0).unwrap();
    }
}

/// The host stops at any write, and keeps any of those that were not synced.
#[test]
fn a_power_cut_leaves_the_old_image_or_the_new_one_and_loses_not_even_space() {
    let file = new(&small());
    let disk = open(&file);
    disk.write(&[1; 60_000], 0).unwrap();
    disk.create_snapshot(&named("kept")).unwrap();
    disk.write(&[2; 30_000], 20_000).unwrap();
    drop(disk);
    let start = file.bytes();
    let kept = as_snapshot(&file, "kept");
    let now = contents(&open(&file));
    let mut random = Random(77);
    for act in ["create", "apply", "delete"] {
        let cut = Arc::new(PowerCut::new(start.clone()));
        let disk = Qcow2::open(cut.clone(), OpenOptions::default()).unwrap();
        let done = match act {
            "create" => disk.create_snapshot(&named("new")),
            "apply" => disk.apply_snapshot(SnapshotRef::Name("kept")),
            _ => disk.delete_snapshot(SnapshotRef::Name("kept")),
        };
        done.unwrap();
        drop(disk);
        let (mut old, mut new) = (0, 0);
        for stop in 0..=cut.len() {
            for _ in 0..3 {
                let file = Arc::new(MemoryStorage::new(cut.after(stop, &mut random)));
                is_clean(&*file);
                let disk = open(&file);
                let names: Vec<_> =
                    disk.snapshots().unwrap().into_iter().map(|it| it.name).collect();
                let is_new = match act {
                    "create" => names == ["kept", "new"],
                    "apply" => contents(&disk) == kept,
                    _ => names.is_empty(),
                };
                *(if is_new { &mut new } else { &mut old }) += 1;
                assert!(is_new || names == ["kept"], "{act} stopped at {stop}: {names:?}");
                let disk_now = if act == "apply" && is_new { &kept } else { &now };
                assert!(contents(&disk) == *disk_now, "{act} stopped at {stop}");
                if !names.is_empty() {
                    assert!(as_snapshot(&file, "kept") == kept, "{act} stopped at {stop}");
                }
            }
        }
        assert!(old > 5 && new > 0, "{act}: {old} old, {new} new");
    }
}

/// A host that refuses at any write or sync.
#[test]
fn an_error_at_any_write_leaves_the_old_image_or_the_new_one() {
    let file = new(&small());
    let disk = open(&file);
    disk.write(&[1; 60_000], 0).unwrap();
    drop(disk);
    let start = file.bytes();
    for stop in 0.. {
        let failing = Arc::new(Refusing::new(start.clone(), stop));
        let disk = Qcow2::open(failing.clone(), OpenOptions::default()).unwrap();
        let made = disk.create_snapshot(&named("new")).is_ok();
        failing.relent();
        let wrote = disk.write(&[9; 5000], 0);
        drop(disk);
        let file = Arc::new(MemoryStorage::new(failing.file.bytes()));
        is_clean(&*file);
        let names = open(&file).snapshots().unwrap();
        assert!(!made || names.len() == 1, "stopped after {stop}");
        // Where it is not known which tables count, nothing is written any more.
        let kept = if wrote.is_ok() { 9 } else { 1 };
        assert_eq!(contents(&open(&file))[0], kept, "stopped after {stop}");
        if made {
            assert!(stop > 5);
            return;
        }
    }
}

struct Refusing {
    file: MemoryStorage,
    left: Mutex<u64>,
}

impl Refusing {
    fn new(bytes: Vec<u8>, left: u64) -> Self {
        Self { file: MemoryStorage::new(bytes), left: Mutex::new(left) }
    }

    fn relent(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = u64::MAX;
    }

    fn use_one(&self) -> std::io::Result<()> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl Storage for Refusing {
    fn size(&self) -> std::io::Result<u64> {
        self.file.size()
    }
    fn read(&self, data: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.file.read(data, offset)
    }
    fn write(&self, data: &[u8], offset: u64) -> std::io::Result<()> {
        self.use_one().and_then(|()| self.file.write(data, offset))
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> std::io::Result<()> {
        self.use_one().and_then(|()| self.file.write_zeroes(offset, len, unmap))
    }
    fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.file.discard(offset, len)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.use_one().and_then(|()| self.file.set_len(len))
    }
    fn sync(&self) -> std::io::Result<()> {
        self.use_one()
    }
    fn data_run(&self, offset: u64, len: u64) -> std::io::Result<(bool, u64)> {
        self.file.data_run(offset, len)
    }
    fn allocated(&self) -> std::io::Result<u64> {
        self.file.allocated()
    }
}
