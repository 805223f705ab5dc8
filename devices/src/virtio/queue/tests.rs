use super::*;
use crate::virtio::rig::{END, FAR, GuestQueue, HOLE, INDIRECT, NEXT, SEAM, WRITE};
use crate::virtio::rig::{ram, write_descriptor};

const RINGS: u64 = 0x10000;
const DATA: u64 = 0x10_0000;
const TABLE: u64 = 0x8_0000;

fn rig() -> (GuestQueue, Queue) {
    let guest = GuestQueue::new(&ram(), RINGS, 8);
    let queue = guest.queue();
    (guest, queue)
}

/// Offer the chain at head 0 and expect the queue to break over it, for good.
#[track_caller]
fn expect_bad_chain(guest: &mut GuestQueue, queue: &mut Queue, reason: BadChain) {
    guest.offer(0);
    assert!(queue.pop().is_none());
    let broken = queue.broken().expect("the queue breaks");
    assert!(
        matches!(broken, QueueError::Chain { reason: found, .. } if *found == reason),
        "{broken} instead of {reason}"
    );
    assert_eq!(queue.in_flight(), 0);
    guest.submit(&[(DATA, 1)], &[]);
    assert!(queue.pop().is_none(), "a broken queue yields nothing");
    assert!(guest.used().is_empty());
    // The driver resets and sets the queue up again: it works.
    let mut fresh = GuestQueue::new(&guest.ram, RINGS, 8);
    let mut queue = fresh.queue();
    fresh.submit(&[(DATA, 1)], &[]);
    assert!(queue.pop().is_some());
}

#[test]
fn a_chain_comes_out_in_order_and_its_completion_shows_in_the_used_ring() {
    let (mut guest, mut queue) = rig();
    let head = guest.submit(&[(DATA, 16), (SEAM - 8, 16)], &[(FAR, 512), (DATA + 64, 1)]);
    let chain = queue.pop().unwrap();
    assert_eq!(chain.head(), head);
    assert_eq!(chain.readable(), [(DATA, 16), (SEAM - 8, 16)]);
    assert_eq!(chain.writable(), [(FAR, 512), (DATA + 64, 1)]);
    assert_eq!((queue.in_flight(), queue.pop().is_none()), (1, true));
    queue.complete(chain, 513);
    assert_eq!(guest.used(), [(0, 513)]);
    assert!(queue.should_notify());
    assert!(!queue.should_notify(), "once per batch");
    assert_eq!(queue.progress(), QueueProgress { next_available: 1, next_used: 1 });
}

#[test]
fn headers_are_copied_once_and_the_status_byte_is_the_last_one_whatever_the_shape() {
    let (mut guest, mut queue) = rig();
    guest.ram.write_slice(DATA, &[1, 2, 3]).unwrap();
    guest.ram.write_slice(DATA + 100, &[4, 5, 6, 7]).unwrap();
    guest.submit(&[(DATA, 3), (DATA + 100, 4)], &[(DATA + 200, 4)]);
    let mut chain = queue.pop().unwrap();
    assert_eq!(chain.read_obj::<u32>(), Some(u32::from_le_bytes([1, 2, 3, 4])));
    assert_eq!(chain.readable(), [(DATA + 101, 3)]);
    assert_eq!(chain.read_obj::<u32>(), None, "three bytes are left");
    assert_eq!(chain.readable_len(), 3, "a short read consumes nothing");
    chain.split_status().unwrap().set(&guest.ram, 0xee);
    assert_eq!(guest.ram.read_obj::<u8>(DATA + 203).unwrap(), 0xee);
    assert_eq!(chain.writable(), [(DATA + 200, 3)]);
    assert!(chain.write(&[9, 9, 9]) && chain.split_status().is_none());
}

#[test]
fn a_finished_chain_is_reused_clean() {
    let (mut guest, mut queue) = rig();
    guest.submit(&[(DATA, 3)], &[(DATA + 200, 4)]);
    let chain = queue.pop().unwrap();
    queue.complete(chain, 0);
    guest.submit(&[], &[(DATA, 1)]);
    let chain = queue.pop().unwrap();
    assert_eq!((chain.readable(), chain.writable()), (&[][..], &[(DATA, 1)][..]));
}

#[test]
fn a_chain_put_back_comes_again() {
    let (mut guest, mut queue) = rig();
    guest.submit(&[(DATA, 1)], &[]);
    let second = guest.submit(&[(DATA, 2)], &[]);
    let (_first, again) = (queue.pop().unwrap(), queue.pop().unwrap());
    queue.put_back(again);
    assert_eq!(queue.in_flight(), 1);
    assert_eq!(queue.pop().unwrap().head(), second);
}

