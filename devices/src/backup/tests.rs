use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::qcow2::{CreateOptions, OpenOptions, Qcow2, create};
use image::{Image as _, MemoryStorage, Raw};
use memory::{Backing, GuestRam};

use super::nbd::Marked;
use super::*;
use crate::backend::{Action, Cache, Disk, ImageDisk, ImageSpec, Request};

const SIZE: u64 = 1 << 20;

/// A disk of ones, and the guest that writes to it.
struct Rig {
    ram: GuestRam,
    disk: Tracked,
    tracking: Arc<Tracking>,
}

impl Rig {
    fn new() -> Self {
        let file = Arc::new(MemoryStorage::new(vec![1; SIZE as usize]));
        let image = Arc::new(Raw::open(file, false).unwrap());
        let spec = ImageSpec { cache: Cache::Writeback, discard: true, block_size: 512 };
        let tracking = Arc::<Tracking>::default();
        let disk = Arc::new(ImageDisk::new(image, spec).unwrap());
        let ram = GuestRam::new(&[(0, 1 << 20)], &Backing::Anonymous).unwrap();
        Self { ram, disk: Tracked::new(disk, tracking.clone()), tracking }
    }

    fn write(&self, byte: u8, offset: u64, len: u64) {
        self.ram.write_slice(0, &vec![byte; len as usize]).unwrap();
        self.run(Action::Write { durable: false }, offset, len);
    }

    fn run(&self, action: Action, offset: u64, data: u64) {
        let mut channel = self.disk.channel(4).unwrap();
        let buffers = self.ram.buffers((data > 0).then_some((0, data))).unwrap();
        channel.start(0, Request { action, offset, buffers });
        channel.submit();
        channel.finished().unwrap().result.unwrap();
    }

    fn moment(&self) -> Arc<Moment> {
        self.moment_with(Arc::new(MemoryStorage::default()))
    }

    fn moment_with(&self, scratch: Arc<dyn image::Storage>) -> Arc<Moment> {
        let moment = Moment::new(self.disk.image().unwrap(), scratch, Box::new(|_| {}));
        let moment = Arc::new(moment);
        self.tracking.set_moment(Some(moment.clone()));
        moment
    }

    fn seen(&self, moment: &Moment) -> Vec<u8> {
        let mut data = vec![0; SIZE as usize];
        moment.read(&mut data, 0).unwrap();
        data
    }
}

#[test]
fn every_way_to_change_a_disk_marks_its_bitmaps_and_reading_does_not() {
    let rig = Rig::new();
    rig.write(2, 0, 512);
    rig.tracking.add_bitmap(Dirty::new("a".into(), SIZE, 4096, true));
    rig.run(Action::Read, 0, 4096);
    rig.run(Action::Flush, 0, 0);
    let bitmap = rig.tracking.bitmap("a").unwrap();
    assert_eq!(bitmap.count(), 0);
    // The last byte of one block and the first of the next.
    rig.write(2, 8191, 2);
    rig.run(Action::Zero { len: 4096, unmap: false, durable: false }, 20 * 4096, 0);
    rig.run(Action::Discard { len: 1 }, SIZE - 1, 0);
    assert_eq!(bitmap.words(), [0b110 | 1 << 20, 0, 0, 1 << 63]);
    bitmap.enable(false);
    rig.write(2, 0, 512);
    assert_eq!(bitmap.words()[0], 0b110 | 1 << 20, "it is frozen");
}

#[test]
fn a_long_write_marks_whole_words() {
    let bitmap = Dirty::new("a".into(), SIZE, 512, false);
    bitmap.mark(63 * 512, 130 * 512);
    assert_eq!(bitmap.words()[..4], [1 << 63, u64::MAX, u64::MAX, 1]);
    bitmap.mark(0, 0);
    assert_eq!(bitmap.count(), 130 * 512);
}

#[test]
fn a_moment_stays_as_it_was_while_the_guest_writes_on() {
    let rig = Rig::new();
    let moment = rig.moment();
    rig.write(2, 100, 70_000);
    rig.run(Action::Zero { len: 4096, unmap: true, durable: false }, 5 * BLOCK, 0);
    rig.run(Action::Discard { len: BLOCK }, 7 * BLOCK, 0);
    rig.write(3, 100, 10);
    assert!(rig.seen(&moment).iter().all(|byte| *byte == 1));
    let mut now = [0; 200];
    rig.disk.image().unwrap().read(&mut now, 0).unwrap();
    assert_eq!((now[99], now[100], now[150]), (1, 3, 2));
    rig.tracking.set_moment(None);
    rig.write(4, 15 * BLOCK, 512);
    assert_eq!(moment.map(0, SIZE).unwrap().len, BLOCK, "what is saved is known by the block");
}

