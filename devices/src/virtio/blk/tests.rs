use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::spec::*;
use super::*;
use crate::backend::stats::{ErrorPolicy, FailedOperation, ReportErrors, Verdict};
use crate::backend::{
    Action, Cache, Channel, Disk, DiskInfo, DiskIo, DiskSpec, Finished, Guarded, RawDisk, Request,
};
use crate::component::Component;
use crate::io_thread::IoThread;
use crate::sync::Lock;
use crate::virtio::features;
use crate::virtio::rig::driver::{DEVICE, Driver, NEEDS_RESET};
use crate::virtio::rig::{GuestQueue, HOLE, SEAM, ram, wait_for};

mod scripted;

const RINGS: u64 = 0x10000;
const HEADER: u64 = 0x8_0000;
const STATUS: u64 = 0x9_0000;
const DATA: u64 = 0x10_0000;
const LEN: usize = 1 << 20;

const ALL: u64 = F_FLUSH | F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES | F_SEG_MAX | F_BLK_SIZE;

fn threads(count: usize) -> Vec<Arc<IoThread>> {
    (0..count).map(|n| IoThread::spawn(&format!("blk:{n}"), || Ok(())).unwrap()).collect()
}

struct Setup {
    io: DiskIo,
    cache: Cache,
    read_only: bool,
    block_size: u32,
    queues: usize,
}

impl Default for Setup {
    fn default() -> Self {
        let (io, cache) = (DiskIo::Uring, Cache::Writeback);
        Self { io, cache, read_only: false, block_size: 512, queues: 1 }
    }
}

impl Setup {
    fn block(&self, file: &File) -> Block {
        let disk = RawDisk::new(DiskSpec {
            file: Arc::new(file.try_clone().unwrap()),
            read_only: self.read_only,
            cache: self.cache,
            discard: true,
            block_size: self.block_size,
            io: self.io,
            queues: 4,
            depth: 256,
        });
        block(Arc::new(disk.unwrap()), self.queues)
    }

    fn rig(&self) -> Rig {
        let file = tempfile::tempfile().unwrap();
        let image: Vec<u8> = (0..LEN).map(|at| (at / 512) as u8).collect();
        file.write_all_at(&image, 0).unwrap();
        let device = self.block(&file);
        Rig::new(device, file)
    }
}

fn block(disk: Arc<dyn Disk>, queues: usize) -> Block {
    Block::new(BlockSpec {
        disk,
        threads: threads(queues),
        queue_size: 256,
        serial: "manor-0123456789-0123456789".to_owned(),
    })
}

struct Rig {
    driver: Driver,
    queue: GuestQueue,
    handle: BlockHandle,
    file: File,
}

impl Rig {
    fn new(device: Block, file: File) -> Self {
        let memory = ram();
        let handle = device.handle();
        let driver = Driver::new(&memory, device);
        let queue = GuestQueue::new(&memory, RINGS, 256);
        driver.bring_up(ALL & driver.offered() | features::INDIRECT_DESC, &[&queue]);
        Self { driver, queue, handle, file }
    }

    fn restart(&mut self, wanted: u64) {
        self.queue = GuestQueue::new(&self.queue.ram, RINGS, 256);
        self.driver.bring_up(wanted, &[&self.queue]);
        self.driver.msi.take(0);
        self.driver.msi.take(1);
    }

    fn header(&self, kind: u32, sector: u64) {
        self.queue.ram.write_obj(HEADER, kind).unwrap();
        self.queue.ram.write_obj(HEADER + 4, 0_u32).unwrap();
        self.queue.ram.write_obj(HEADER + 8, sector).unwrap();
    }

    /// Offer the chain and wait for it; `(status byte, bytes written)`.
    fn run(&mut self, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> (u8, u32) {
        self.queue.ram.write_obj(STATUS, 0xff_u8).unwrap();
        self.queue.submit(readable, writable);
        self.driver.kick(0);
        // An interrupt alone may be of what ended before.
        let mut used = Vec::new();
        wait_for("the request", || {
            used.extend(self.queue.used());
            !used.is_empty()
        });
        wait_for("its interrupt", || self.driver.msi.take(1) > 0);
        assert_eq!(used.len(), 1);
        (self.queue.ram.read_obj(STATUS).unwrap(), used[0].1)
    }

    fn read(&mut self, sector: u64, data: &[(u64, u32)]) -> (u8, u32) {
        self.header(T_IN, sector);
        let writable = [data, &[(STATUS, 1)]].concat();
        self.run(&[(HEADER, 16)], &writable)
    }

    fn write(&mut self, sector: u64, data: &[(u64, u32)]) -> u8 {
        self.header(T_OUT, sector);
        let readable = [&[(HEADER, 16)], data].concat();
        self.run(&readable, &[(STATUS, 1)]).0
    }

    /// A discard or write-zeroes of one segment.
    fn segment(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        self.header(kind, 0);
        self.queue.ram.write_obj(DATA, sector).unwrap();
        self.queue.ram.write_obj(DATA + 8, sectors).unwrap();
        self.queue.ram.write_obj(DATA + 12, flags).unwrap();
        self.run(&[(HEADER, 16), (DATA, 16)], &[(STATUS, 1)]).0
    }

    fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.file.metadata().unwrap().len() as usize];
        self.file.read_exact_at(&mut image, 0).unwrap();
        image
    }

    fn expect_working(&mut self) {
        self.queue.ram.write_obj(DATA, 0xff_u8).unwrap();
        assert_eq!(self.read(3, &[(DATA, 512)]), (S_OK, 513));
        assert_eq!(self.queue.ram.read_obj::<u8>(DATA).unwrap(), 3);
    }
}