#[test]
fn an_indirect_chain_is_followed_also_behind_direct_buffers() {
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, DATA, 8, NEXT, 1);
    // The WRITE flag of an indirect descriptor means nothing (§2.7.5.3.2).
    guest.descriptor(1, TABLE, 32, INDIRECT | WRITE, 7);
    write_descriptor(&guest.ram, TABLE, 0, DATA + 8, 8, NEXT, 1);
    write_descriptor(&guest.ram, TABLE, 1, DATA + 16, 8, WRITE, 0);
    guest.offer(0);
    let chain = queue.pop().unwrap();
    assert_eq!(chain.readable(), [(DATA, 8), (DATA + 8, 8)]);
    assert_eq!(chain.writable(), [(DATA + 16, 8)]);
}

#[test]
fn loops_and_long_chains_break_the_queue() {
    for next in [0, 1] {
        // A self-loop, and a loop of two.
        let (mut guest, mut queue) = rig();
        guest.descriptor(0, DATA, 1, NEXT, next);
        guest.descriptor(1, DATA, 1, NEXT, 0);
        expect_bad_chain(&mut guest, &mut queue, BadChain::TooLong);
    }
    // An indirect table that loops within itself.
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, TABLE, 32, INDIRECT, 0);
    write_descriptor(&guest.ram, TABLE, 0, DATA, 1, NEXT, 1);
    write_descriptor(&guest.ram, TABLE, 1, DATA, 1, NEXT, 0);
    expect_bad_chain(&mut guest, &mut queue, BadChain::TooLong);
}

#[test]
fn indexes_beyond_the_table_break_the_queue() {
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, DATA, 1, NEXT, 8);
    expect_bad_chain(&mut guest, &mut queue, BadChain::Index(8));
    let (mut guest, mut queue) = rig();
    guest.offer(8);
    assert!(queue.pop().is_none());
    assert!(matches!(queue.broken(), Some(QueueError::Head { head: 8 })));
}

#[test]
fn impossible_indirect_tables_break_the_queue() {
    for len in [0, 8, 15, 17, 16 * 1025, 16 * 65536, u32::MAX] {
        let (mut guest, mut queue) = rig();
        guest.descriptor(0, TABLE, len, INDIRECT, 0);
        expect_bad_chain(&mut guest, &mut queue, BadChain::IndirectLength(len));
    }
    for (gpa, at) in [(END - 8, END - 8), (HOLE, HOLE), (u64::MAX - 7, u64::MAX - 7)] {
        let (mut guest, mut queue) = rig();
        guest.descriptor(0, gpa, 32, INDIRECT, 0);
        let reason = BadChain::Outside { gpa: at, len: 16 };
        expect_bad_chain(&mut guest, &mut queue, reason);
    }
}

#[test]
fn nested_continued_and_unnegotiated_indirect_tables_break_the_queue() {
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, TABLE, 16, INDIRECT | NEXT, 1);
    expect_bad_chain(&mut guest, &mut queue, BadChain::IndirectShape);
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, TABLE, 16, INDIRECT, 0);
    write_descriptor(&guest.ram, TABLE, 0, TABLE, 16, INDIRECT, 0);
    expect_bad_chain(&mut guest, &mut queue, BadChain::IndirectShape);
    let (mut guest, _) = rig();
    let mut queue = guest.queue_with(RingFeatures { event_idx: false, indirect: false });
    guest.descriptor(0, TABLE, 16, INDIRECT, 0);
    expect_bad_chain(&mut guest, &mut queue, BadChain::IndirectRefused);
}

#[test]
fn buffers_outside_ram_break_the_queue() {
    let cases = [
        (HOLE, 1),
        (HOLE - 1, 2),
        (FAR - 1, 2),
        (END - 1, 2),
        (u64::MAX, 1),
        (u64::MAX - 3, 8),
        (DATA, u32::MAX),
        (0xfee0_0000, 4),
    ];
    for (gpa, len) in cases {
        let (mut guest, mut queue) = rig();
        guest.descriptor(0, gpa, len, WRITE, 0);
        let reason = BadChain::Outside { gpa, len: len.into() };
        expect_bad_chain(&mut guest, &mut queue, reason);
    }
}

#[test]
fn empty_misordered_and_overlarge_chains_break_the_queue() {
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, DATA, 0, 0, 0);
    expect_bad_chain(&mut guest, &mut queue, BadChain::Empty);
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, DATA, 1, WRITE | NEXT, 1);
    guest.descriptor(1, DATA, 1, 0, 0);
    expect_bad_chain(&mut guest, &mut queue, BadChain::Order);
    // 1024 times the same 8 MiB.
    let (mut guest, mut queue) = rig();
    guest.descriptor(0, TABLE, 16 * 1024, INDIRECT, 0);
    for index in 0..1024 {
        write_descriptor(&guest.ram, TABLE, index, 0, HOLE as u32, NEXT, index + 1);
    }
    expect_bad_chain(&mut guest, &mut queue, BadChain::TooLarge);
}

