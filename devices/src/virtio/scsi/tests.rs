use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::spec::*;
use super::*;
use crate::backend::held::{Held, HeldDisk};
use crate::backend::stats::{ErrorPolicy, FailedOperation, Verdict};
use crate::backend::{Disk, Guarded};
use crate::component::Component;
use crate::io_thread::IoThread;
use crate::scsi::tests::{disk, unit};
use crate::scsi::{LogicalUnit, UnitKind};
use crate::virtio::features;
use crate::virtio::rig::driver::{DEVICE, Driver, NEEDS_RESET};
use crate::virtio::rig::{GuestQueue, Random, SEAM, ram, submit_garbage, wait_for};

const RINGS: u64 = 0x1_0000;
const REQUEST: u64 = 0x8_0000;
const ANSWER: u64 = 0x9_0000;
const DATA: u64 = 0x10_0000;
const ANSWER_LEN: u32 = 108;
const MIB: u64 = 1 << 20;

struct Rig {
    driver: Driver,
    /// Control, events, and one for requests.
    queues: Vec<GuestQueue>,
    disk: Arc<LogicalUnit>,
    drive: Arc<LogicalUnit>,
    handle: ScsiHandle,
    file: File,
}

#[derive(Debug, PartialEq, Eq)]
struct Answered {
    response: u8,
    status: u8,
    residual: u32,
    /// Key and code, where there is sense data.
    sense: Option<(u8, u8)>,
    written: u32,
}

fn scsi(disk: &Arc<LogicalUnit>, drive: &Arc<LogicalUnit>) -> Scsi {
    Scsi::new(ScsiSpec {
        units: vec![
            UnitAt { target: 0, lun: 0, unit: disk.clone() },
            UnitAt { target: 0, lun: 300, unit: drive.clone() },
        ],
        thread: IoThread::spawn("scsi", || Ok(())).unwrap(),
        queues: 1,
        queue_size: 128,
        depth: 4,
    })
    .unwrap()
}

impl Rig {
    fn new() -> Self {
        let (image, file) = disk(MIB, false);
        Self::with(image, file)
    }

    fn held(hold: bool) -> (Self, Arc<HeldDisk>) {
        let held = HeldDisk::new(MIB, hold);
        (Self::with(Arc::new(Held(held.clone())), tempfile::tempfile().unwrap()), held)
    }

    fn with(image: Arc<dyn Disk>, file: File) -> Self {
        let memory = ram();
        let disk = Arc::new(unit(UnitKind::Disk, Some(image)));
        let drive = Arc::new(unit(UnitKind::Cdrom, None));
        let device = scsi(&disk, &drive);
        let handle = device.handle();
        let driver = Driver::new(&memory, device);
        let queues = (0..3).map(|n| GuestQueue::new(&memory, RINGS + n * 0x1_0000, 128)).collect();
        let mut rig = Self { driver, queues, disk, drive, handle, file };
        rig.bring_up();
        // The attention of power-on.
        assert_eq!(rig.command(lun(0), &[0], &[], &[]).sense, Some((6, 0x29)));
        rig
    }

    fn bring_up(&mut self) {
        let memory = self.queues[0].ram.clone();
        for (n, queue) in (0..).zip(&mut self.queues) {
            *queue = GuestQueue::new(&memory, RINGS + n * 0x1_0000, 128);
        }
        let all: Vec<&GuestQueue> = self.queues.iter().collect();
        self.driver.bring_up(F_HOTPLUG | F_CHANGE | features::INDIRECT_DESC, &all);
    }

    fn send(
        &mut self,
        slot: u64,
        address: [u8; 8],
        cdb: &[u8],
        out: &[(u64, u32)],
        input: &[(u64, u32)],
    ) {
        let mut request = vec![0; 51];
        request[..8].copy_from_slice(&address);
        request[8..16].copy_from_slice(&slot.to_le_bytes());
        request[19..19 + cdb.len()].copy_from_slice(cdb);
        let (at, answer) = (REQUEST + slot * 0x100, ANSWER + slot * 0x100);
        self.queues[2].ram.write_slice(at, &request).unwrap();
        self.queues[2].ram.write_slice(answer, &[0xee; ANSWER_LEN as usize]).unwrap();
        let readable = [&[(at, 51)], out].concat();
        let writable = [&[(answer, ANSWER_LEN)], input].concat();
        self.queues[2].submit(&readable, &writable);
        self.driver.kick(2);
    }

