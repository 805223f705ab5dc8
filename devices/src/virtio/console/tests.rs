use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use memory::GuestRam;

use super::*;
use crate::backend::chardev::Chardev;
use crate::io_thread::Stop;
use crate::testing::FakeConsole;
use crate::virtio::features::VERSION_1;
use crate::virtio::rig::{GuestQueue, Random, Signals, ram, submit_garbage, wait_for};
use spec::{event, message};

const AGENT: &str = "org.qemu.guest_agent.0";
const DATA: u64 = 0x10_0000;
const MULTIPORT: u64 = VERSION_1 | feature::MULTIPORT;

/// Port 0 is a console, port 1 is not there, port 2 is the agent's channel.
struct Rig {
    device: Console,
    ram: GuestRam,
    /// By queue index.
    queues: Vec<GuestQueue>,
    kicks: Vec<Arc<EventFd>>,
    signals: Arc<Signals>,
    workers: Workers,
    console: Arc<FakeConsole>,
    agent: Arc<Chardev>,
    thread: Arc<IoThread>,
}

fn device(console: &Arc<FakeConsole>, agent: &Arc<Chardev>, thread: &Arc<IoThread>) -> Console {
    let ports = vec![
        Some(PortConfig { name: None, console: true, held_open: false, backend: console.clone() }),
        None,
        Some(PortConfig {
            name: Some(AGENT.to_owned()),
            console: false,
            held_open: false,
            backend: agent.clone(),
        }),
    ];
    Console::new(ports, thread.clone()).unwrap()
}

impl Rig {
    fn new(features: u64) -> Self {
        let thread = IoThread::spawn("io:console", || Ok(())).unwrap();
        let console = Arc::new(FakeConsole::default());
        let agent = Chardev::lossless("channel0").unwrap();
        let mut device = device(&console, &agent, &thread);
        let (ram, signals) = (ram(), Signals::new());
        let queues: Vec<_> =
            (0..8).map(|index| GuestQueue::new(&ram, 0x1_0000 + 0x8000 * index, 64)).collect();
        let active = (0..).zip(&queues).map(|(index, queue)| queue.active(index, &signals));
        let (active, kicks): (Vec<_>, Vec<_>) =
            active.map(|(queue, kick)| (Some(queue), kick)).unzip();
        let activation = Activation { ram: ram.clone(), features, queues: active };
        let workers = device.activate(activation).unwrap();
        Self { device, ram, queues, kicks, signals, workers, console, agent, thread }
    }

    /// With a driver that set the device up.
    fn ready() -> Self {
        let mut rig = Self::new(MULTIPORT);
        rig.control(0, event::DEVICE_READY, 1);
        rig.expect(&[message(0, event::PORT_ADD, 1, &[]), message(2, event::PORT_ADD, 1, &[])]);
        rig
    }

    fn kick(&self, queue: usize) {
        self.kicks[queue].write(1).unwrap();
    }

    fn write(&mut self, queue: usize, data: &[u8]) {
        let gpa = DATA + 0x1_0000 * queue as u64;
        self.ram.write_slice(gpa, data).unwrap();
        self.queues[queue].submit(&[(gpa, data.len() as u32)], &[]);
        self.kick(queue);
        let guest = &mut self.queues[queue];
        wait_for("the write", || !guest.used().is_empty());
    }

    fn control(&mut self, port: u32, event: u16, value: u16) {
        self.write(usize::from(spec::CONTROL_TX), &message(port as usize, event, value, &[]));
    }

    /// What the device puts into a buffer of `len` bytes of a receive queue.
    fn read(&mut self, queue: usize, len: u32) -> Vec<u8> {
        let gpa = DATA + 0x1_0000 * queue as u64;
        self.queues[queue].submit(&[], &[(gpa, len)]);
        self.kick(queue);
        let (mut used, guest) = (Vec::new(), &mut self.queues[queue]);
        wait_for("the read", || {
            used = guest.used();
            !used.is_empty()
        });
        let mut data = vec![0; used[0].1 as usize];
        self.ram.read_slice(gpa, &mut data).unwrap();
        data
    }

    fn expect(&mut self, messages: &[Vec<u8>]) {
        for message in messages {
            assert_eq!(self.read(usize::from(spec::CONTROL_RX), 64), *message);
        }
    }

    fn outbox(&self) -> usize {
        self.device.ports.state.hold().outbox.len()
    }
}

#[test]
fn the_driver_learns_what_each_port_is() {
    let mut rig = Rig::ready();
    rig.device.handle().resize(132, 43);
    rig.control(0, event::PORT_READY, 1);
    rig.expect(&[
        message(0, event::CONSOLE_PORT, 1, &[]),
        message(0, event::RESIZE, 0, &[132, 0, 43, 0]),
        message(0, event::PORT_OPEN, 1, &[]),
    ]);
    rig.control(2, event::PORT_READY, 1);
    rig.expect(&[message(2, event::PORT_NAME, 1, b"org.qemu.guest_agent.0\0")]);
    assert_eq!(rig.outbox(), 0, "nobody is at the channel");
    let mut config = [0; 8];
    rig.device.read_config(0, &mut config);
    assert_eq!(config, [132, 0, 43, 0, 3, 0, 0, 0]);
}

