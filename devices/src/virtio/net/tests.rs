use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memory::{GuestRam, IoBuffers};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::backend::stream::Stream;
use crate::backend::tap::sys;
use crate::io_thread::Stop;
use crate::sync::Lock;
use crate::virtio::features::VERSION_1;
use crate::virtio::rig::{FAR, GuestQueue, Random, SEAM, Signals, ram, submit_garbage, wait_for};

/// A datagram socket is a network: one packet per message, full after a few.
struct FakeNet {
    socket: UnixDatagram,
    settings: Mutex<(Offloads, bool)>,
}

impl PacketBackend for FakeNet {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
    fn receive(&self, buffers: &IoBuffers) -> io::Result<usize> {
        sys::readv(self.socket.as_fd(), buffers)
    }
    fn receive_copy(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(packet)
    }
    fn send(&self, packet: &IoBuffers) -> io::Result<()> {
        sys::writev(self.socket.as_fd(), packet).map(|_| ())
    }
    fn send_copy(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send(packet).map(|_| ())
    }
    fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        self.settings.hold().0 = offloads;
        Ok(())
    }
    fn set_enabled(&self, enabled: bool) -> io::Result<()> {
        self.settings.hold().1 = enabled;
        Ok(())
    }
}

const OURS: Mac = [0x52, 0x54, 0, 0, 0, 1];
const THEIRS: Mac = [0x52, 0x54, 0, 0, 0, 2];
const DATA: u64 = 0x10_0000;
const CONTROL_DATA: u64 = 0x8_0000;
const SIZE: u16 = 128;

/// A guest's driver with one queue pair and the control queue, and the network's other end.
struct Rig {
    net: Net,
    ram: GuestRam,
    rx: GuestQueue,
    tx: GuestQueue,
    control: GuestQueue,
    kicks: Vec<Arc<EventFd>>,
    signals: Arc<Signals>,
    workers: Workers,
    thread: Arc<IoThread>,
    network: UnixDatagram,
    fakes: Vec<Arc<FakeNet>>,
}

fn net(thread: &Arc<IoThread>, pairs: usize) -> (Net, Vec<Arc<FakeNet>>, Vec<UnixDatagram>) {
    let sockets = (0..pairs).map(|_| UnixDatagram::pair().unwrap());
    let (sockets, ends): (Vec<_>, Vec<_>) = sockets.unzip();
    let fakes = sockets.into_iter().map(|socket| {
        socket.set_nonblocking(true).unwrap();
        Arc::new(FakeNet { socket, settings: Mutex::new((Offloads::empty(), false)) })
    });
    let fakes: Vec<_> = fakes.collect();
    let backends =
        fakes.iter().map(|fake| (fake.clone() as Arc<dyn PacketBackend>, thread.clone()));
    (device(backends.collect()), fakes, ends)
}

fn device(pairs: Vec<(Arc<dyn PacketBackend>, Arc<IoThread>)>) -> Net {
    Net::new(NetConfig {
        mac: OURS,
        mtu: None,
        link_up: true,
        rx_queue_size: 256,
        tx_queue_size: 256,
        without: 0,
        pairs,
    })
}

fn io_thread() -> Arc<IoThread> {
    IoThread::spawn("io:net", || Ok(())).unwrap()
}

const MERGEABLE: u64 = VERSION_1 | feature::MRG_RXBUF;
const CONTROL: u64 = MERGEABLE
    | feature::GUEST_OFFLOADS
    | feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::CTRL_RX_EXTRA
    | feature::CTRL_MAC_ADDR
    | feature::CTRL_GUEST_OFFLOADS
    | feature::GUEST_ANNOUNCE;

impl Rig {
    fn new(features: u64) -> Self {
        let pairs = if features & feature::MQ != 0 { 2 } else { 1 };
        let thread = io_thread();
        let (net, fakes, mut ends) = net(&thread, pairs);
        Self::of(features, thread, net, fakes, ends.remove(0))
    }