    fn answer(&self, slot: u64, written: u32) -> Answered {
        let mut bytes = [0; ANSWER_LEN as usize];
        self.queues[2].ram.read_slice(ANSWER + slot * 0x100, &mut bytes).unwrap();
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        Answered {
            response: bytes[11],
            status: bytes[10],
            residual: number(4),
            sense: (number(0) > 0).then_some((bytes[12 + 2], bytes[12 + 12])),
            written,
        }
    }

    fn command(
        &mut self,
        address: [u8; 8],
        cdb: &[u8],
        out: &[(u64, u32)],
        input: &[(u64, u32)],
    ) -> Answered {
        self.send(0, address, cdb, out, input);
        let mut used = Vec::new();
        wait_for("the command", || {
            used = self.queues[2].used();
            !used.is_empty()
        });
        self.answer(0, used[0].1)
    }

    fn manage(&mut self, subtype: u32, address: [u8; 8], id: u64) {
        let (at, answer) = function(subtype);
        let ram = &self.queues[0].ram;
        ram.write_obj(at, T_TMF).unwrap();
        ram.write_obj(at + 4, subtype).unwrap();
        ram.write_slice(at + 8, &address).unwrap();
        ram.write_obj(at + 16, id).unwrap();
        ram.write_obj(answer, 0xee_u8).unwrap();
        self.queues[0].submit(&[(at, 24)], &[(answer, 1)]);
        self.driver.kick(0);
    }

    fn managed(&mut self, subtype: u32) -> u8 {
        wait_for("the function", || !self.queues[0].used().is_empty());
        self.queues[0].ram.read_obj(function(subtype).1).unwrap()
    }

    fn expect_working(&mut self) {
        let answer = self.command(lun(0), &[0x28, 0, 0, 0, 0, 9, 0, 0, 1], &[], &[(DATA, 512)]);
        assert_eq!((answer.response, answer.status, answer.written), (0, 0, ANSWER_LEN + 512));
        assert_eq!(self.queues[2].ram.read_obj::<u8>(DATA).unwrap(), 9);
    }
}

/// Where a function's request and answer are.
fn function(subtype: u32) -> (u64, u64) {
    let offset = 0xe000 + 0x40 * u64::from(subtype);
    (REQUEST + offset, ANSWER + offset)
}

fn lun(lun: u16) -> [u8; 8] {
    Address { target: 0, lun }.field()
}

#[test]
fn addresses_come_in_two_forms() {
    let parse = Address::parse;
    assert_eq!(parse(lun(300)), Some(Address { target: 0, lun: 300 }));
    assert_eq!(parse([1, 7, 0, 5, 0, 0, 0, 0]), Some(Address { target: 7, lun: 5 }));
    for bad in [[0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0xc0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 1]] {
        assert_eq!(parse(bad), None, "{bad:x?}");
    }
}

#[test]
fn blocks_go_straight_to_and_from_guest_memory() {
    let mut rig = Rig::new();
    rig.expect_working();
    rig.queues[2].ram.write_slice(DATA, &[0xab; 1024]).unwrap();
    let halves = [(DATA, 100), (DATA + 100, 924)];
    let answer = rig.command(lun(0), &[0x2a, 0, 0, 0, 0, 4, 0, 0, 2], &halves, &[]);
    let good = Answered { response: 0, status: 0, residual: 0, sense: None, written: ANSWER_LEN };
    assert_eq!(answer, good);
    let mut back = [0; 1025];
    rig.file.read_exact_at(&mut back, 4 * 512).unwrap();
    assert_eq!((&back[..1024], back[1024]), (&[0xab; 1024][..], 6));
    let stats = &rig.disk.meter().stats;
    assert_eq!(stats.write_bytes.load(std::sync::atomic::Ordering::Relaxed), 1024);
}

