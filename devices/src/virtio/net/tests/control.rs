//! What the driver asks for by the control queue and by features, and what it is told of the link.

use super::*;

#[test]
fn without_link_nothing_passes_and_the_driver_is_told() {
    let mut rig = Rig::new(VERSION_1);
    rig.net.connect(rig.signals.clone());
    let handle = rig.net.handle();
    handle.set_link(false);
    handle.set_link(false);
    assert_eq!(rig.signals.config.load(Ordering::SeqCst), 1);
    let mut status = [0xff; 2];
    rig.net.read_config(6, &mut status);
    assert_eq!(status, [0, 0]);
    rig.offer_rx(1, 2048);
    rig.network.send(&packet(OURS, 60)).unwrap();
    wait_for("the drop", || handle.stats().rx_dropped == 1);
    rig.send_tx(&[(DATA + 0x8000, 72)]);
    rig.expect_tx(1);
    assert_eq!(handle.stats().tx_dropped, 1);
    handle.set_link(true);
    rig.network.send(&packet(OURS, 60)).unwrap();
    assert_eq!(rig.expect_rx(1), [(0, 72)], "the buffer was kept for it");
}

#[test]
fn a_network_that_is_gone_is_a_link_down_that_no_cable_brings_up() {
    let thread = io_thread();
    let (ours, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    let backend: Arc<dyn PacketBackend> = Arc::new(Stream::new(ours.into()).unwrap());
    let mut rig = Rig::over(MERGEABLE, &thread, backend);
    rig.net.connect(rig.signals.clone());
    let handle = rig.net.handle();
    let (told, heard) = std::sync::mpsc::channel();
    handle.on_lost(move |reason| told.send(reason.to_owned()).unwrap());
    // As the driver gives them: room for the longest frame.
    rig.offer_rx(64, 2048);
    let frame = &packet(OURS, 5000)[spec::HEADER..];
    other.write_all(&[&5000_u32.to_be_bytes()[..], frame].concat()).unwrap();
    assert_eq!(rig.expect_rx(3).iter().map(|(_, len)| len).sum::<u32>(), 5012);
    assert_eq!(rig.bytes(DATA, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    assert_eq!(rig.bytes(DATA + 12, 2036), frame[..2036]);

    other.write_all(&[0; 4]).unwrap();
    assert!(heard.recv().unwrap().contains("a frame of 0 bytes"));
    let mut status = [0xff; 2];
    rig.net.read_config(6, &mut status);
    assert_eq!((status, rig.signals.config.load(Ordering::SeqCst)), ([0, 0], 1));
    handle.set_link(false);
    handle.set_link(true);
    rig.net.read_config(6, &mut status);
    assert_eq!(status, [0, 0], "the cable leads nowhere");
    rig.send_tx(&[(DATA + 0x8000, 72)]);
    rig.expect_tx(1);
    assert_eq!(handle.stats().tx_dropped, 1);
    assert!(heard.try_recv().is_err(), "told once");
}

#[test]
fn the_driver_chooses_what_it_receives() {
    let mut rig = Rig::new(CONTROL);
    assert_eq!(rig.command(&[0, 0, 0]), spec::CONTROL_OK, "promiscuous off");
    rig.offer_rx(64, 2048);
    rig.network.send(&packet(THEIRS, 60)).unwrap();
    rig.network.send(&packet(OURS, 61)).unwrap();
    assert_eq!(rig.expect_rx(1), [(0, 73)]);
    let mut set_mac = vec![1, 1];
    set_mac.extend(THEIRS);
    assert_eq!(rig.command(&set_mac), spec::CONTROL_OK);
    rig.network.send(&packet(THEIRS, 62)).unwrap();
    assert_eq!(rig.expect_rx(1), [(1, 74)]);
    assert_eq!(rig.net.handle().mac(), THEIRS);
    assert_eq!(rig.stats().rx_dropped, 1);
}

#[test]
fn address_tables_are_taken_whole_or_not_at_all() {
    let mut rig = Rig::new(CONTROL);
    let table = |unicast: u32, multicast: u32, bytes: usize| {
        let mut command = vec![1, 0];
        command.extend(unicast.to_le_bytes());
        command.extend(vec![2; 6 * unicast.min(200) as usize]);
        command.extend(multicast.to_le_bytes());
        command.extend(vec![3; bytes]);
        command
    };
    for (command, status) in [
        (table(1, 1, 6), spec::CONTROL_OK),
        (table(200, 64, 64 * 6), spec::CONTROL_OK),
        (table(1, 2, 6), spec::CONTROL_ERROR),
        (table(1, 1, 7), spec::CONTROL_ERROR),
        (table(u32::MAX, 0, 0), spec::CONTROL_ERROR),
        (table(0x2aaa_aaab, 0, 0), spec::CONTROL_ERROR),
        (vec![1, 0, 1], spec::CONTROL_ERROR),
    ] {
        assert_eq!(rig.command(&command), status, "{command:?}");
    }
    let filter = rig.net.shared.state.hold().filter.clone();
    assert_eq!((filter.unicast, filter.multicast.map(|it| it.len())), (None, Some(64)));
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut rig = Rig::new(CONTROL);
    for command in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 6, 1],
        &[0, 0, 1, 1],
        &[9, 9, 9],
        &[2, 0, 1, 0],
        // Queue pairs, which were not negotiated.
        &[4, 0, 1, 0],
        &[5, 0, 0xff, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 2, 0, 0, 0, 0],
        &[1, 1, 1, 2, 3, 4, 5],
        &[3, 0, 0],
    ] {
        assert_eq!(rig.command(command), spec::CONTROL_ERROR, "{command:?}");
    }
    assert_eq!(*rig.net.shared.state.hold(), State::new(OURS, true));
    rig.control.submit(&[(CONTROL_DATA, 2)], &[]);
    rig.kick(2);
    broken(&rig);
}

#[test]
fn queue_pairs_are_switched_on_within_bounds() {
    let mut rig = Rig::new(CONTROL | feature::MQ);
    let enabled = |rig: &Rig| [0, 1].map(|index: usize| rig.fakes[index].settings.hold().1);
    assert_eq!(enabled(&rig), [true, false]);
    assert_eq!(rig.command(&[4, 0, 2, 0]), spec::CONTROL_OK);
    assert_eq!(enabled(&rig), [true, true]);
    for pairs in [0, 3, 255] {
        assert_eq!(rig.command(&[4, 0, pairs, 0]), spec::CONTROL_ERROR);
    }
    assert_eq!(rig.command(&[4, 0, 1, 0]), spec::CONTROL_OK);
    assert_eq!(enabled(&rig), [true, false]);
}

#[test]
fn offloads_follow_features_and_commands() {
    let mut rig = Rig::new(CONTROL);
    assert_eq!(rig.fakes[0].settings.hold().0, Offloads::all());
    let mut command = vec![5, 0];
    command.extend((feature::GUEST_CSUM | feature::GUEST_TSO6).to_le_bytes());
    assert_eq!(rig.command(&command), spec::CONTROL_OK);
    assert_eq!(rig.fakes[0].settings.hold().0, Offloads::CHECKSUM | Offloads::TSO6);
    let mut command = vec![5, 0];
    command.extend(feature::GUEST_TSO4.to_le_bytes());
    assert_eq!(rig.command(&command), spec::CONTROL_OK);
    assert_eq!(rig.fakes[0].settings.hold().0, Offloads::empty(), "none without checksums");
    assert_eq!(Rig::new(VERSION_1).fakes[0].settings.hold().0, Offloads::empty());
}

#[test]
fn an_announcement_is_asked_for_until_acknowledged() {
    let mut rig = Rig::new(CONTROL);
    let status = |rig: &Rig| {
        let mut status = [0];
        rig.net.read_config(6, &mut status);
        status[0]
    };
    rig.net.handle().announce();
    assert_eq!(status(&rig), 3);
    assert_eq!(rig.command(&[3, 0]), spec::CONTROL_OK);
    assert_eq!(status(&rig), 1);
}

#[test]
fn the_network_is_told_by_a_frame_from_the_address_that_the_driver_uses() {
    let mut rig = Rig::new(CONTROL);
    let mut command = vec![1, 1];
    command.extend(THEIRS);
    assert_eq!(rig.command(&command), spec::CONTROL_OK);
    let announcer = rig.net.announcer();
    announcer.send().unwrap();
    let mut packet = [0; 128];
    let len = rig.network.recv(&mut packet).unwrap();
    assert_eq!((len, &packet[12..18], &packet[18..24]), (72, &[0xff; 6][..], &THEIRS[..]));
    rig.net.handle().set_link(false);
    announcer.send().unwrap();
    rig.net.handle().set_link(true);
    rig.network.set_nonblocking(true).unwrap();
    assert!(rig.network.recv(&mut packet).is_err(), "a cable that is pulled carries nothing");
}

#[test]
fn features_come_with_what_they_depend_on() {
    let without = |bits: u64| {
        let (mut net, ..) = net(&io_thread(), 1);
        net.features = with_dependencies(net.features & !bits);
        net.features
    };
    assert_eq!(without(0) & feature::MQ, 0, "one pair");
    assert_eq!(without(feature::CSUM) & (feature::HOST_TSO4 | feature::HOST_ECN), 0);
    assert_eq!(without(feature::CTRL_VQ) & (feature::CTRL_RX | feature::CTRL_RX_EXTRA), 0);
    assert_ne!(without(feature::GUEST_CSUM) & feature::HOST_TSO4, 0);
}