#[test]
fn an_available_index_out_of_step_breaks_the_queue() {
    for event_idx in [false, true] {
        let (mut guest, _) = rig();
        let mut queue = guest.queue_with(RingFeatures { event_idx, indirect: false });
        guest.available = 8;
        guest.offer(0);
        assert!(queue.pop().is_none());
        assert!(matches!(queue.broken(), Some(QueueError::AvailableIndex)));
    }
}

#[test]
fn a_head_offered_twice_while_in_flight_breaks_the_queue() {
    let (mut guest, mut queue) = rig();
    let head = guest.submit(&[(DATA, 1)], &[]);
    let chain = queue.pop().unwrap();
    guest.offer(head);
    assert!(queue.pop().is_none());
    assert!(matches!(queue.broken(), Some(QueueError::Duplicate { head: 0 })));
    // The request in flight ends without a trace.
    queue.complete(chain, 0);
    assert_eq!((queue.in_flight(), guest.used().len()), (0, 0));
}

#[test]
fn a_head_may_be_used_again_after_completion() {
    let (mut guest, mut queue) = rig();
    let head = guest.submit(&[(DATA, 1)], &[]);
    for round in 1..=20_u16 {
        let chain = queue.pop().unwrap();
        queue.complete(chain, 0);
        assert_eq!(queue.progress().next_used, round);
        guest.offer(head);
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let guest = GuestQueue::new(&ram(), RINGS, 8);
    let good = guest.config;
    let bad = [
        QueueConfig { size: 0, ..good },
        QueueConfig { size: 7, ..good },
        QueueConfig { size: 2048, ..good },
        QueueConfig { size: 0xffff, ..good },
        QueueConfig { descriptors: RINGS + 8, ..good },
        QueueConfig { available: RINGS + 1, ..good },
        QueueConfig { used: RINGS + 2, ..good },
        QueueConfig { descriptors: HOLE, ..good },
        QueueConfig { available: HOLE - 16, ..good },
        QueueConfig { used: END, ..good },
        QueueConfig { used: u64::MAX - 3, ..good },
    ];
    for config in bad {
        let made = Queue::new(
            guest.ram.clone(),
            &config,
            1024,
            RingFeatures::default(),
            QueueProgress::default(),
        );
        assert!(made.is_err(), "{config:?}");
    }
}

#[test]
fn a_queue_goes_on_where_it_was_handed_back() {
    let (mut guest, mut queue) = rig();
    guest.submit(&[(DATA, 1)], &[]);
    let chain = queue.pop().unwrap();
    queue.complete(chain, 0);
    let head = guest.submit(&[(DATA, 2)], &[]);
    let features = RingFeatures::default();
    let mut queue =
        Queue::new(guest.ram.clone(), &guest.config, 1024, features, queue.progress()).unwrap();
    let chain = queue.pop().unwrap();
    assert_eq!(chain.head(), head);
    queue.complete(chain, 0);
    assert_eq!(guest.used(), [(0, 0), (u32::from(head), 0)]);
}

#[test]
fn without_event_idx_the_no_interrupt_flag_is_honoured() {
    let (mut guest, mut queue) = rig();
    for (flag, wanted) in [(1_u16, false), (0, true)] {
        guest.ram.write_obj(guest.config.available, flag).unwrap();
        guest.submit(&[(DATA, 1)], &[]);
        let chain = queue.pop().unwrap();
        queue.complete(chain, 0);
        assert_eq!(queue.should_notify(), wanted);
    }
}

#[test]
fn with_event_idx_the_driver_is_notified_when_its_event_is_reached() {
    let (mut guest, _) = rig();
    let mut queue = guest.queue_with(RingFeatures { event_idx: true, indirect: false });
    // used_event = 1: after the second completion.
    guest.ram.write_obj(guest.config.available + 4 + 2 * 8, 1_u16).unwrap();
    for wanted in [false, true, false] {
        guest.submit(&[(DATA, 1)], &[]);
        let chain = queue.pop().unwrap();
        queue.complete(chain, 0);
        assert_eq!(queue.should_notify(), wanted);
    }
}

#[test]
fn a_chain_that_arrives_while_kicks_are_off_is_noticed_when_they_come_back() {
    for event_idx in [false, true] {
        let (mut guest, _) = rig();
        let mut queue = guest.queue_with(RingFeatures { event_idx, indirect: false });
        queue.disable_kicks();
        assert!(queue.pop().is_none());
        guest.submit(&[(DATA, 1)], &[]);
        assert!(queue.enable_kicks());
        assert!(queue.pop().is_some());
        assert!(!queue.enable_kicks());
    }
}

#[test]
fn descriptors_rewritten_meanwhile_change_nothing_in_a_popped_chain() {
    let (mut guest, mut queue) = rig();
    guest.submit(&[(DATA, 16)], &[(DATA + 64, 1)]);
    let chain = queue.pop().unwrap();
    guest.descriptor(0, HOLE, u32::MAX, WRITE, 0);
    assert_eq!(chain.readable(), [(DATA, 16)]);
    assert_eq!(chain.readable_buffers().unwrap().len(), 16);
}

/// One thread flips a descriptor between good and hostile values while the other pops: whatever
/// mix is seen, a chain that comes out lies in RAM.
#[test]
fn a_chain_raced_by_the_guest_is_either_good_or_refused() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (mut guest, mut queue) = rig();
    let stop = AtomicBool::new(false);
    let (mut good, mut bad) = (0, 0);
    std::thread::scope(|scope| {
        let (ram, stop) = (guest.ram.clone(), &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                write_descriptor(&ram, RINGS, 0, DATA, 64, NEXT, 1);
                write_descriptor(&ram, RINGS, 0, HOLE - 8, 4096, NEXT | WRITE, 0);
            }
        });
        guest.descriptor(1, DATA, 8, WRITE, 0);
        for _ in 0..100_000 {
            guest.offer(0);
            if let Some(chain) = queue.pop() {
                good += 1;
                for (gpa, len) in chain.readable().iter().chain(chain.writable()) {
                    assert!(guest.ram.contains(*gpa, *len));
                }
                queue.complete(chain, 0);
            } else {
                bad += 1;
                let fresh = GuestQueue::new(&guest.ram, RINGS + 0x8000, 8);
                guest.config.available = fresh.config.available;
                guest.config.used = fresh.config.used;
                guest.available = 0;
                queue = guest.queue();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

#[test]
fn chains_given_back_together_show_in_order() {
    let (mut guest, mut queue) = rig();
    for _ in 0..3 {
        guest.submit(&[], &[(DATA, 16)]);
    }
    let chains: Vec<_> = (0..3).map(|_| queue.pop().unwrap()).collect();
    assert!(guest.used().is_empty());
    queue.complete_together(chains.into_iter().zip([16, 16, 4]));
    assert_eq!(guest.used(), [(0, 16), (1, 16), (2, 4)]);
    assert_eq!(queue.in_flight(), 0);
    assert!(queue.should_notify());
    queue.complete_together([]);
    assert!(!queue.should_notify());
}

#[test]
fn a_batch_over_the_awaited_element_notifies() {
    let mut guest = GuestQueue::new(&ram(), RINGS, 8);
    let mut queue = guest.queue_with(RingFeatures { event_idx: true, indirect: false });
    let used_event = guest.config.available + 4 + 2 * 8;
    guest.ram.write_obj(used_event, 1u16).unwrap();
    let mut complete = |count: usize| {
        for _ in 0..count {
            guest.submit(&[], &[(DATA, 16)]);
        }
        let chains: Vec<_> = (0..count).map(|_| (queue.pop().unwrap(), 1)).collect();
        queue.complete_together(chains);
        queue.should_notify()
    };
    assert!(!complete(1), "it waits for the second");
    assert!(complete(3), "the second is among them");
    assert!(!complete(4));
}

/// Descriptor tables of plausible garbage: every walk ends, and what comes out lies in RAM, in
/// order, and within the limits.
#[test]
fn random_descriptor_tables_never_give_a_chain_outside_ram() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let memory = ram();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4_000 {
        let mut guest = GuestQueue::new(&memory, RINGS, 8);
        let mut queue = guest.queue();
        let addresses = [DATA, TABLE, RINGS, HOLE - 16, FAR - 8, END - 32, u64::MAX - 8, 0];
        for table in [RINGS, TABLE] {
            for index in 0..8 {
                let gpa = addresses[(random() % 8) as usize];
                let len = match random() % 32 {
                    0 => 0,
                    1 => u32::MAX,
                    2 => 17,
                    other => 16 * (1 + other as u32 % 8),
                };
                let flags = (random() & (random() % 8)) as u16;
                write_descriptor(&memory, table, index, gpa, len, flags, (random() % 9) as u16);
            }
        }
        guest.offer((random() % 9) as u16);
        match queue.pop() {
            Some(chain) => {
                good += 1;
                let ranges = || chain.readable().iter().chain(chain.writable());
                assert!(ranges().all(|(gpa, len)| *len > 0 && memory.contains(*gpa, *len)));
                assert!(ranges().count() <= 1024 + 8);
                let total = u64::from(chain.readable_len()) + u64::from(chain.writable_len());
                assert_eq!(ranges().map(|(_, len)| len).sum::<u64>(), total);
                queue.complete(chain, 0);
            }
            None => bad += u32::from(queue.broken().is_some()),
        }
        assert_eq!(queue.in_flight(), 0);
    }
    assert!(good > 200 && bad > 200, "{good} good, {bad} bad");
}
