use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::*;
use crate::io_thread::{IoThread, Running, Stop};
use crate::virtio::rig::wait_for;

struct Rig {
    device: Arc<Chardev>,
    thread: Arc<IoThread>,
    worker: Running<ChardevWorker>,
}

fn rig() -> Rig {
    let device = Chardev::new("serial0").unwrap();
    let thread = IoThread::spawn("io:test", || Ok(())).unwrap();
    let worker = thread.add(device.worker()).unwrap();
    Rig { device, thread, worker }
}

impl Rig {
    fn client(&self, replay: bool) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.device.attach(theirs.into(), replay).unwrap();
        ours
    }

    fn stop(self) {
        self.worker.stop(Stop::Deliver).unwrap();
        drop(self.thread);
    }
}

fn expect(stream: &mut impl Read, expected: &[u8]) {
    let mut data = vec![0; expected.len()];
    stream.read_exact(&mut data).unwrap();
    assert_eq!(data, expected);
}

#[test]
fn every_client_sees_the_output() {
    let rig = rig();
    let (mut one, mut two) = (rig.client(false), rig.client(false));
    rig.device.output(b"hello");
    expect(&mut one, b"hello");
    expect(&mut two, b"hello");
    rig.stop();
}

#[test]
fn a_late_client_gets_the_history_if_it_wants_it() {
    let rig = rig();
    rig.device.output(b"boot ");
    let (mut with, mut without) = (rig.client(true), rig.client(false));
    rig.device.output(b"login:");
    expect(&mut with, b"boot login:");
    expect(&mut without, b"login:");
    assert_eq!(rig.device.history(), b"boot login:");
    rig.stop();
}

#[test]
fn a_client_that_never_reads_loses_the_oldest_bytes_and_blocks_nobody() {
    let rig = rig();
    let (mut lazy, mut eager) = (rig.client(false), rig.client(false));
    let line = [b'x'; 1024];
    for _ in 0..1024 {
        rig.device.output(&line);
        expect(&mut eager, &line);
    }
    rig.device.output(b"END");
    expect(&mut eager, b"END");
    let mut rest = Vec::new();
    while !rest.ends_with(b"END") {
        let mut data = [0; 4096];
        let count = lazy.read(&mut data).unwrap();
        rest.extend_from_slice(&data[..count]);
    }
    let lost = rig.device.lost();
    assert!(lost > 0);
    assert_eq!(rest.len() as u64 + lost, (1 << 20) + 3);
    rig.stop();
}

#[test]
fn a_flood_of_input_waits_for_the_guest() {
    let rig = rig();
    let mut client = rig.client(false);
    let flood: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    let writer = std::thread::spawn({
        let flood = flood.clone();
        move || client.write_all(&flood).map(|()| client)
    });
    let mut got = Vec::new();
    wait_for("all of the input", || {
        let mut data = [0; 100];
        let count = rig.device.input(&mut data);
        assert!(rig.device.shared_len() <= 8 << 10, "the queue is bounded");
        got.extend_from_slice(&data[..count]);
        while count == data.len() && got.len() < flood.len() {
            let count = rig.device.input(&mut data);
            got.extend_from_slice(&data[..count]);
            if count == 0 {
                break;
            }
        }
        got.len() == flood.len()
    });
    assert_eq!(got, flood);
    writer.join().unwrap().unwrap();
    rig.stop();
}

impl Chardev {
    fn shared_len(&self) -> usize {
        use crate::sync::Lock;
        self.shared.hold().input.len()
    }
}

#[derive(Default)]
struct Listener {
    inputs: AtomicU32,
    connections: AtomicU32,
}

impl InputListener for Listener {
    fn input_available(&self) {
        self.inputs.fetch_add(1, Ordering::SeqCst);
    }
    fn connection_changed(&self, connected: bool) {
        let by = if connected { 1 } else { u32::MAX };
        self.connections.fetch_add(by, Ordering::SeqCst);
    }
}

#[test]
fn the_device_hears_of_input_and_of_who_is_there() {
    let rig = rig();
    let listener = Arc::new(Listener::default());
    let weak: Weak<dyn InputListener> =
        Arc::downgrade(&(listener.clone() as Arc<dyn InputListener>));
    rig.device.listen(weak);
    let mut client = rig.client(false);
    wait_for("the connection", || listener.connections.load(Ordering::SeqCst) == 1);
    assert!(rig.device.is_connected());
    client.write_all(b"x").unwrap();
    wait_for("input", || listener.inputs.load(Ordering::SeqCst) == 1);
    drop(client);
    wait_for("the end", || listener.connections.load(Ordering::SeqCst) == 0);
    assert!(!rig.device.is_connected());
    rig.stop();
}

