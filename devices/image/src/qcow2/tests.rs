use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::error::ImageError;
use crate::storage::{FileStorage, MemoryStorage, Storage};
use crate::view::Image;

const SIZE: u64 = 1 << 20;

fn new(options: &CreateOptions) -> Arc<MemoryStorage> {
    let file = Arc::new(MemoryStorage::default());
    create(&*file, options).unwrap();
    file
}

fn small() -> CreateOptions {
    CreateOptions { cluster_size: 4096, ..CreateOptions::new(SIZE) }
}

fn open(file: &Arc<MemoryStorage>) -> Result<Qcow2, ImageError> {
    Qcow2::open(file.clone(), OpenOptions::default())
}

fn open_to_read(file: &Arc<MemoryStorage>) -> Result<Qcow2, ImageError> {
    Qcow2::open(file.clone(), OpenOptions { read_only: true, ..OpenOptions::default() })
}

/// An image with data, holes and zeros in it.
fn filled() -> Arc<MemoryStorage> {
    let file = new(&small());
    let disk = open(&file).unwrap();
    disk.write(&[1; 20_000], 3000).unwrap();
    disk.write(&[2; 5000], 700_000).unwrap();
    disk.write_zeroes(8192, 8192, true).unwrap();
    file
}

#[track_caller]
fn refused(file: &Arc<MemoryStorage>, words: &str) {
    let error = open_to_read(file).err().expect("it was opened").in_full();
    assert!(error.contains(words), "{error}");
}

/// One field of the header, and what is said about such an image.
#[test]
fn a_damaged_header_is_refused_by_name() {
    let be32 = |value: u32| value.to_be_bytes().to_vec();
    let be64 = |value: u64| value.to_be_bytes().to_vec();
    let cases: Vec<(u64, Vec<u8>, &str)> = vec![
        (0, be32(0x4b44_4d56), "is no qcow2 image"),
        (4, be32(1), "version 1 of the format"),
        (4, be32(4), "version 4 of the format"),
        (8, be64(5000), "name outside the first cluster"),
        (8, be64(8), "name outside the first cluster"),
        (20, be32(0), "clusters of 2^0 bytes"),
        (20, be32(63), "clusters of 2^63 bytes"),
        (20, be32(u32::MAX), "clusters of 2^4294967295 bytes"),
        (24, be64(u64::MAX), "a size of 18446744073709551615 bytes"),
        (24, be64(1 << 50), "L1 table too small"),
        (32, be32(1), "AES encryption, which is not supported"),
        (32, be32(2), "LUKS encryption"),
        (32, be32(7), "number 7 encryption"),
        (36, be32(u32::MAX), "an L1 table of 4294967295 entries"),
        (36, be32(0), "L1 table too small"),
        (40, be64(0), "an L1 table over its header"),
        (40, be64(4097), "L1 table off a cluster's boundary"),
        (40, be64(1 << 62), "L1 table beyond any file's end"),
        (40, be64(1 << 40), "an L1 table beyond the file's end"),
        (48, be64(4097), "refcount table off a cluster's boundary"),
        (48, be64(0), "a refcount table over its header"),
        (56, be32(0), "a refcount table of 0 clusters"),
        (56, be32(u32::MAX), "a refcount table of 4294967295 clusters"),
        (60, be32(65537), "65537 snapshots"),
        (72, be64(1 << 5 | 1 << 63), "unknown incompatible features (bits [5, 63])"),
        (72, be64(1 << 2), "another number of them"),
        (72, be64(1 << 3), "compression type contradicts its features"),
        (72, be64(1 << 4), "clusters too small for subclusters"),
        (88, be64(2), "a raw data file without a data file"),
        (96, be32(7), "reference counts of 2^7 bits"),
        (100, be32(u32::MAX), "a header of 4294967295 bytes"),
        (100, be32(103), "a header of 103 bytes"),
        (104, vec![2], "compression type 2"),
        (116, be32(0x7fff_ffff), "a header extension of 2147483647 bytes"),
    ];
    for (offset, value, words) in cases {
        let file = filled();
        file.write(&value, offset).unwrap();
        refused(&file, words);
    }
}

#[test]
fn a_file_too_short_for_a_header_is_refused() {
    for len in [0, 3, 4, 71, 72, 103] {
        let file = Arc::new(MemoryStorage::new(filled().bytes()[..len].to_vec()));
        assert!(open_to_read(&file).is_err(), "{len}");
    }
}