    /// With another backend than a fake network, which has no end then.
    fn over(features: u64, thread: &Arc<IoThread>, backend: Arc<dyn PacketBackend>) -> Self {
        let net = device(vec![(backend, thread.clone())]);
        Self::of(features, thread.clone(), net, Vec::new(), UnixDatagram::unbound().unwrap())
    }

    fn of(
        features: u64,
        thread: Arc<IoThread>,
        net: Net,
        fakes: Vec<Arc<FakeNet>>,
        network: UnixDatagram,
    ) -> Self {
        network.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let ram = ram();
        let queue = |index: u64| GuestQueue::new(&ram, 0x1_0000 + 0x8000 * index, SIZE);
        let mut rig = Self {
            rx: queue(0),
            tx: queue(1),
            control: queue(2),
            net,
            ram,
            kicks: Vec::new(),
            signals: Signals::new(),
            workers: Workers::default(),
            thread,
            network,
            fakes,
        };
        rig.start(features);
        rig
    }

    fn start(&mut self, features: u64) {
        let mut queues = Vec::new();
        let control_index = if features & feature::MQ != 0 { 4 } else { 2 };
        for (index, guest) in [(0, &self.rx), (1, &self.tx), (control_index, &self.control)] {
            queues.resize_with(usize::from(index), || None);
            let (queue, kick) = guest.active(index, &self.signals);
            queues.push(Some(queue));
            self.kicks.push(kick);
        }
        let activation = Activation { ram: self.ram.clone(), features, queues };
        self.workers = self.net.activate(activation).unwrap();
    }

    fn kick(&self, queue: usize) {
        self.kicks[queue].write(1).unwrap();
    }

    /// Offer `count` receive buffers of `len` bytes, each 0x1000 after the one before.
    fn offer_rx(&mut self, count: u64, len: u32) {
        for _ in 0..count {
            let gpa = DATA + 0x1000 * u64::from(self.rx.available);
            self.rx.submit(&[], &[(gpa, len)]);
        }
        self.kick(0);
    }

    fn expect_rx(&mut self, count: usize) -> Vec<(u32, u32)> {
        let mut used = Vec::new();
        let rx = &mut self.rx;
        wait_for("received packets", || {
            used.extend(rx.used());
            used.len() >= count
        });
        used
    }

    fn bytes(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.ram.read_slice(gpa, &mut data).unwrap();
        data
    }

    fn send_tx(&mut self, buffers: &[(u64, u32)]) {
        self.tx.submit(buffers, &[]);
        self.kick(1);
    }

    fn expect_tx(&mut self, count: usize) {
        let (mut done, tx) = (0, &mut self.tx);
        wait_for("sent packets", || {
            done += tx.used().len();
            done >= count
        });
    }

    /// Run a control command; its status.
    fn command(&mut self, command: &[u8]) -> u8 {
        self.ram.write_slice(CONTROL_DATA, command).unwrap();
        let status = CONTROL_DATA + 0x1000;
        self.ram.write_slice(status, &[0xaa]).unwrap();
        let len = command.len() as u32;
        let readable: &[_] = if len == 0 { &[] } else { &[(CONTROL_DATA, len)] };
        self.control.submit(readable, &[(status, 1)]);
        self.kick(2);
        let control = &mut self.control;
        wait_for("the command", || !control.used().is_empty());
        self.bytes(status, 1)[0]
    }

    fn stats(&self) -> NetStats {
        self.net.handle().stats()
    }
}

/// A packet behind an empty header: destination, then a pattern.
fn packet(destination: Mac, len: usize) -> Vec<u8> {
    let mut packet = vec![0; spec::HEADER];
    packet.extend(destination);
    packet.extend((6..len).map(|i| (i % 251) as u8));
    packet
}

fn broken(rig: &Rig) {
    wait_for("the broken queue", || rig.signals.broken());
}

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
