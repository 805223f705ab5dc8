mod rig;

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::SeqCst;

use memory::IoBuffers;

use super::spec::{admin, *};
use super::*;
use crate::component::Component;
use crate::pci::PciFunction;
use crate::scsi::tests::disk as image;
use crate::virtio::rig::{END, FAR, HOLE, Random, SEAM, ram, wait_for};
use rig::*;

#[test]
fn the_controller_says_what_it_is() {
    let mut rig = Rig::new();
    assert_eq!(rig.nvme.config().u32(8) >> 8, 0x01_08_02);
    assert_eq!((rig.read(0) & 0xffff, rig.read(8)), (1023, 0x0001_0400));
    let (status, page) = rig.identify(1, 0);
    assert_eq!(status, Status::SUCCESS);
    assert_eq!((&page[4..8], &page[24..34]), (&b"s-1 "[..], &b"MANOR NVME"[..]));
    assert_eq!((page[77], page[512], page[513], page[516], page[520]), (8, 0x66, 0x44, 2, 0x0c));
    assert!(page[768..].starts_with(b"nqn."));
    let (_, page) = rig.identify(0, 1);
    assert_eq!(u64::from_le_bytes(page[..8].try_into().unwrap()), 8192);
    assert_eq!((page[130], page[99]), (9, 0));
    assert_eq!(rig.identify(0, 2).1[99], 1, "write protected");
    assert_eq!(rig.identify(2, 0).1[..12], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.identify(2, 1).1[..8], [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.identify(3, 1).1[..6], [1, 8, 0, 0, 0, 0x11]);
    for (what, namespace, status) in [
        (0, 3, Status::NAMESPACE),
        (0, 0, Status::NAMESPACE),
        (2, u32::MAX, Status::NAMESPACE),
        (9, 0, Status::FIELD),
    ] {
        assert_eq!(rig.identify(what, namespace).0, status, "{what} of {namespace}");
    }
}

#[test]
fn blocks_go_straight_to_and_from_guest_memory() {
    let mut rig = Rig::new();
    rig.expect_working();
    rig.ram.write_slice(DATA, &[0xab; 0x5000]).unwrap();
    // Two pages by two entries, and five by a list that begins inside of a page.
    assert_eq!(rig.transfer(nvm::WRITE, 8, 8, (DATA + 0x800, DATA + 0x2000)), Status::SUCCESS);
    for (index, page) in (0..4).zip([DATA + 0x4000, DATA + 0x1000, DATA + 0x3000, DATA + 0x2000]) {
        rig.ram.write_obj(LISTS + 0x10 + 8 * index, page).unwrap();
    }
    assert_eq!(rig.transfer(nvm::WRITE, 0x100, 33, (DATA + 0xe00, LISTS + 0x10)), Status::SUCCESS);
    let mut back = vec![0; 0x4200];
    rig.file.read_exact_at(&mut back, 0x100 * 512).unwrap();
    assert!(back.iter().all(|byte| *byte == 0xab));
    rig.file.read_exact_at(&mut back[..0x1200], 0x1000).unwrap();
    assert_eq!((back[0xfff], back[0x1000]), (0xab, 16));
    assert_eq!(rig.io(Entry { opcode: nvm::FLUSH, ..Entry::default() }), Status::SUCCESS);
    let all = Entry { opcode: nvm::FLUSH, namespace: u32::MAX, ..Entry::default() };
    assert_eq!(rig.io(all), Status::SUCCESS);
}

#[test]
fn the_largest_transfer_goes_over_two_lists() {
    let ram = ram();
    let pages = (MOST_DATA / PAGE) as u32;
    for index in 0..u64::from(pages) - 1 {
        // The first list has the last two places of its page: one page, and the second list.
        let at = if index == 0 { LISTS + 0xff0 } else { LISTS + 0x1000 + 8 * (index - 1) };
        ram.write_obj(at, 0x20_0000 + PAGE * index).unwrap();
    }
    ram.write_obj(LISTS + 0xff8, LISTS + 0x1000).unwrap();
    let mut buffers = IoBuffers::new(ram.clone());
    prp::fill(&ram, (DATA, LISTS + 0xff0), MOST_DATA, &mut buffers).unwrap();
    assert_eq!(buffers.len(), MOST_DATA);
    // The chain of lists cannot go round.
    ram.write_obj(LISTS + 0xff8, LISTS + 0xff8).unwrap();
    buffers.clear();
    let refused = prp::fill(&ram, (DATA, LISTS + 0xff0), MOST_DATA, &mut buffers);
    assert_eq!(refused, Err(Status::PRP_OFFSET));
}

#[test]
fn pages_that_are_none_fail_the_command_alone() {
    let mut rig = Rig::new();
    for (pages, count, status) in [
        ((DATA + 1, 0), 1, Status::PRP_OFFSET),
        ((DATA, DATA + 0x1200), 16, Status::PRP_OFFSET),
        ((DATA, LISTS + 4), 32, Status::PRP_OFFSET),
        ((HOLE, 0), 1, Status::DATA),
        ((END - 256, END), 1, Status::DATA),
        ((u64::MAX - 3, 0), 1, Status::DATA),
        ((DATA, HOLE), 32, Status::DATA),
        ((DATA, u64::MAX - 7), 32, Status::DATA),
    ] {
        assert_eq!(rig.transfer(nvm::READ, 0, count, pages), status, "{pages:x?}");
    }
    rig.expect_working();
}

#[test]
fn commands_that_cannot_be_are_refused() {
    let mut rig = Rig::new();
    for (first, count) in [(8192, 1), (8191, 2), (u32::MAX, 1)] {
        assert_eq!(rig.transfer(nvm::READ, first, count, (DATA, 0)), Status::RANGE);
    }
    let wrapping = Entry {
        opcode: nvm::WRITE_ZEROES,
        dwords: [u32::MAX, u32::MAX, 7, 0, 0, 0],
        ..Entry::default()
    };
    assert_eq!(rig.io(wrapping), Status::RANGE);
    assert_eq!(rig.transfer(nvm::READ, 0, 2049, (DATA, LISTS)), Status::FIELD, "too much at once");
    let read = Entry { opcode: nvm::READ, pages: (DATA, 0), ..Entry::default() };
    assert_eq!(rig.io(Entry { namespace: 3, ..read }), Status::NAMESPACE);
    assert_eq!(rig.io(Entry { flags: 0x40, ..read }), Status::FIELD, "scatter-gather lists");
    assert_eq!(rig.io(Entry { flags: 0x01, ..read }), Status::FIELD, "fused");
    assert_eq!(rig.io(Entry { opcode: 0x7f, ..read }), Status::OPCODE);
    let write = Entry { opcode: nvm::WRITE, namespace: 2, ..read };
    assert_eq!(rig.io(write), Status::WRITE_PROTECTED);
    assert_eq!(rig.admin(Entry { opcode: 0x80, ..Entry::default() }).0, Status::OPCODE);
}

#[test]
fn zeros_and_ranges_that_are_given_back_reach_the_image() {
    let mut rig = Rig::new();
    let zeroes =
        Entry { opcode: nvm::WRITE_ZEROES, dwords: [8, 0, 7, 0, 0, 0], ..Entry::default() };
    assert_eq!(rig.io(zeroes), Status::SUCCESS);
    for (index, (count, first)) in (0..).zip([(8_u32, 24_u64), (8, 40)]) {
        rig.ram.write_obj(DATA + 16 * index + 4, count).unwrap();
        rig.ram.write_obj(DATA + 16 * index + 8, first).unwrap();
    }
    let give = Entry {
        opcode: nvm::DATASET,
        pages: (DATA, 0),
        dwords: [1, DEALLOCATE, 0, 0, 0, 0],
        ..Entry::default()
    };
    assert_eq!(rig.io(give), Status::SUCCESS);
    let mut image = vec![0; 0x6200];
    rig.file.read_exact_at(&mut image, 0).unwrap();
    assert_eq!((image[0xfff], image[0x1000], image[0x1fff], image[0x2000]), (7, 0, 0, 16));
    assert_eq!((image[0x3000], image[0x4000], image[0x5000], image[0x6000]), (0, 32, 0, 48));
    rig.ram.write_obj(DATA + 16 + 8, 8190_u64).unwrap();
    assert_eq!(rig.io(give), Status::RANGE);
}

#[test]
fn queues_are_made_and_unmade_by_the_rules() {
    let mut rig = Rig::new();
    let entry = |opcode, ten, eleven, place| Entry {
        opcode,
        pages: (place, 0),
        dwords: [ten, eleven, 0, 0, 0, 0],
        ..Entry::default()
    };
    let size = (ENTRIES - 1) << 16;
    let (cq, sq) = (admin::CREATE_CQ, admin::CREATE_SQ);
    for (entry, status) in [
        (entry(cq, size | 1, 3, DATA), Status::QUEUE_ID),
        (entry(cq, size, 3, DATA), Status::QUEUE_ID),
        (entry(cq, size | 3, 3, DATA), Status::QUEUE_ID),
        (entry(cq, 2, 3, DATA), Status::QUEUE_SIZE),
        (entry(cq, 1024 << 16 | 2, 3, DATA), Status::QUEUE_SIZE),
        (entry(cq, size | 2, 2, DATA), Status::FIELD),
        (entry(cq, size | 2, 3, DATA + 8), Status::PRP_OFFSET),
        (entry(cq, size | 2, 3 << 16 | 3, DATA), Status::VECTOR),
        (entry(sq, size | 2, 2 << 16 | 1, DATA), Status::NO_CQ),
        (entry(sq, size | 2, 1, DATA), Status::NO_CQ),
        (entry(sq, size | 1, 1 << 16 | 1, DATA), Status::QUEUE_ID),
        (entry(admin::DELETE_CQ, 1, 0, 0), Status::QUEUE_DELETION),
        (entry(admin::DELETE_CQ, 2, 0, 0), Status::QUEUE_ID),
        (entry(admin::DELETE_SQ, 0, 0, 0), Status::QUEUE_ID),
        (entry(admin::DELETE_SQ, 1, 0, 0), Status::SUCCESS),
        (entry(admin::DELETE_CQ, 1, 0, 0), Status::SUCCESS),
    ] {
        assert_eq!(rig.admin(entry).0, status, "{entry:x?}");
    }
    (rig.tails[1], rig.heads[1], rig.phases[1]) = (0, 0, 1);
    rig.ram.write_slice(COMPLETIONS + 0x1000, &[0; 0x1000]).unwrap();
    assert_eq!(rig.create(1), Status::SUCCESS);
    rig.expect_working();
}

#[test]
fn features_are_kept_and_the_number_of_queues_is_the_controllers() {
    let mut rig = Rig::new();
    let set = |ten, eleven| Entry {
        opcode: admin::SET_FEATURES,
        dwords: [ten, eleven, 0, 0, 0, 0],
        ..Entry::default()
    };
    let get = |ten| Entry {
        opcode: admin::GET_FEATURES,
        dwords: [ten, 0, 0, 0, 0, 0],
        ..Entry::default()
    };
    assert_eq!(rig.admin(get(6)), (Status::SUCCESS, 1));
    assert_eq!(rig.admin(set(6, 0)).0, Status::SUCCESS);
    assert_eq!(rig.admin(get(6)), (Status::SUCCESS, 0));
    assert_eq!(rig.admin(get(7)), (Status::SUCCESS, 0x1_0001));
    assert_eq!(rig.admin(set(7, 0)).0, Status::SEQUENCE, "there are queues");
    assert_eq!(rig.admin(set(1 << 31 | 6, 1)).0, Status::NOT_SAVEABLE);
    assert_eq!(rig.admin(set(0x80, 1)).0, Status::FIELD);
}

#[test]
fn a_write_is_durable_when_the_cache_is_off_or_it_says_so() {
    let (mut rig, held) = Rig::held(false);
    let last = |rig: &mut Rig, twelve| {
        let dwords = [0, 0, twelve, 0, 0, 0];
        let write = Entry { opcode: nvm::WRITE, pages: (DATA, 0), dwords, ..Entry::default() };
        assert_eq!(rig.io(write), Status::SUCCESS);
        held.actions.lock().unwrap().pop().unwrap().0
    };
    use crate::backend::Action::Write;
    assert_eq!(last(&mut rig, 0), Write { durable: false });
    assert_eq!(last(&mut rig, 1 << 30), Write { durable: true });
    let off = Entry { opcode: admin::SET_FEATURES, dwords: [6, 0, 0, 0, 0, 0], ..Entry::default() };
    let _ = rig.admin(off);
    assert_eq!(last(&mut rig, 0), Write { durable: true });
}

#[test]
fn what_the_host_fails_is_a_media_error() {
    let (mut rig, held) = Rig::held(false);
    for (errno, opcode, status) in [
        (libc::EIO, nvm::READ, Status::READ_ERROR),
        (libc::EIO, nvm::WRITE, Status::WRITE_FAULT),
        (libc::ENOSPC, nvm::WRITE, Status::CAPACITY),
        (libc::EIO, nvm::FLUSH, Status::INTERNAL),
    ] {
        held.error.store(errno, SeqCst);
        assert_eq!(rig.transfer(opcode, 0, 1, (DATA, 0)), status);
    }
}

#[test]
fn interrupts_are_messages_or_the_pin() {
    let mut rig = Rig::new();
    assert!(!rig.line.is_high());
    rig.submit(1, Entry { opcode: nvm::FLUSH, namespace: 1, ..Entry::default() });
    wait_for("the pin", || rig.line.is_high());
    rig.write(register::INTMS, !0);
    assert!(!rig.line.is_high());
    rig.write(register::INTMC, !0);
    assert!(rig.line.is_high());
    let _ = rig.answer(1);
    assert!(!rig.line.is_high(), "all was consumed");
    let at = u16::from(rig.nvme.config().u8(0x34));
    let _ = rig.nvme.config_write(at + 2, &[0, 0x80]);
    rig.msi.take(1);
    rig.expect_working();
    wait_for("a message", || rig.msi.take(1) > 0);
    assert!(!rig.line.is_high());
}

#[test]
fn doorbells_that_make_no_sense_are_told_as_events() {
    let mut rig = Rig::new();
    let request = Entry { opcode: admin::EVENT_REQUEST, ..Entry::default() };
    let ids: Vec<u16> = (0..5).map(|_| rig.submit(0, request)).collect();
    let (id, status, _) = rig.answer(0);
    assert_eq!((id, status), (ids[4], Status::TOO_MANY_EVENT_REQUESTS));
    rig.write(DOORBELLS + 8, ENTRIES);
    assert_eq!(rig.answer(0), (ids[0], Status::SUCCESS, 0x01_0100));
    rig.write(DOORBELLS + 8 * 2, 1);
    assert_eq!(rig.completion(0), None, "the log of the first was not read");
    let log = Entry {
        opcode: admin::GET_LOG_PAGE,
        pages: (DATA, 0),
        dwords: [15 << 16 | 1, 0, 0, 0, 0, 0],
        ..Entry::default()
    };
    let asked = rig.submit(0, log);
    let mut answers = [rig.answer(0), rig.answer(0)];
    answers.sort_by_key(|answer| answer.0 == asked);
    assert_eq!(answers[0], (ids[1], Status::SUCCESS, 0x01_0000));
    for at in [DOORBELLS + 0xff8, DOORBELLS + 8 * 2 + 4, DOORBELLS + 0xffc] {
        rig.write(at, u32::MAX);
    }
    rig.expect_working();
}

#[test]
fn a_namespace_that_has_grown_is_told_to_a_driver_that_asked_for_it() {
    let (disk, file) = image(4 * MIB, false);
    let mut rig = Rig::with(disk.clone(), file);
    let blocks = |rig: &mut Rig| {
        let identify =
            Entry { opcode: admin::IDENTIFY, namespace: 1, pages: (DATA, 0), ..Entry::default() };
        assert_eq!(rig.admin(identify).0, Status::SUCCESS);
        rig.ram.read_obj::<u64>(DATA).unwrap()
    };
    let events = Entry {
        opcode: admin::SET_FEATURES,
        dwords: [feature::EVENTS.into(), NAMESPACE_NOTICES, 0, 0, 0, 0],
        ..Entry::default()
    };
    assert_eq!(rig.admin(events).0, Status::SUCCESS);
    let waiting =
        [0, 1].map(|_| rig.submit(0, Entry { opcode: admin::EVENT_REQUEST, ..Entry::default() }));
    assert_eq!(blocks(&mut rig), 4 * MIB / 512);
    disk.grow(6 * MIB).unwrap();
    rig.nvme.resized(1);
    // A notice of the log page 4; another waits until that was read.
    assert_eq!(rig.answer(0), (waiting[0], Status::SUCCESS, 0x0004_0002));
    rig.nvme.resized(1);
    assert_eq!(rig.completion(0), None);
    assert_eq!(blocks(&mut rig), 6 * MIB / 512);
    let log = Entry {
        opcode: admin::GET_LOG_PAGE,
        pages: (DATA, 0),
        dwords: [1023 << 16 | u32::from(log::CHANGED_NAMESPACES), 0, 0, 0, 0, 0],
        ..Entry::default()
    };
    let read = rig.submit(0, log);
    let answers = [rig.answer(0), rig.answer(0)];
    assert!(answers.contains(&(waiting[1], Status::SUCCESS, 0x0004_0002)), "{answers:?}");
    assert!(answers.contains(&(read, Status::SUCCESS, 0)), "{answers:?}");
    assert_eq!(rig.ram.read_obj::<u64>(DATA).unwrap(), 1);
    assert_eq!(rig.transfer(nvm::READ, (6 * MIB / 512 - 1) as u32, 1, (DATA, 0)), Status::SUCCESS);
}

#[test]
fn log_pages_come_in_parts() {
    let mut rig = Rig::new();
    let log = |ten, twelve| Entry {
        opcode: admin::GET_LOG_PAGE,
        pages: (DATA, 0),
        dwords: [ten, 0, twelve, 0, 0, 0],
        ..Entry::default()
    };
    assert_eq!(rig.admin(log(127 << 16 | 2, 0)).0, Status::SUCCESS);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 3).unwrap(), 100);
    assert_eq!(rig.admin(log(2, 512)).0, Status::SUCCESS);
    for (ten, twelve, status) in [
        (2, 516, Status::FIELD),
        (2, 2, Status::FIELD),
        (0x77, 0, Status::LOG_PAGE),
        (0xffff << 16 | 2, 0, Status::SUCCESS),
    ] {
        let entry = Entry { pages: (DATA, LISTS), ..log(ten, twelve) };
        for index in 0..64 {
            rig.ram.write_obj(LISTS + 8 * index, DATA + PAGE * (index + 1)).unwrap();
        }
        assert_eq!(rig.admin(entry).0, status, "{ten:x} {twelve}");
    }
}