#[test]
fn a_channel_carries_bytes_while_both_sides_are_there() {
    let mut rig = Rig::ready();
    let worker = rig.thread.add(rig.agent.worker()).unwrap();
    rig.control(2, event::PORT_READY, 1);
    rig.read(usize::from(spec::CONTROL_RX), 64);
    let (mut host, theirs) = UnixStream::pair().unwrap();
    rig.agent.attach(theirs.into(), false).unwrap();
    rig.expect(&[message(2, event::PORT_OPEN, 1, &[])]);
    rig.control(2, event::PORT_OPEN, 1);
    assert!(rig.agent.is_guest_open());
    host.write_all(b"{\"execute\":\"guest-ping\"}\n").unwrap();
    assert_eq!(rig.read(6, 100), b"{\"execute\":\"guest-ping\"}\n");
    rig.write(7, b"{\"return\": {}}\n");
    let mut answer = [0; 15];
    host.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"{\"return\": {}}\n");
    drop(host);
    rig.expect(&[message(2, event::PORT_OPEN, 0, &[])]);
    worker.stop(Stop::Deliver).unwrap();
}

#[test]
fn a_guest_waits_for_a_slow_client_of_a_channel_which_misses_nothing() {
    let mut rig = Rig::ready();
    let worker = rig.thread.add(rig.agent.worker()).unwrap();
    rig.control(2, event::PORT_READY, 1);
    rig.read(usize::from(spec::CONTROL_RX), 64);
    let (mut host, theirs) = UnixStream::pair().unwrap();
    rig.agent.attach_alone(theirs.into(), false).unwrap();
    rig.control(2, event::PORT_OPEN, 1);
    // Chains longer than all buffers on the way together.
    let long = 700 << 10;
    // Out of the way of the rig's own messages.
    let gpa = DATA + (1 << 20);
    let data: Vec<u8> = (0..long as u32).flat_map(|i| [(i >> 8) as u8 ^ i as u8]).collect();
    rig.ram.write_slice(gpa, &data).unwrap();
    for _ in 0..2 {
        rig.queues[7].submit(&[(gpa, long as u32)], &[]);
    }
    rig.kick(7);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(rig.queues[7].used().is_empty(), "it waits for the client");
    // The thread serves others meanwhile.
    rig.console.type_in(b"x");
    rig.control(0, event::PORT_OPEN, 1);
    assert_eq!(rig.read(0, 10), b"x");
    for _ in 0..2 {
        let mut got = vec![0; long];
        host.read_exact(&mut got).unwrap();
        assert!(got == data, "nothing is lost or doubled");
    }
    let (mut done, guest) = (0, &mut rig.queues[7]);
    wait_for("the end of both", || {
        done += guest.used().len();
        done == 2
    });
    // One that never reads and goes away holds up nobody after it.
    rig.queues[7].submit(&[(gpa, long as u32)], &[]);
    rig.kick(7);
    drop(host);
    let guest = &mut rig.queues[7];
    wait_for("the guest to go on", || !guest.used().is_empty());
    assert_eq!(rig.agent.lost(), 0);
    worker.stop(Stop::Deliver).unwrap();
}

#[test]
fn a_channel_that_is_held_open_is_open_though_nobody_is_there() {
    let thread = IoThread::spawn("io:console", || Ok(())).unwrap();
    let backend = Chardev::new("channel0").unwrap();
    let name = Some(AGENT.to_owned());
    let port = PortConfig { name, console: false, held_open: true, backend };
    let device = Console::new(vec![None, Some(port)], thread).unwrap();
    device.ports.control(message(1, event::PORT_READY, 1, &[]).try_into().unwrap());
    let outbox = device.ports.state.hold().outbox.clone();
    assert_eq!(outbox.back(), Some(&message(1, event::PORT_OPEN, 1, &[])));
}

#[test]
fn a_flood_of_input_waits_until_the_guest_opens_and_reads() {
    let mut rig = Rig::ready();
    let flood: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
    rig.console.type_in(&flood);
    rig.control(0, event::PORT_OPEN, 1);
    let mut got = Vec::new();
    while got.len() < flood.len() {
        got.extend(rig.read(0, 1000));
    }
    assert_eq!(got, flood);
}

#[test]
fn input_waits_while_the_port_is_closed() {
    let mut rig = Rig::ready();
    rig.queues[0].submit(&[], &[(DATA, 100)]);
    rig.kick(0);
    rig.console.type_in(b"x");
    rig.control(0, event::PORT_READY, 1);
    assert!(rig.queues[0].used().is_empty());
    rig.control(0, event::PORT_OPEN, 1);
    let guest = &mut rig.queues[0];
    let mut used = Vec::new();
    wait_for("the byte", || {
        used = guest.used();
        !used.is_empty()
    });
    assert_eq!(used, [(0, 1)]);
}