#[test]
fn room_that_is_left_is_residual_and_room_that_is_missing_an_overrun() {
    let mut rig = Rig::new();
    let read = [0x28, 0, 0, 0, 0, 9, 0, 0, 1];
    let answer = rig.command(lun(0), &read, &[], &[(DATA, 2048)]);
    assert_eq!((answer.residual, answer.written), (1536, ANSWER_LEN + 512));
    let answer = rig.command(lun(0), &read, &[], &[(DATA, 511)]);
    assert_eq!((answer.response, answer.written), (response::OVERRUN, ANSWER_LEN));
    let answer = rig.command(lun(0), &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1], &[], &[(DATA, 512)]);
    assert_eq!(answer.response, response::OVERRUN, "data in the wrong direction");
    let inquiry = rig.command(lun(0), &[0x12, 0, 0, 0, 36], &[], &[(DATA, 36)]);
    assert_eq!((inquiry.residual, inquiry.written), (0, ANSWER_LEN + 36));
}

#[test]
fn patterns_zeros_and_unmapped_ranges_reach_the_image() {
    let mut rig = Rig::new();
    rig.queues[2].ram.write_slice(DATA, &[0x77; 512]).unwrap();
    let same = [0x41, 0, 0, 0, 0, 2, 0, 1, 0x10];
    assert_eq!(rig.command(lun(0), &same, &[(DATA, 512)], &[]).status, status::GOOD);
    let mut image = vec![0; 0x200 * 0x114];
    rig.file.read_exact_at(&mut image, 0).unwrap();
    assert!(image[0x400..0x200 * 0x112].iter().all(|byte| *byte == 0x77));
    assert_eq!((image[0x3ff], image[0x200 * 0x112]), (1, 0x12));
    let mut list = vec![0; 24];
    list[..4].copy_from_slice(&[0, 22, 0, 16]);
    list[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8]);
    rig.queues[2].ram.write_slice(DATA, &list).unwrap();
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24];
    assert_eq!(rig.command(lun(0), &unmap, &[(DATA, 24)], &[]).status, status::GOOD);
    rig.file.read_exact_at(&mut image[..8192], 0).unwrap();
    assert_eq!((image[4095], image[4096], image[8191]), (0x77, 0, 0));
}

#[test]
fn units_that_are_not_there_are_told_apart_from_targets_that_are_not() {
    let mut rig = Rig::new();
    let absent = rig.command(lun(5), &[0x12, 0, 0, 0, 36], &[], &[(DATA, 36)]);
    assert_eq!((absent.status, rig.queues[2].ram.read_obj::<u8>(DATA).unwrap()), (0, 0x7f));
    assert_eq!(rig.command(lun(5), &[0], &[], &[]).sense, Some((5, 0x25)));
    let mut target = lun(0);
    target[1] = 1;
    assert_eq!(rig.command(target, &[0], &[], &[]).response, response::BAD_TARGET);
    let luns = rig.command(lun(0), &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[], &[(DATA, 256)]);
    let mut list = [0; 24];
    rig.queues[2].ram.read_slice(DATA, &mut list).unwrap();
    assert_eq!((luns.written, list[3]), (ANSWER_LEN + 24, 16));
    assert_eq!((&list[8..10], &list[16..18]), (&[0, 0][..], &[0x41, 0x2c][..]));
    let empty = rig.command(lun(300), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 2048)]);
    assert_eq!(empty.sense, Some((6, 0x29)));
    let empty = rig.command(lun(300), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 2048)]);
    assert_eq!(empty.sense, Some((2, 0x3a)));
}

#[test]
fn a_medium_that_comes_later_is_read() {
    let mut rig = Rig::new();
    let _ = rig.command(lun(300), &[0], &[], &[]);
    for first in [3, 4] {
        let (medium, file) = disk(MIB, true);
        file.write_all_at(&[first], 2048).unwrap();
        rig.drive.load(medium);
        assert_eq!(rig.command(lun(300), &[0], &[], &[]).sense, Some((6, 0x28)));
        let read = [0x28, 0, 0, 0, 0, 1, 0, 0, 1];
        assert_eq!(rig.command(lun(300), &read, &[], &[(DATA, 2048)]).status, 0);
        assert_eq!(rig.queues[2].ram.read_obj::<u8>(DATA).unwrap(), first);
        rig.drive.eject(false).unwrap();
        assert_eq!(rig.command(lun(300), &read, &[], &[(DATA, 2048)]).sense, Some((2, 0x3a)));
    }
}

