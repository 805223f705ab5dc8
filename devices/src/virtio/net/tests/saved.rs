//! A device that is saved and comes back, also as a twin with another address.

use super::*;

#[test]
fn a_saved_device_comes_back() {
    let mut saved = Rig::new(CONTROL | feature::MQ);
    assert_eq!(saved.command(&[0, 0, 0]), spec::CONTROL_OK);
    assert_eq!(saved.command(&[4, 0, 2, 0]), spec::CONTROL_OK);
    let state = saved.net.save().unwrap();
    let (mut restored, ..) = net(&io_thread(), 2);
    restored.restore(&state).unwrap();
    assert_eq!(*restored.shared.state.hold(), *saved.net.shared.state.hold());
    assert!(!restored.shared.receive.load().filter.passes(THEIRS));
    let (mut narrow, ..) = net(&io_thread(), 1);
    assert!(narrow.restore(&state).is_err());
    restored.reset();
    assert_eq!(*restored.shared.state.hold(), State::new(OURS, true));
}

#[test]
fn a_state_of_the_first_version_is_read() {
    let (saved, ..) = net(&io_thread(), 1);
    let State { link_up, announce, filter, pairs, offloads, .. } = State::new(OURS, true);
    let filter = filter::Filter { promiscuous: false, ..filter };
    let old = (link_up, announce, filter.clone(), pairs, offloads);
    let state = DeviceState::encode(KIND, 1, &old).unwrap();
    let (mut restored, ..) = net(&io_thread(), 1);
    restored.restore(&state).unwrap();
    assert_eq!(*restored.shared.state.hold(), State { filter, ..State::new(OURS, true) });
    assert_eq!(saved.save().unwrap().version, VERSION);
}

/// A rig whose driver was saved as that of `OURS`, and goes on in a machine whose address is `THEIRS`.
fn twin() -> Rig {
    let (saved, ..) = net(&io_thread(), 1);
    let thread = io_thread();
    let (_, fakes, mut ends) = net(&thread, 1);
    let backend: Arc<dyn PacketBackend> = fakes[0].clone();
    let mut device = device(vec![(backend, thread.clone())]);
    device.shared = Arc::new(Shared::new(THEIRS, true));
    device.restore(&saved.save().unwrap()).unwrap();
    let mut rig = Rig::of(CONTROL, thread, device, fakes, ends.remove(0));
    rig.net.connect(rig.signals.clone());
    rig
}

fn link(rig: &Rig) -> u8 {
    let mut status = [0xff; 2];
    rig.net.read_config(6, &mut status);
    status[0]
}

#[test]
fn a_twin_has_no_network_until_its_driver_has_taken_its_own_address() {
    let mut rig = twin();
    let mut mac = [0; 6];
    rig.net.read_config(0, &mut mac);
    assert_eq!((mac, link(&rig)), (THEIRS, 0));
    rig.send_tx(&[(DATA + 0x8000, 72)]);
    rig.expect_tx(1);
    rig.offer_rx(64, 2048);
    rig.network.send(&packet(OURS, 60)).unwrap();
    wait_for("the drop", || rig.stats().rx_dropped == 1);
    assert_eq!(rig.stats().tx_dropped, 1);
    let set = |mac: Mac| [&[1, 1][..], &mac].concat();
    assert_eq!(rig.command(&set(OURS)), spec::CONTROL_OK);
    assert_eq!(link(&rig), 0, "that of the other machine");
    let told = rig.signals.config.load(Ordering::SeqCst);
    assert_eq!(rig.command(&set(THEIRS)), spec::CONTROL_OK);
    assert_eq!((link(&rig), rig.signals.config.load(Ordering::SeqCst)), (1, told + 1));
    rig.send_tx(&[(DATA + 0x8000, 72)]);
    rig.expect_tx(1);
    assert_eq!(rig.stats().tx_packets, 1);
    rig.network.send(&packet(THEIRS, 60)).unwrap();
    assert_eq!(rig.expect_rx(1), [(0, 72)]);
}

#[test]
fn a_driver_that_starts_anew_in_a_twin_has_a_link_and_one_saved_before_that_has_none() {
    let rig = twin();
    let (mut again, ..) = net(&io_thread(), 1);
    again.shared = Arc::new(Shared::new(THEIRS, true));
    again.restore(&rig.net.save().unwrap()).unwrap();
    assert_eq!(again.shared.state.hold().foreign, Some(OURS));
    again.reset();
    assert_eq!(*again.shared.state.hold(), State::new(THEIRS, true));
    assert!(again.shared.receive.load().link_up);
}