fn every_way(mut test: impl FnMut(Rig)) {
    for io in [DiskIo::Uring, DiskIo::Threads] {
        for cache in [Cache::Writeback, Cache::Writethrough, Cache::Unsafe] {
            test(Setup { io, cache, ..Setup::default() }.rig());
        }
    }
}

#[test]
fn reads_and_writes_move_the_data_and_are_counted() {
    every_way(|mut rig| {
        assert_eq!(rig.read(5, &[(SEAM - 100, 300), (DATA, 724)]), (S_OK, 1025));
        assert_eq!(rig.queue.ram.read_obj::<u8>(SEAM + 10).unwrap(), 5);
        assert_eq!(rig.queue.ram.read_obj::<u8>(DATA + 723).unwrap(), 6);
        rig.queue.ram.write_slice(DATA, &[0xab; 1024]).unwrap();
        assert_eq!(rig.write(9, &[(DATA, 1000), (DATA + 8, 24)]), S_OK);
        let image = rig.image();
        assert!(image[9 * 512..11 * 512].iter().all(|byte| *byte == 0xab));
        assert_eq!((image[9 * 512 - 1], image[11 * 512]), (8, 11));
        let stats = rig.handle.stats();
        assert_eq!((stats.read_requests.load(SeqCst), stats.read_bytes.load(SeqCst)), (1, 1024));
        assert_eq!((stats.write_requests.load(SeqCst), stats.write_bytes.load(SeqCst)), (1, 1024));
    });
}

#[test]
fn flush_discard_and_write_zeroes_do_what_they_say() {
    every_way(|mut rig| {
        rig.header(T_FLUSH, 0);
        assert_eq!(rig.run(&[(HEADER, 16)], &[(STATUS, 1)]), (S_OK, 1));
        assert_eq!(rig.segment(T_DISCARD, 16, 8, 0), S_OK);
        assert_eq!(rig.segment(T_WRITE_ZEROES, 101, 3, 0), S_OK);
        assert_eq!(rig.segment(T_WRITE_ZEROES, 201, 3, SEGMENT_UNMAP), S_OK);
        let image = rig.image();
        for (from, to) in [(16, 24), (101, 104), (201, 204)] {
            assert!(image[from * 512..to * 512].iter().all(|byte| *byte == 0), "{from}");
            assert_eq!(image[to * 512], to as u8);
            assert_eq!(image[from * 512 - 1], from as u8 - 1);
        }
        assert_eq!(rig.handle.stats().unmap_requests.load(SeqCst), 3);
    });
}

#[test]
fn the_serial_number_is_cut_to_its_buffer() {
    let mut rig = Setup::default().rig();
    for (room, expected) in
        [(20, "manor-0123456789-012"), (5, "manor"), (100, "manor-0123456789-012")]
    {
        rig.queue.ram.write_slice(DATA, &[0; 100]).unwrap();
        rig.header(T_GET_ID, 0);
        let (status, written) = rig.run(&[(HEADER, 16)], &[(DATA, room), (STATUS, 1)]);
        assert_eq!((status, written as usize), (S_OK, expected.len() + 1));
        let mut id = vec![0; expected.len() + 1];
        rig.queue.ram.read_slice(DATA, &mut id).unwrap();
        assert_eq!(id, [expected.as_bytes(), &[0]].concat());
    }
    // Room for the status alone.
    rig.header(T_GET_ID, 0);
    assert_eq!(rig.run(&[(HEADER, 16)], &[(STATUS, 1)]), (S_OK, 1));
}