/// The driver does not consume; what does not fit waits, and so do further commands.
#[test]
fn a_full_completion_queue_holds_the_rest_back() {
    let mut rig = Rig::new();
    for _ in 0..ENTRIES - 1 {
        rig.submit(1, Entry { opcode: nvm::FLUSH, namespace: 1, ..Entry::default() });
    }
    let mut seen = 0;
    wait_for("a full queue", || {
        seen += usize::from(rig.completion(1).is_some());
        seen == ENTRIES as usize - 1
    });
    for _ in 0..3 {
        rig.submit(1, Entry { opcode: nvm::FLUSH, namespace: 1, ..Entry::default() });
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(rig.completion(1), None);
    rig.consume(1);
    for _ in 0..3 {
        assert_eq!(rig.answer(1).1, Status::SUCCESS);
    }
}

#[test]
fn a_queue_goes_when_its_last_command_has_ended() {
    let (mut rig, held) = Rig::held(true);
    let read = Entry { opcode: nvm::READ, namespace: 1, pages: (DATA, 0), ..Entry::default() };
    let in_flight = rig.submit(1, read);
    wait_for("it", || held.started() == 1);
    let abort = Entry {
        opcode: admin::ABORT,
        dwords: [u32::from(in_flight) << 16 | 1, 0, 0, 0, 0, 0],
        ..Entry::default()
    };
    assert_eq!(rig.admin(abort), (Status::SUCCESS, 1), "it was not aborted");
    let delete = Entry { opcode: admin::DELETE_SQ, dwords: [1, 0, 0, 0, 0, 0], ..Entry::default() };
    let deletion = rig.submit(0, delete);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(rig.completion(0), None);
    held.release();
    assert_eq!(rig.answer(1).0, in_flight);
    assert_eq!(rig.answer(0).0, deletion);
}

#[test]
fn disabling_waits_for_what_is_in_flight_and_drops_its_answers() {
    let (mut rig, held) = Rig::held(true);
    let read = Entry { opcode: nvm::READ, namespace: 1, pages: (DATA, 0), ..Entry::default() };
    rig.submit(1, read);
    wait_for("it", || held.started() == 1);
    rig.write(register::CC, 0x0046_0000);
    assert_eq!(rig.read(register::CSTS) & csts::READY, csts::READY);
    held.release();
    wait_for("the reset", || rig.read(register::CSTS) & csts::READY == 0);
    assert_eq!(rig.completion(1), None);
    rig.bring_up();
    assert_eq!(rig.transfer(nvm::READ, 0, 1, (DATA, 0)), Status::SUCCESS);
    rig.write(register::CC, 0x0046_4001);
    wait_for("the shutdown", || rig.read(register::CSTS) & csts::SHUTDOWN == csts::SHUT_DOWN);
}

#[test]
fn a_configuration_that_cannot_be_is_fatal_until_it_is_disabled() {
    let mut rig = Rig::new();
    for cc in [0x0046_0011, 0x0046_0081, 0x0046_0801] {
        rig.write(register::CC, 0);
        rig.write(register::CC, cc);
        assert_eq!(rig.read(register::CSTS), csts::FATAL, "{cc:x}");
    }
    rig.write(register::CC, 0);
    rig.write(register::ASQ, HOLE as u32);
    rig.write(register::CC, 0x0046_0001);
    rig.write(DOORBELLS, 1);
    wait_for("the fatal status", || rig.read(register::CSTS) & csts::FATAL != 0);
    rig.bring_up();
    rig.expect_working();
}

#[test]
fn state_goes_through_save_and_restore() {
    let (disk, file) = image(4 * MIB, false);
    let mut rig = Rig::with(disk.clone(), file);
    rig.expect_working();
    rig.nvme.pause();
    // Submitted, and not begun.
    let read = Entry {
        opcode: nvm::READ,
        namespace: 1,
        pages: (DATA, 0),
        dwords: [5, 0, 0, 0, 0, 0],
        ..Entry::default()
    };
    rig.submit(1, read);
    let state = rig.nvme.save().unwrap();
    let (other, line, msi) = nvme(&rig.ram, vec![disk, image(MIB, true).0]);
    other.pause();
    other.restore(&state).unwrap();
    assert_eq!(other.save().unwrap(), state);
    (rig.nvme, rig.line, rig.msi) = (other, line, msi);
    rig.nvme.resume();
    assert_eq!(rig.answer(1).1, Status::SUCCESS);
    assert_eq!(rig.ram.read_obj::<u8>(DATA).unwrap(), 5);
    rig.expect_working();
    rig.nvme.reset();
    assert_eq!((rig.read(register::CC), rig.read(register::CSTS)), (0, 0));
}

#[test]
fn garbage_in_registers_and_queues_ends_in_errors_and_nothing_else() {
    for seed in 1..40 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut rig = Rig::new();
        for queue in 0..2_u64 {
            for at in (0..64 * u64::from(ENTRIES)).step_by(4) {
                let value = random.next() as u32 & random.pick(&[0x3, 0xff, 0xffff_ffff]);
                rig.ram.write_obj(SUBMISSIONS + 0x1000 * queue + at, value).unwrap();
            }
            for entry in 0..u64::from(ENTRIES) {
                let at = SUBMISSIONS + 0x1000 * queue + 64 * entry;
                rig.ram.write_obj(at, random.below(16) as u16).unwrap();
                rig.ram.write_obj(at + 4, random.below(4) as u32).unwrap();
                let page = random.pick(&[DATA, DATA + 4, SEAM - 8, FAR, END - 0x1000, LISTS]);
                rig.ram.write_obj(at + 24, page).unwrap();
                rig.ram.write_obj(at + 32, random.pick(&[page, LISTS, LISTS + 0xff8])).unwrap();
            }
        }
        for _ in 0..200 {
            let doorbell = DOORBELLS + 4 * random.below(8);
            let register = 4 * random.below(0x10);
            let at = random.pick(&[doorbell, doorbell, doorbell, register]);
            rig.write(at, random.next() as u32 & random.pick(&[0x7, 0xf, 0xffff_ffff]));
            if random.below(60) == 0 {
                rig.nvme.pause();
                rig.nvme.resume();
            }
        }
        rig.bring_up();
        rig.file.write_all_at(&[9; 512], 9 * 512).unwrap();
        rig.expect_working();
    }
}