#[test]
fn a_medium_that_is_taken_out_takes_what_it_kept_along() {
    struct StopAll;
    impl ErrorPolicy for StopAll {
        fn decide(&self, _: FailedOperation, _: &io::Error) -> Verdict {
            Verdict::Stop
        }
    }
    for paused in [true, false] {
        let mut rig = Rig::new();
        let held = HeldDisk::new(MIB, false);
        held.error.store(libc::EIO, std::sync::atomic::Ordering::SeqCst);
        let medium = Guarded::new(Arc::new(Held(held.clone())), Arc::new(StopAll));
        rig.drive.load(Arc::new(medium));
        while rig.command(lun(300), &[0], &[], &[]).status != status::GOOD {}
        rig.send(1, lun(300), &[0x28, 0, 0, 0, 0, 1, 0, 0, 1], &[], &[(DATA, 2048)]);
        wait_for("it", || held.started() == 1);
        if paused {
            rig.driver.function.pause();
            assert!(rig.queues[2].used().is_empty());
        }
        rig.drive.eject(true).unwrap();
        rig.driver.function.resume();
        wait_for("its end", || !rig.queues[2].used().is_empty());
        assert_eq!(held.started(), 1, "nothing is asked of a medium that is gone");
    }
}

#[test]
fn what_the_host_fails_is_a_medium_error_and_full_space_says_so() {
    let (mut rig, held) = Rig::held(false);
    let cases = [
        (libc::EIO, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1][..], (3, 0x11)),
        (libc::EIO, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1], (3, 0x0c)),
        (libc::ENOSPC, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1], (7, 0x27)),
        (libc::EIO, &[0x35], (4, 0x44)),
    ];
    for (errno, cdb, sense) in cases {
        held.error.store(errno, std::sync::atomic::Ordering::SeqCst);
        let answer = rig.command(lun(0), cdb, &[(DATA, 512)], &[(DATA, 512)]);
        assert_eq!((answer.status, answer.sense), (status::CHECK_CONDITION, Some(sense)));
    }
}

/// The disk takes four at once; the rest waits and is served all the same.
#[test]
fn more_commands_than_the_disk_takes_at_once_are_all_served() {
    let (mut rig, held) = Rig::held(true);
    for slot in 0..20 {
        rig.send(slot, lun(0), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 512)]);
    }
    wait_for("the first", || held.started() == 4);
    held.release();
    let mut ended = 0;
    wait_for("all", || {
        ended += rig.queues[2].used().len();
        ended == 20
    });
    assert_eq!(held.started(), 20);
}

#[test]
fn a_function_answers_when_the_tasks_it_ended_have_ended() {
    let (mut rig, held) = Rig::held(true);
    for slot in [1, 2] {
        rig.send(slot, lun(0), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 512)]);
    }
    wait_for("both", || held.started() == 2);
    rig.manage(tmf::QUERY_TASK, lun(0), 1);
    assert_eq!(rig.managed(tmf::QUERY_TASK), response::FUNCTION_SUCCEEDED);
    rig.manage(tmf::ABORT_TASK, lun(0), 1);
    rig.manage(tmf::QUERY_TASK_SET, lun(300), 0);
    assert_eq!(
        rig.managed(tmf::QUERY_TASK_SET),
        response::OK,
        "nothing there: answered before the abort"
    );
    assert!(rig.queues[2].used().is_empty());
    held.release();
    assert_eq!(rig.managed(tmf::ABORT_TASK), response::OK);
    wait_for("both", || rig.answer(2, 0).response == 0);
    assert_eq!(rig.answer(1, 0).response, response::ABORTED);
}