#[test]
fn the_configuration_space_describes_the_disk() {
    let rig = Setup { block_size: 4096, queues: 3, ..Setup::default() }.rig();
    let config = |at, len| rig.driver.read(DEVICE + at, len);
    assert_eq!(config(0, 8), LEN as u64 / 512);
    assert_eq!((config(0, 4), config(4, 4)), (LEN as u64 / 512, 0));
    assert_eq!((config(12, 4), config(20, 4), config(34, 2)), (254, 4096, 3));
    assert_eq!((config(32, 1), config(40, 4), config(56, 1), config(60, 8)), (1, 1, 1, 0));
    assert_ne!(rig.driver.offered() & F_MQ, 0);
}

#[test]
fn requests_outside_the_disk_or_between_blocks_fail() {
    let mut rig = Setup::default().rig();
    let sectors = LEN as u64 / 512;
    for sector in [sectors, sectors - 1, u64::MAX, u64::MAX / 512, u64::MAX / 512 + 1, 1 << 63] {
        assert_eq!(rig.read(sector, &[(DATA, 1024)]), (S_IOERR, 1), "{sector:#x}");
        assert_eq!(rig.write(sector, &[(DATA, 1024)]), S_IOERR, "{sector:#x}");
        assert_eq!(rig.segment(T_DISCARD, sector, 2, 0), S_IOERR, "{sector:#x}");
        assert_eq!(rig.segment(T_WRITE_ZEROES, sector, 2, 0), S_IOERR, "{sector:#x}");
    }
    for len in [1, 511, 513] {
        assert_eq!(rig.read(0, &[(DATA, len)]), (S_IOERR, 1));
        assert_eq!(rig.write(0, &[(DATA, len)]), S_IOERR);
    }
    for count in [MAX_WRITE_ZEROES + 1, u32::MAX] {
        assert_eq!(rig.segment(T_WRITE_ZEROES, 0, count, 0), S_IOERR);
        assert_eq!(rig.segment(T_DISCARD, 0, count, 0), S_IOERR);
    }
    assert_eq!(rig.handle.stats().read_requests.load(SeqCst), 0);
    assert!(rig.handle.stats().refused.load(SeqCst) > 30);
    rig.expect_working();
}

#[test]
fn blocks_larger_than_sectors_are_insisted_on() {
    let mut rig = Setup { block_size: 4096, ..Setup::default() }.rig();
    assert_eq!(rig.read(1, &[(DATA, 4096)]), (S_IOERR, 1));
    assert_eq!(rig.read(8, &[(DATA, 512)]), (S_IOERR, 1));
    assert_eq!(rig.read(8, &[(DATA, 4096)]), (S_OK, 4097));
}

#[test]
fn unknown_types_flags_and_segment_counts_are_unsupported() {
    let mut rig = Setup::default().rig();
    for kind in [2, 3, 5, 9, 14, 0x100, 0x8000_0000, u32::MAX] {
        rig.header(kind, 0);
        assert_eq!(rig.run(&[(HEADER, 16)], &[(STATUS, 1)]), (S_UNSUPP, 1), "{kind:#x}");
    }
    assert_eq!(rig.segment(T_DISCARD, 0, 1, SEGMENT_UNMAP), S_UNSUPP);
    assert_eq!(rig.segment(T_WRITE_ZEROES, 0, 1, 2), S_UNSUPP);
    for len in [0, 8, 15, 17, 32, 16 * 4096] {
        rig.header(T_DISCARD, 0);
        let (status, _) = if len == 0 {
            rig.run(&[(HEADER, 16)], &[(STATUS, 1)])
        } else {
            rig.run(&[(HEADER, 16), (DATA, len)], &[(STATUS, 1)])
        };
        assert_eq!(status, S_UNSUPP, "{len}");
    }
    // Not negotiated, and so not there.
    rig.restart(F_FLUSH);
    assert_eq!(rig.segment(T_DISCARD, 0, 1, 0), S_UNSUPP);
    assert_eq!(rig.segment(T_WRITE_ZEROES, 0, 1, 0), S_UNSUPP);
    rig.expect_working();
}

#[test]
fn any_shape_of_chain_with_a_header_and_a_status_works() {
    let mut rig = Setup::default().rig();
    rig.header(T_IN, 7);
    let header: Vec<_> = (0..16).map(|n| (HEADER + n, 1)).collect();
    // The status is the last byte of the last buffer.
    let writable = [(DATA, 200), (DATA + 200, 313)];
    rig.queue.submit(&header, &writable);
    rig.driver.kick(0);
    wait_for("the request", || rig.driver.msi.take(1) > 0);
    assert_eq!(rig.queue.ram.read_obj::<u8>(DATA + 512).unwrap(), S_OK);
    assert_eq!(rig.queue.ram.read_obj::<u8>(DATA + 511).unwrap(), 7);
    assert_eq!(rig.queue.used().len(), 1);
    // Header and data in one buffer.
    rig.header(T_OUT, 8);
    assert_eq!(rig.run(&[(HEADER, 16 + 512)], &[(STATUS, 1)]).0, S_OK);
}

