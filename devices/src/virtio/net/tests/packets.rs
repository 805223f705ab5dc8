//! Packets, as they are cut up over buffers, and what a driver gone mad does with them.

use super::*;

#[test]
fn a_sent_packet_reaches_the_network_with_its_header() {
    let mut rig = Rig::new(VERSION_1);
    let sent = packet(THEIRS, 100);
    rig.ram.write_slice(SEAM - 20, &sent).unwrap();
    rig.send_tx(&[(SEAM - 20, 12), (SEAM - 8, 100)]);
    let mut got = [0; 200];
    let len = rig.network.recv(&mut got).unwrap();
    assert_eq!(got[..len], sent);
    rig.expect_tx(1);
    assert_eq!((rig.stats().tx_packets, rig.stats().tx_bytes), (1, 100));
}

#[test]
fn a_received_packet_lands_in_one_buffer() {
    let mut rig = Rig::new(VERSION_1);
    rig.offer_rx(1, 2048);
    let sent = packet(OURS, 60);
    rig.network.send(&sent).unwrap();
    assert_eq!(rig.expect_rx(1), [(0, 72)]);
    assert_eq!(rig.bytes(DATA + 12, 60), sent[12..]);
    assert_eq!(rig.bytes(DATA + 10, 2), [1, 0], "num_buffers");
    wait_for("the interrupt", || rig.signals.queue_count() > 0);
}

#[test]
fn a_long_packet_is_merged_over_buffers() {
    let mut rig = Rig::new(MERGEABLE | feature::GUEST_CSUM | feature::GUEST_TSO4);
    rig.offer_rx(64, 2048);
    let sent = packet(OURS, 5000);
    rig.network.send(&sent).unwrap();
    assert_eq!(rig.expect_rx(3), [(0, 2048), (1, 2048), (2, 5012 - 4096)]);
    assert_eq!(rig.bytes(DATA + 10, 2), [3, 0]);
    assert_eq!(rig.bytes(DATA + 12, 2036), sent[12..2048]);
    assert_eq!(rig.bytes(DATA + 0x2000, 916), sent[4096..]);
    rig.network.send(&packet(OURS, 60)).unwrap();
    assert_eq!(rig.expect_rx(1), [(3, 72)]);
}

#[test]
fn with_few_buffers_small_packets_pass_and_large_ones_wait_whole() {
    let mut rig = Rig::new(MERGEABLE | feature::GUEST_CSUM | feature::GUEST_TSO4);
    rig.offer_rx(2, 2048);
    rig.network.send(&packet(OURS, 60)).unwrap();
    assert_eq!(rig.expect_rx(1), [(0, 72)]);
    let large = packet(OURS, 8000);
    rig.network.send(&large).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(rig.rx.used().is_empty());
    rig.offer_rx(3, 2048);
    let used = rig.expect_rx(4);
    assert_eq!(used.iter().map(|(_, len)| *len).sum::<u32>(), 8012);
    assert_eq!(rig.bytes(DATA + 0x1000 + 12, 2036), large[12..2048]);
}

#[test]
fn a_header_may_be_cut_up_over_descriptors() {
    let mut rig = Rig::new(VERSION_1);
    rig.rx.submit(&[], &[(DATA, 5), (FAR, 6), (SEAM - 1, 1000)]);
    rig.kick(0);
    let sent = packet(OURS, 60);
    rig.network.send(&sent).unwrap();
    assert_eq!(rig.expect_rx(1), [(0, 72)]);
    assert_eq!((rig.bytes(FAR + 5, 1), rig.bytes(SEAM - 1, 1)), (vec![1], vec![0]));
    assert_eq!(rig.bytes(SEAM, 60), sent[12..]);
}