#[test]
fn names_in_the_header_must_be_text() {
    for name in [b"a\0b".to_vec(), b"\xff\xfe".to_vec(), Vec::new()] {
        let file = filled();
        file.write(&2000_u64.to_be_bytes(), 8).unwrap();
        file.write(&(name.len() as u32).to_be_bytes(), 16).unwrap();
        file.write(&name, 2000).unwrap();
        assert!(describe(&*file).is_err(), "{name:?}");
    }
}

#[test]
fn what_an_image_needs_is_known_before_it_is_opened() {
    let backing = crate::Reference { name: "../base.img".into(), format: Some("raw".into()) };
    let data_file = Some("data.raw".to_owned());
    let options = CreateOptions { backing: Some(backing.clone()), data_file, ..small() };
    let description = describe(&*new(&options)).unwrap();
    assert_eq!(description.backing, Some(backing));
    assert_eq!(description.data_file.as_deref(), Some("data.raw"));
    assert_eq!((description.size, description.cluster_size), (SIZE, Some(4096)));
}

/// Tables that lead to themselves or to each other never let guest data over them.
#[test]
fn data_is_never_written_over_tables() {
    // Clusters of `filled`: header, refcount table, refcount block, L1, L2, data.
    for (what, cluster) in
        [("header", 0), ("refcount table", 1), ("refcount block", 2), ("L1", 3), ("L2", 4)]
    {
        let file = filled();
        let before = file.bytes();
        let l2 = 4 * 4096;
        let entry = (cluster * 4096) | spec::COPIED;
        file.write(&entry.to_be_bytes(), l2 + 8 * 5).unwrap();
        let disk = open(&file).unwrap();
        let result = disk.write(&[0xee; 4096], 5 * 4096);
        if cluster == 0 {
            // Offset 0 means "none": the data gets a cluster of its own.
            result.unwrap();
            assert_eq!(file.bytes()[..72], before[..72]);
            continue;
        }
        assert!(result.is_err(), "data over the {what}");
        assert!(disk.write(&[1; 512], 0).is_err(), "an image found corrupt is not written to");
        let mut data = [0; 512];
        disk.read(&mut data, 700_000).unwrap();
        assert_eq!(data, [2; 512], "and still read");
        drop(disk);
        let start = (cluster * 4096) as usize;
        let changed = if cluster == 4 { l2 as usize + 48 } else { start };
        assert_eq!(file.bytes()[changed..start + 4096], before[changed..start + 4096]);
        let error = open(&file).err().unwrap().in_full();
        assert!(error.contains("marked as corrupt; repair it first"), "{error}");
        assert!(open_to_read(&file).is_ok());
    }
}

#[test]
fn a_table_in_a_cluster_that_counts_as_free_is_not_given_away() {
    let file = filled();
    // The L2 table's count.
    file.write(&0_u16.to_be_bytes(), 2 * 4096 + 2 * 4).unwrap();
    let disk = open(&file).unwrap();
    let error = disk.write(&[1; 4096], 500_000).unwrap_err().to_string();
    assert!(error.contains("counts as free"), "{error}");
}

#[test]
fn a_refcount_block_for_many_clusters_is_refused() {
    let file = filled();
    for entry in 1..512_u64 {
        file.write(&8192_u64.to_be_bytes(), 4096 + 8 * entry).unwrap();
    }
    let error = open(&file).err().unwrap().in_full();
    assert!(error.contains("a refcount block at 0x2000 that is used twice"), "{error}");
    assert!(open_to_read(&file).is_ok());
}