#[test]
fn a_detached_client_sees_the_end() {
    let rig = rig();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let id = rig.device.attach(theirs.into(), false).unwrap();
    rig.device.detach(id);
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    rig.stop();
}

#[test]
fn a_listener_lets_clients_in_one_after_the_other() {
    let rig = rig();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rig.device.attach_listener(listener.into()).unwrap();
    let mut first = UnixStream::connect(&path).unwrap();
    wait_for("the first client", || rig.device.is_connected());
    rig.device.output(b"one");
    expect(&mut first, b"one");
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(b"early").unwrap();
    rig.device.output(b"two");
    expect(&mut first, b"two");
    assert_eq!(rig.device.input(&mut [0; 8]), 0, "it waits");
    drop(first);
    let mut got = Vec::new();
    wait_for("the second client", || {
        let mut data = [0; 8];
        let count = rig.device.input(&mut data);
        got.extend_from_slice(&data[..count]);
        got == b"early"
    });
    rig.device.output(b"three");
    expect(&mut second, b"three");
    rig.stop();
}

#[test]
fn who_hung_up_counts_as_gone_before_the_worker_looks() {
    let device = Chardev::new("serial0").unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = device.attach(theirs.into(), false).unwrap();
    assert!(device.is_attached(client));
    drop(ours);
    assert!(!device.is_attached(client));
}

#[test]
fn a_log_file_gets_everything_up_to_the_last_word() {
    let rig = rig();
    let file = tempfile::tempfile().unwrap();
    rig.device.attach_log(OwnedFd::from(file.try_clone().unwrap()), Vec::new()).unwrap();
    for _ in 0..100 {
        rig.device.output(b"0123456789");
    }
    rig.stop();
    use std::os::unix::fs::FileExt;
    let mut data = vec![0; 1001];
    assert_eq!(file.read_at(&mut data, 0).unwrap(), 1000);
}

#[test]
fn a_pty_carries_bytes_unchanged_both_ways_whoever_has_it_open() {
    let rig = rig();
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let open = {
        let peer = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        move || {
            std::fs::File::options().read(true).write(true).open(peer.to_str().unwrap()).unwrap()
        }
    };
    rig.device.attach_pty(master, open().into()).unwrap();
    for _ in 0..2 {
        let mut slave = open();
        rig.device.output(b"a\nb\x04");
        expect(&mut slave, b"a\nb\x04");
        slave.write_all(b"\x03\r").unwrap();
        let mut got = Vec::new();
        wait_for("typed bytes", || {
            let mut data = [0; 8];
            let count = rig.device.input(&mut data);
            got.extend_from_slice(&data[..count]);
            got == b"\x03\r"
        });
    }
    rig.stop();
}

#[test]
fn the_guests_side_is_told_once_per_change() {
    let rig = rig();
    let changes = Arc::new(AtomicU32::new(0));
    let count = changes.clone();
    rig.device.on_guest_open(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    for open in [true, true, false] {
        rig.device.guest_opened(open);
    }
    assert_eq!(changes.load(Ordering::SeqCst), 2);
    rig.stop();
}

#[test]
fn who_is_alone_turns_others_away_until_it_goes() {
    let rig = rig();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rig.device.attach_listener(listener.into()).unwrap();
    let mut caller = UnixStream::connect(&path).unwrap();
    wait_for("the caller", || rig.device.has_caller());
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    rig.device.attach_alone(theirs.into(), false).unwrap();
    assert_eq!(caller.read(&mut [0]).unwrap(), 0, "the caller is let go");
    let mut next = UnixStream::connect(&path).unwrap();
    rig.device.output(b"answer");
    expect(&mut ours, b"answer");
    assert!(!rig.device.has_caller(), "the next one waits");
    ours.write_all(b"a question nobody waits for").unwrap();
    wait_for("the question", || rig.device.shared_len() > 0);
    drop(ours);
    wait_for("the next one", || rig.device.has_caller());
    assert_eq!(rig.device.input(&mut [0; 8]), 0, "the question is forgotten");
    rig.device.output(b"hello");
    expect(&mut next, b"hello");
    rig.stop();
}