/// Several queues and a reader, each as fast as it can.
#[test]
fn a_moment_is_the_same_for_a_reader_among_writers() {
    let rig = Rig::new();
    let moment = rig.moment();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for queue in 0..3_u64 {
            let (rig, done) = (&rig, &done);
            scope.spawn(move || {
                let mut channel = rig.disk.channel(1).unwrap();
                let mut at = queue;
                rig.ram.write_slice(queue << 16, &[9; 40_000]).unwrap();
                while !done.load(Ordering::Relaxed) {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(queue | 1);
                    let offset = (at >> 20) % (SIZE - 40_000);
                    let buffers = rig.ram.buffers([(queue << 16, 40_000)]).unwrap();
                    let action = Action::Write { durable: false };
                    channel.start(0, Request { action, offset, buffers });
                    channel.submit();
                    channel.finished().unwrap().result.unwrap();
                }
            });
        }
        for _ in 0..50 {
            let same = rig.seen(&moment).iter().all(|byte| *byte == 1);
            if !same {
                done.store(true, Ordering::Relaxed);
            }
            assert!(same, "something else than the moment was read");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(rig.tracking.has_moment() && moment.lost().is_none());
}

/// Nothing that was told to be the moment is anything else.
#[test]
fn a_full_scratch_file_loses_the_moment_and_not_the_guests_write() {
    struct Full;
    impl image::Storage for Full {
        fn size(&self) -> std::io::Result<u64> {
            Ok(0)
        }
        fn read(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
            Ok(0)
        }
        fn write(&self, _: &[u8], _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn write_zeroes(&self, _: u64, _: u64, _: bool) -> std::io::Result<()> {
            Ok(())
        }
        fn discard(&self, _: u64, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
        fn sync(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn data_run(&self, _: u64, len: u64) -> std::io::Result<(bool, u64)> {
            Ok((true, len))
        }
        fn allocated(&self) -> std::io::Result<u64> {
            Ok(0)
        }
    }
    let rig = Rig::new();
    let moment = rig.moment_with(Arc::new(Full));
    let mut data = [0; 512];
    moment.read(&mut data, 0).unwrap();
    rig.write(9, 0, 512);
    assert!(moment.lost().unwrap().contains("scratch file"));
    assert!(moment.read(&mut data, BLOCK).is_err());
    rig.disk.image().unwrap().read(&mut data, 0).unwrap();
    assert_eq!(data, [9; 512], "the guest wrote on");
}

#[test]
fn an_incremental_copy_has_what_was_marked_and_nothing_else() {
    let rig = Rig::new();
    rig.tracking.add_bitmap(Dirty::new("a".into(), SIZE, BLOCK, false));
    rig.write(5, 3 * BLOCK + 7, 512);
    let words = rig.tracking.bitmap("a").unwrap().words();
    let marked = Some(Arc::new(Marked::new(words, BLOCK)));
    let moment = rig.moment();
    rig.write(6, 3 * BLOCK, BLOCK);
    let file = Arc::new(MemoryStorage::default());
    create(&*file, &CreateOptions::new(SIZE)).unwrap();
    let image = Arc::new(Qcow2::open(file, OpenOptions::default()).unwrap());
    let target = Target { moment, marked, image: image.clone() };
    let mut done = 0;
    copy(&target, &mut |bytes| {
        done += bytes;
        Ok(())
    })
    .unwrap();
    assert_eq!((done, target.total()), (BLOCK, BLOCK));
    let mut data = vec![0; BLOCK as usize];
    image.read(&mut data, 3 * BLOCK).unwrap();
    assert_eq!((data[0], data[7], data[600]), (1, 5, 1));
    assert!(image.map(4 * BLOCK, BLOCK).unwrap().is_zero());
}

#[test]
fn a_copy_that_is_stopped_says_nothing_and_one_that_fails_says_why() {
    let (told, heard) = std::sync::mpsc::channel();
    let told = Box::new(move |outcome| told.send(outcome).unwrap());
    let keeper = Keeper::new("backup", || Ok(()), told).unwrap();
    let rig = Rig::new();
    let target = |size: usize| Target {
        moment: rig.moment(),
        marked: None,
        image: Arc::new(Raw::open(Arc::new(MemoryStorage::new(vec![0; size])), false).unwrap()),
    };
    assert!(keeper.begin(Work::Copy(vec![target(SIZE as usize)])));
    assert_eq!(heard.recv().unwrap(), Outcome::Done);
    assert_eq!(keeper.progress(), (SIZE, SIZE));
    assert!(keeper.begin(Work::Copy(vec![target(512)])));
    let Outcome::Failed(text) = heard.recv().unwrap() else { panic!("it was done") };
    assert!(text.contains("512 bytes"), "{text}");
    assert!(
        Keeper::new("backup", || Err(std::io::ErrorKind::Other.into()), Box::new(|_| {})).is_err()
    );
}