#[test]
fn impossible_entries_make_a_request_fail_and_no_more() {
    let l2 = 4 * 4096;
    for entry in [0x1ff, 1 << 56, 4096 | 1 << 60, u64::MAX] {
        let file = filled();
        file.write(&u64::to_be_bytes(entry), l2).unwrap();
        let disk = open(&file).unwrap();
        let mut data = [0; 512];
        let error = disk.read(&mut data, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{entry:#x}");
        disk.read(&mut data, 700_000).unwrap();
        assert_eq!(data, [2; 512]);
    }
    let file = filled();
    file.write(&(1_u64 << 40).to_be_bytes(), 3 * 4096).unwrap();
    let error = open(&file).unwrap().read(&mut [0; 512], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_compressed_cluster_that_is_none_is_an_error() {
    for (compression, garbage) in [
        (Compression::Zlib, vec![0xff; 600]),
        (Compression::Zlib, Vec::new()),
        (Compression::Zstd, vec![0; 600]),
        // A frame that claims 2^60 bytes.
        (Compression::Zstd, [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 60]].concat()),
    ] {
        let file = new(&CreateOptions { compression, ..small() });
        let disk = open(&file).unwrap();
        disk.write(&[1; 4096], 0).unwrap();
        drop(disk);
        let end = file.size().unwrap();
        file.write(&garbage, end).unwrap();
        // Four bits of sectors in clusters of this size.
        let entry = spec::COMPRESSED | end | 1 << 58;
        file.write(&entry.to_be_bytes(), 4 * 4096).unwrap();
        let error = open(&file).unwrap().read(&mut [0; 512], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{compression:?}");
    }
}

/// Fails from the n-th write or sync on, as a full or broken disk does.
struct Failing {
    file: Arc<MemoryStorage>,
    left: AtomicU64,
}

impl Failing {
    fn use_one(&self) -> io::Result<()> {
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        left.map(|_| ()).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl Storage for Failing {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read(data, offset)
    }
    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.use_one().and_then(|()| self.file.write(data, offset))
    }
    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.use_one().and_then(|()| self.file.write_zeroes(offset, len, unmap))
    }
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.use_one().and_then(|()| self.file.discard(offset, len))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.use_one().and_then(|()| self.file.set_len(len))
    }
    fn sync(&self) -> io::Result<()> {
        self.use_one()
    }
    fn data_run(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        self.file.data_run(offset, len)
    }
    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
}

/// Stop at every write and sync there is: clusters may be lost, never used twice, and what was
/// flushed before is there.
#[test]
fn a_stop_at_any_point_leaves_a_sound_image() {
    let file = filled();
    open(&file).unwrap().write(&[9; 4096], 300_000).unwrap();
    let start = file.bytes();
    let mut stop = 0;
    loop {
        let file = Arc::new(MemoryStorage::new(start.clone()));
        let failing = Arc::new(Failing { file: file.clone(), left: AtomicU64::new(stop) });
        let disk = Qcow2::open(failing, OpenOptions::default()).unwrap();
        let steps = || -> io::Result<()> {
            disk.write(&[3; 9000], 5000)?;
            disk.discard(0, 16384)?;
            disk.flush()?;
            disk.write(&[4; 50_000], 100_000)?;
            disk.write_zeroes(690_000, 20_000, true)?;
            disk.flush()?;
            disk.write(&[5; 40_000], 600_000)?;
            disk.flush()
        };
        let done = steps().is_ok();
        drop(disk);
        let report = check(&*file, Repair::Nothing).unwrap();
        assert_eq!(report.corruptions, 0, "stopped after {stop}: {:?}", report.messages);
        let mut kept = [0; 4096];
        open_to_read(&file).unwrap().read(&mut kept, 300_000).unwrap();
        assert_eq!(kept, [9; 4096], "stopped after {stop}");
        if done {
            assert!(stop > 20, "the steps were to write more");
            return;
        }
        stop += 1;
    }
}

#[test]
fn unknown_promises_are_withdrawn_before_the_first_write() {
    let file = filled();
    file.write(&0xf1_u64.to_be_bytes(), 88).unwrap();
    open_to_read(&file).unwrap();
    assert_eq!(file.bytes()[95], 0xf1);
    open(&file).unwrap();
    // Bitmaps are kept in step; nothing is known of the rest.
    assert_eq!(file.bytes()[88..96], 1_u64.to_be_bytes());
}

#[test]
fn a_file_cut_off_is_an_error_and_not_zeros() {
    let file = filled();
    let disk = open(&file).unwrap();
    file.set_len(5 * 4096).unwrap();
    let error = disk.read(&mut [0; 512], 3000).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// Threads that write to the same clusters, each its own sectors, lose nothing.
#[test]
fn many_threads_write_to_the_same_clusters() {
    for options in [small(), CreateOptions { extended_l2: true, ..CreateOptions::new(SIZE) }] {
        let file = new(&options);
        let disk = open(&file).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let disk = &disk;
                scope.spawn(move || {
                    for sector in (thread..SIZE / 512).step_by(4) {
                        disk.write(&[thread as u8 + 1; 512], sector * 512).unwrap();
                        if sector % 97 == 0 {
                            disk.flush().unwrap();
                        }
                        if sector % 301 == 0 {
                            disk.discard(0, 0).unwrap();
                        }
                    }
                });
            }
        });
        let mut data = vec![0; SIZE as usize];
        disk.read(&mut data, 0).unwrap();
        for (sector, data) in data.chunks(512).enumerate() {
            assert!(data.iter().all(|byte| *byte == (sector % 4) as u8 + 1), "sector {sector}");
        }
        drop(disk);
        let report = check(&*file, Repair::Nothing).unwrap();
        assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, u64, u8),
    Zero(u64, u64, bool),
    Discard(u64, u64),
    Flush,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    const LEN: RangeInclusive<u64> = 1..=40_000;
    let step = prop_oneof![
        4 => (0..SIZE, LEN, any::<u8>()).prop_map(|(at, len, byte)| Step::Write(at, len, byte)),
        2 => (0..SIZE, LEN, any::<bool>()).prop_map(|(at, len, unmap)| Step::Zero(at, len, unmap)),
        2 => (0..SIZE, LEN).prop_map(|(at, len)| Step::Discard(at, len)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_reads_back(
        steps in steps(),
        bits in prop::sample::select(vec![9_u32, 12, 14, 16]),
        version in 2..=3_u32,
    ) {
        let extended_l2 = version == 3 && bits >= 14;
        let cluster_size = 1 << bits;
        let options = CreateOptions { cluster_size, version, extended_l2, ..CreateOptions::new(SIZE) };
        let file = new(&options);
        let mut model = vec![0_u8; SIZE as usize];
        let mut disk = Some(open(&file).unwrap());
        for step in steps {
            let image = disk.as_ref().unwrap();
            match step {
                Step::Write(at, len, byte) => {
                    let end = (at + len).min(SIZE);
                    let range = at as usize..end as usize;
                    model[range.clone()].fill(byte);
                    image.write(&model[range], at).unwrap();
                }
                Step::Zero(at, len, unmap) => {
                    let end = (at + len).min(SIZE);
                    model[at as usize..end as usize].fill(0);
                    image.write_zeroes(at, end - at, unmap).unwrap();
                }
                Step::Discard(at, len) => {
                    let end = (at + len).min(SIZE);
                    image.discard(at, end - at).unwrap();
                    let mut now = vec![0; (end - at) as usize];
                    image.read(&mut now, at).unwrap();
                    let was = &mut model[at as usize..end as usize];
                    prop_assert!(now.iter().zip(&*was).all(|(now, was)| *now == 0 || now == was));
                    was.copy_from_slice(&now);
                }
                Step::Flush => image.flush().unwrap(),
                Step::Reopen => {
                    disk = None;
                    disk = Some(open(&file).unwrap()).or(disk);
                }
            }
        }
        let image = disk.unwrap();
        let mut now = vec![1; SIZE as usize];
        image.read(&mut now, 0).unwrap();
        prop_assert!(now == model);
        drop(image);
        let report = check(&*file, Repair::Nothing).unwrap();
        prop_assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    }
}

/// The fuzz target's work, on seeded damage to a sound image.
#[test]
fn damage_anywhere_is_contained() {
    let sound = filled().bytes();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    for _ in 0..1000 {
        let mut bytes = sound.clone();
        for _ in 0..=random(4) {
            // Headers and tables, mostly.
            let at = if random(4) == 0 {
                random(bytes.len() as u64)
            } else {
                random(5) * 4096 + random(200)
            };
            let value = [0, 0xff, 0x80, random(256) as u8][random(4) as usize];
            if let Some(byte) = bytes.get_mut(at as usize) {
                *byte = value;
            }
        }
        crate::torture::qcow2(bytes);
    }
}

/// Nobody closed it, and each of its clusters lies far from the others in a file of holes.
#[test]
fn an_image_that_costs_too_much_to_count_anew_is_refused_by_name_and_left_as_it_is() {
    const CLUSTERS: u64 = 8300;
    let file = Arc::new(FileStorage::new(tempfile::tempfile().unwrap()).unwrap());
    let options = CreateOptions { cluster_size: 512, ..CreateOptions::new(CLUSTERS * 512) };
    create(&*file, &options).unwrap();
    let disk = Qcow2::open(file.clone(), OpenOptions::default()).unwrap();
    disk.write(&vec![1; CLUSTERS as usize * 512], 0).unwrap();
    drop(disk);
    let be64 = |at: u64| {
        let mut bytes = [0; 8];
        file.read(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let l1 = be64(40);
    for cluster in 0..CLUSTERS {
        let table = be64(l1 + cluster / 64 * 8) & 0x00ff_ffff_ffff_fe00;
        let far = (1 << 63) | ((cluster + 16) * 1024 * 512);
        file.write(&far.to_be_bytes(), table + cluster % 64 * 8).unwrap();
    }
    file.set_len((CLUSTERS + 17) * 1024 * 512).unwrap();
    file.write(&1_u64.to_be_bytes(), 72).unwrap();
    let error = Qcow2::open(file.clone(), OpenOptions::default()).err().unwrap().in_full();
    assert!(error.contains("too large to be counted anew"), "{error}");
    assert_eq!(be64(72), 1, "nothing was changed");
    // Reading it needs no counts.
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    assert!(Qcow2::open(file.clone(), options).is_ok());
}