#[test]
fn without_multiport_the_first_port_just_works() {
    let mut rig = Rig::new(VERSION_1);
    rig.write(1, b"hello");
    assert_eq!(rig.console.output(), b"hello");
    rig.console.type_in(b"hi");
    assert_eq!(rig.read(0, 10), b"hi");
}

#[test]
fn a_long_write_reaches_the_backend_whole_up_to_its_bound() {
    let mut rig = Rig::new(VERSION_1);
    let data: Vec<u8> = (0..9000u32).map(|i| i as u8).collect();
    rig.write(1, &data);
    assert_eq!(rig.console.output(), data);
    let half = 2 << 20;
    rig.queues[1].submit(&[(DATA, half), (DATA, half)], &[]);
    rig.kick(1);
    let guest = &mut rig.queues[1];
    wait_for("the end", || !guest.used().is_empty());
    assert_eq!(rig.console.output().len(), data.len() + (1 << 20));
}

#[test]
fn garbage_on_the_control_queue_changes_nothing() {
    let mut rig = Rig::ready();
    let before = rig.device.ports.state.hold().clone();
    for (port, event, value) in [
        (1, event::PORT_READY, 1),
        (3, event::PORT_OPEN, 1),
        (u32::MAX, event::PORT_OPEN, 1),
        (0, 99, 1),
        (0, event::PORT_READY, 0),
        (0, event::DEVICE_READY, 0),
        (2, event::PORT_NAME, 1),
    ] {
        rig.control(port, event, value);
    }
    rig.write(3, &[1, 2, 3]);
    rig.write(3, &[0xff; 4096]);
    rig.queues[3].submit(&[], &[(DATA, 64)]);
    rig.kick(3);
    let guest = &mut rig.queues[3];
    wait_for("the useless chain", || !guest.used().is_empty());
    assert_eq!(*rig.device.ports.state.hold(), before);
    assert!(!rig.signals.broken());
}

#[test]
fn a_driver_that_reads_no_messages_cannot_make_them_pile_up() {
    let mut rig = Rig::new(MULTIPORT);
    for _ in 0..1000 {
        rig.control(0, event::DEVICE_READY, 1);
        rig.control(2, event::PORT_READY, 1);
    }
    assert!(rig.outbox() <= 256);
    assert_eq!(rig.read(2, 3), [0, 0, 0], "a short buffer gets what fits");
}

#[test]
fn a_saved_device_goes_on_where_it_was() {
    let mut rig = Rig::ready();
    rig.control(2, event::PORT_READY, 1);
    rig.control(2, event::PORT_OPEN, 1);
    let _ = std::mem::take(&mut rig.workers).stop(Stop::Deliver);
    let state = rig.device.save().unwrap();
    let agent = Chardev::new("channel0").unwrap();
    let mut restored = device(&rig.console, &agent, &rig.thread);
    restored.restore(&state).unwrap();
    assert!(agent.is_guest_open());
    assert_eq!(*restored.ports.state.hold(), *rig.device.ports.state.hold());
    restored.reset();
    assert!(!agent.is_guest_open());
    let mut other = Console::new(Vec::new(), rig.thread.clone()).unwrap();
    assert!(other.restore(&state).is_err());
}

#[test]
fn interrupts_tell_of_input() {
    let mut rig = Rig::ready();
    let before = rig.signals.queue.load(Ordering::SeqCst);
    rig.control(0, event::PORT_OPEN, 1);
    rig.console.type_in(b"x");
    assert_eq!(rig.read(0, 1), b"x");
    wait_for("the interrupt", || rig.signals.queue_count() > before);
}

#[test]
fn a_driver_gone_mad_harms_nobody_but_itself() {
    let mut random = Random(0x5eed_0002);
    for round in 0..40 {
        let features = random.pick(&[VERSION_1, MULTIPORT]);
        let mut rig = Rig::new(features);
        for _ in 0..20 {
            let garbage = message(
                random.below(5) as usize,
                random.below(9) as u16,
                random.below(3) as u16,
                &random.next().to_le_bytes(),
            );
            rig.ram.write_slice(0x20_0000, &garbage).unwrap();
            rig.console.type_in(b"some input");
            rig.agent.inject(b"more input");
            for queue in 0..8 {
                submit_garbage(&mut rig.queues[queue], &mut random);
                rig.kick(queue);
            }
        }
        let how = random.pick(&[Stop::Deliver, Stop::Discard]);
        let progress = std::mem::take(&mut rig.workers).stop(how).progress;
        let queues = if features == MULTIPORT { 8 } else { 2 };
        assert_eq!(progress.len(), queues, "round {round}: the worker still lived");
    }
}