#[test]
fn functions_of_all_kinds_are_answered() {
    let mut rig = Rig::new();
    let mut nowhere = lun(0);
    nowhere[1] = 9;
    for (subtype, address, answer) in [
        (tmf::ABORT_TASK, lun(0), response::OK),
        (tmf::ABORT_TASK_SET, lun(0), response::OK),
        (tmf::CLEAR_TASK_SET, lun(0), response::OK),
        (tmf::I_T_NEXUS_RESET, lun(5), response::OK),
        (tmf::LOGICAL_UNIT_RESET, lun(5), response::INCORRECT_LUN),
        (tmf::LOGICAL_UNIT_RESET, nowhere, response::BAD_TARGET),
        (tmf::QUERY_TASK, lun(0), response::OK),
        (2, lun(0), response::FUNCTION_REJECTED),
        (20, lun(0), response::FUNCTION_REJECTED),
    ] {
        rig.manage(subtype, address, 7);
        assert_eq!(rig.managed(subtype), answer, "{subtype}");
    }
    assert_eq!(rig.command(lun(0), &[0], &[], &[]).sense, Some((6, 0x29)), "it was reset");
    rig.expect_working();
}

#[test]
fn events_wait_for_buffers() {
    let mut rig = Rig::new();
    rig.handle.resized(0, 0);
    rig.queues[1].submit(&[], &[(DATA, 16)]);
    rig.driver.kick(1);
    wait_for("an event", || !rig.queues[1].used().is_empty());
    let mut event = [0; 16];
    rig.queues[1].ram.read_slice(DATA, &mut event).unwrap();
    assert_eq!((event[0], event[12], event[13]), (3, 0x2a, 9));
    rig.queues[1].submit(&[], &[(DATA, 16)]);
    let (image, _) = disk(MIB, false);
    let unit = Arc::new(unit(UnitKind::Disk, Some(image)));
    rig.handle.plug(UnitAt { target: 2, lun: 1, unit }).unwrap();
    wait_for("an event", || !rig.queues[1].used().is_empty());
    rig.queues[1].ram.read_slice(DATA, &mut event).unwrap();
    assert_eq!((event[0], &event[4..8], event[12]), (1, &[1, 2, 0x40, 1][..], 1));
}

#[test]
fn units_come_and_go_while_the_driver_works() {
    let (mut rig, held) = Rig::held(true);
    let there = [1, 2, 0x40, 1, 0, 0, 0, 0];
    for _ in 0..3 {
        assert_eq!(rig.command(there, &[0], &[], &[]).response, response::BAD_TARGET);
        let (image, file) = disk(MIB, false);
        file.write_all_at(&[0x5a; 512], 512).unwrap();
        let unit = Arc::new(unit(UnitKind::Disk, Some(image)));
        let (at, weak) = (UnitAt { target: 2, lun: 1, unit: unit.clone() }, Arc::downgrade(&unit));
        rig.handle.plug(at.clone()).unwrap();
        assert!(rig.handle.plug(at.clone()).is_err(), "it is there");
        drop((at, unit));
        wait_for("the worker", || rig.command(there, &[0], &[], &[]).response == response::OK);
        rig.command(there, &[0x28, 0, 0, 0, 0, 1, 0, 0, 1], &[], &[(DATA, 512)]);
        assert_eq!(rig.queues[0].ram.read_obj::<u8>(DATA).unwrap(), 0x5a);
        rig.command(there, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64], &[], &[(DATA, 64)]);
        assert_eq!(rig.queues[0].ram.read_obj::<u8>(DATA + 3).unwrap(), 8, "one LUN");
        rig.handle.unplug(2, 1);
        assert!(weak.upgrade().is_none(), "nobody holds its medium");
    }
    // One with a request in flight goes when that has ended.
    rig.send(1, lun(0), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 512)]);
    wait_for("the request", || held.started() == 1);
    let (handle, started) = (rig.handle.clone(), std::time::Instant::now());
    rig.disk = Arc::new(unit(UnitKind::Cdrom, None));
    let going = std::thread::spawn(move || handle.unplug(0, 0));
    held.release();
    going.join().unwrap();
    assert!(started.elapsed().as_secs() < 9);
    wait_for("its answer", || !rig.queues[2].used().is_empty());
    assert_eq!(rig.answer(1, 0).response, response::OK);
    assert_eq!(rig.command(lun(0), &[0], &[], &[]).sense, Some((5, 0x25)), "no such unit");
    rig.driver.function.pause();
    rig.driver.function.resume();
    let (image, _) = disk(MIB, false);
    let unit = Arc::new(unit(UnitKind::Disk, Some(image)));
    rig.driver.function.pause();
    rig.handle.plug(UnitAt { target: 0, lun: 0, unit }).unwrap();
    rig.driver.function.resume();
    assert_eq!(rig.command(lun(0), &[0], &[], &[]).sense, Some((6, 0x29)), "its power-on");
}