#[test]
fn a_short_header_is_an_error_and_a_missing_status_breaks_the_queue() {
    let mut rig = Setup::default().rig();
    assert_eq!(rig.run(&[(HEADER, 15)], &[(STATUS, 1)]), (S_IOERR, 1));
    assert_eq!(rig.run(&[], &[(STATUS, 1)]), (S_IOERR, 1));
    rig.header(T_OUT, 0);
    rig.queue.submit(&[(HEADER, 16), (DATA, 512)], &[]);
    rig.driver.kick(0);
    wait_for("NEEDS_RESET", || rig.driver.status() & NEEDS_RESET != 0);
    assert!(rig.queue.used().is_empty());
    rig.restart(ALL);
    rig.expect_working();
}

#[test]
fn a_read_only_disk_is_not_written_whatever_the_driver_acknowledged() {
    let mut rig = Setup { read_only: true, ..Setup::default() }.rig();
    assert_eq!(rig.driver.offered() & (F_RO | F_DISCARD | F_WRITE_ZEROES), F_RO);
    let before = rig.image();
    for wanted in [0, F_RO | F_FLUSH] {
        rig.restart(wanted);
        rig.queue.ram.write_slice(DATA, &[0xab; 512]).unwrap();
        assert_eq!(rig.write(0, &[(DATA, 512)]), S_IOERR);
        assert_eq!(rig.segment(T_DISCARD, 0, 8, 0), S_UNSUPP);
        assert_eq!(rig.segment(T_WRITE_ZEROES, 0, 8, 0), S_UNSUPP);
        rig.header(T_FLUSH, 0);
        assert_eq!(rig.run(&[(HEADER, 16)], &[(STATUS, 1)]), (S_OK, 1));
        rig.expect_working();
    }
    assert_eq!(rig.image(), before);
}

#[test]
fn each_queue_works_on_its_own_thread() {
    let setup = Setup { queues: 4, ..Setup::default() };
    let mut rig = setup.rig();
    let memory = rig.queue.ram.clone();
    let mut queues: Vec<_> =
        (0..4).map(|n| GuestQueue::new(&memory, RINGS + n * 0x8000, 128)).collect();
    rig.driver.bring_up(ALL | F_MQ, &queues.iter().collect::<Vec<_>>());
    rig.header(T_IN, 1);
    for (index, queue) in (0..).zip(&mut queues) {
        for n in 0..40 {
            let data = DATA + 0x10000 * index + 512 * n;
            queue.submit(&[(HEADER, 16)], &[(data, 512), (STATUS + index, 1)]);
        }
        rig.driver.kick(index);
    }
    for (index, queue) in queues.iter_mut().enumerate() {
        let mut done = Vec::new();
        wait_for("all of a queue", || {
            done.extend(queue.used());
            done.len() == 40
        });
        assert!(done.iter().all(|(_, written)| *written == 513));
        assert!(rig.driver.msi.take(index + 1) > 0);
    }
    assert_eq!(rig.handle.stats().read_requests.load(SeqCst), 160);
    rig.file = tempfile::tempfile().unwrap();
}

#[test]
fn a_resize_reaches_the_guest_and_moves_the_limit() {
    let mut rig = Setup::default().rig();
    let generation = rig.driver.read(0x15, 1);
    rig.file.set_len(2 * LEN as u64).unwrap();
    rig.handle.resize(2 * LEN as u64 + 100);
    assert_eq!(rig.driver.msi.take(0), 1);
    assert_ne!(rig.driver.read(0x15, 1), generation);
    assert_eq!(rig.driver.read(DEVICE, 8), 2 * LEN as u64 / 512);
    assert_eq!(rig.read(LEN as u64 / 512 + 5, &[(DATA, 512)]), (S_OK, 513));
}

#[test]
fn a_paused_disk_goes_on_in_another_process() {
    for io in [DiskIo::Uring, DiskIo::Threads] {
        let setup = Setup { io, ..Setup::default() };
        let mut rig = setup.rig();
        rig.driver.write(DEVICE + CONFIG_WRITEBACK, 1, 0);
        rig.expect_working();
        rig.driver.function.pause();
        let state = rig.driver.function.save().unwrap();
        let device = setup.block(&rig.file);
        rig.handle = device.handle();
        rig.driver = Driver::new(&rig.queue.ram, device);
        rig.driver.function.restore(&state).unwrap();
        assert_eq!(rig.driver.function.save().unwrap(), state);
        rig.driver.function.resume();
        assert_eq!(rig.driver.read(DEVICE + CONFIG_WRITEBACK, 1), 0);
        rig.expect_working();
    }
}