#[test]
fn packets_wait_without_work_until_there_are_buffers() {
    let mut rig = Rig::new(MERGEABLE);
    for _ in 0..3 {
        rig.network.send(&packet(OURS, 60)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    let busy = cpu_time(&rig.thread);
    std::thread::sleep(Duration::from_millis(100));
    assert!(cpu_time(&rig.thread) - busy < Duration::from_millis(50), "the worker spins");
    rig.offer_rx(3, 2048);
    assert_eq!(rig.expect_rx(3).len(), 3);
}

/// Of that thread alone: other tests run beside this one.
fn cpu_time(thread: &IoThread) -> Duration {
    let clock = rustix::time::ClockId::ThreadCPUTime;
    let time = thread.call(move || rustix::time::clock_gettime(clock)).unwrap();
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_receive_buffer_shorter_than_the_header_breaks_the_queue() {
    for features in [VERSION_1, MERGEABLE] {
        let mut rig = Rig::new(features);
        rig.offer_rx(1, 11);
        rig.network.send(&packet(OURS, 60)).unwrap();
        broken(&rig);
        assert!(rig.rx.used().is_empty());
    }
}

#[test]
fn packets_of_impossible_length_are_completed_and_counted() {
    let mut rig = Rig::new(VERSION_1);
    rig.send_tx(&[(DATA, 1)]);
    rig.send_tx(&[(DATA, 12)]);
    rig.send_tx(&[(DATA, 70_000)]);
    rig.tx.submit(&[], &[(DATA, 64)]);
    rig.kick(1);
    rig.expect_tx(4);
    assert_eq!((rig.stats().tx_errors, rig.stats().tx_packets), (4, 0));
}

#[test]
fn a_flood_of_packets_survives_a_slow_network_and_an_empty_receive_ring() {
    let mut rig = Rig::new(VERSION_1);
    for index in 0..100u8 {
        let gpa = DATA + 0x100 * u64::from(index);
        rig.ram.write_slice(gpa, &packet([index; 6], 60)).unwrap();
        rig.tx.submit(&[(gpa, 72)], &[]);
    }
    rig.kick(1);
    for _ in 0..5 {
        let _ = rig.network.send(&packet(OURS, 60));
    }
    for index in 0..100 {
        let mut got = [0; 200];
        let len = rig.network.recv(&mut got).unwrap();
        assert_eq!((len, got[12]), (72, index), "in order, none lost");
    }
    rig.expect_tx(100);
    assert_eq!(rig.stats().tx_packets, 100);
}

#[test]
fn a_stopped_device_hands_back_the_buffers_it_held() {
    let mut rig = Rig::new(MERGEABLE | feature::GUEST_CSUM | feature::GUEST_TSO4);
    rig.offer_rx(64, 2048);
    rig.network.send(&packet(OURS, 60)).unwrap();
    rig.expect_rx(1);
    let progress = std::mem::take(&mut rig.workers).stop(Stop::Deliver).progress;
    let rx = progress.iter().find(|(index, _)| *index == 0).unwrap().1;
    assert_eq!((rx.next_available, rx.next_used), (1, 1));
}

#[test]
fn a_driver_gone_mad_harms_nobody_but_itself() {
    let mut random = Random(0x5eed_0001);
    let (mut moved, mut refused) = ([0; 2], 0);
    for round in 0..40 {
        let features = random.pick(&[VERSION_1, MERGEABLE, CONTROL]);
        let mut rig = Rig::new(features);
        for _ in 0..20 {
            rig.ram.write_slice(0x20_0000, &random.next().to_le_bytes()).unwrap();
            submit_garbage(&mut rig.rx, &mut random);
            submit_garbage(&mut rig.tx, &mut random);
            submit_garbage(&mut rig.control, &mut random);
            (0..3).for_each(|queue| rig.kick(queue));
            rig.network.set_nonblocking(true).unwrap();
            let _ = rig.network.send(&packet(OURS, 6 + random.below(5000) as usize));
            while rig.network.recv(&mut [0; 128]).is_ok() {}
        }
        let how = random.pick(&[Stop::Deliver, Stop::Discard]);
        let progress = std::mem::take(&mut rig.workers).stop(how).progress;
        assert_eq!(progress.len(), 3, "round {round}: both workers still lived");
        let stats = rig.stats();
        moved = [moved[0] + stats.rx_packets, moved[1] + stats.tx_packets];
        refused += stats.tx_errors;
    }
    assert!(moved[0] > 0 && moved[1] > 0 && refused > 0, "{moved:?} {refused}");
}