#[test]
fn a_request_without_room_for_its_answer_breaks_the_device_until_reset() {
    let mut rig = Rig::new();
    rig.queues[2].submit(&[(REQUEST, 51)], &[(ANSWER, ANSWER_LEN - 1)]);
    rig.driver.kick(2);
    wait_for("the refusal", || rig.driver.status() & NEEDS_RESET != 0);
    rig.bring_up();
    assert_eq!(rig.command(lun(0), &[0], &[], &[]).sense, Some((6, 0x29)));
    rig.expect_working();
}

#[test]
fn sizes_that_the_driver_chooses_are_obeyed_or_ignored() {
    let mut rig = Rig::new();
    for (at, value, then) in [(20, 20, 20), (20, 4096, 20), (24, 16, 16), (24, 5, 16)] {
        rig.driver.write(DEVICE + at, 4, value);
        assert_eq!(rig.driver.read(DEVICE + at, 4), then);
    }
    rig.bring_up();
    assert_eq!(rig.driver.read(DEVICE + 20, 4), 96, "a reset puts them back");
}

#[test]
fn in_flight_commands_are_dropped_by_a_reset_and_delivered_by_a_pause() {
    let (mut rig, held) = Rig::held(true);
    rig.send(1, lun(0), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 512)]);
    wait_for("it", || held.started() == 1);
    rig.driver.function.pause();
    assert_eq!(rig.queues[2].used().len(), 1);
    rig.driver.function.resume();
    held.hold.store(true, std::sync::atomic::Ordering::SeqCst);
    rig.send(1, lun(0), &[0x28, 0, 0, 0, 0, 0, 0, 0, 1], &[], &[(DATA, 512)]);
    wait_for("it", || held.started() == 2);
    rig.driver.set_status(0);
    assert!(rig.queues[2].used().is_empty());
}

#[test]
fn state_goes_through_save_and_restore() {
    let mut rig = Rig::new();
    assert_eq!(rig.command(lun(300), &[0], &[], &[]).sense, Some((6, 0x29)));
    let lock = [0x1e, 0, 0, 0, 1];
    assert_eq!(rig.command(lun(300), &lock, &[], &[]).status, status::GOOD);
    rig.handle.resized(1, 1);
    rig.driver.function.pause();
    let state = rig.driver.function.save().unwrap();
    let (image, _) = disk(MIB, false);
    let disk = Arc::new(unit(UnitKind::Disk, Some(image)));
    let drive = Arc::new(unit(UnitKind::Cdrom, None));
    let device = scsi(&disk, &drive);
    rig.driver = Driver::new(&rig.queues[0].ram, device);
    rig.driver.function.restore(&state).unwrap();
    assert_eq!(rig.driver.function.save().unwrap(), state);
    assert!(drive.eject(false).is_err(), "still locked");
    rig.driver.function.resume();
    rig.expect_working();
}

#[test]
fn garbage_on_every_queue_ends_in_answers_or_a_reset_and_nothing_else() {
    for seed in 1..30 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut rig = Rig::new();
        for address in (0x20_0000..0x20_2000).step_by(8).chain(SEAM - 16..SEAM) {
            let bytes =
                if random.below(3) == 0 { random.next() } else { u64::from_le_bytes(lun(0)) };
            rig.queues[0].ram.write_obj(address & !7, bytes).unwrap();
        }
        for _ in 0..8 {
            let queue = random.below(3) as usize;
            submit_garbage(&mut rig.queues[queue], &mut random);
            rig.driver.kick(queue as u64);
        }
        rig.driver.function.pause();
        rig.driver.function.resume();
        rig.bring_up();
        let _ = rig.command(lun(0), &[0], &[], &[]);
        rig.file.write_all_at(&[9; 512], 9 * 512).unwrap();
        rig.expect_working();
    }
}
