use std::io::{BufRead as _, BufReader, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use memory::GuestRam;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::connection::ROOM;
use super::packet::{
    HOST_CID, Header, LEN, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM, op,
};
use super::*;
use crate::component::Component;
use crate::io_thread::IoThread;
use crate::virtio::rig::driver::{DEVICE, Driver, NEEDS_RESET};
use crate::virtio::rig::{GuestQueue, Random, ram, submit_garbage, wait_for};
use crate::virtio::vsock::Vsock;

const CID: u64 = 3;
const RINGS: [u64; 3] = [0x10000, 0x20000, 0x30000];
const RECEIVE: u64 = 0x10_0000;
const TRANSMIT: u64 = 0x20_0000;
const BUFFER: u32 = 4096;

/// A guest that speaks the protocol, or breaks it.
struct Guest {
    ram: GuestRam,
    driver: Driver,
    queues: Vec<GuestQueue>,
    path: PathBuf,
    _dir: tempfile::TempDir,
    /// Place of the next packet in its ring of buffers.
    sent: u64,
    /// Addresses of receive buffers in the order they were offered.
    offered: std::collections::VecDeque<u64>,
    received: Vec<(Header, Vec<u8>)>,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vsock");
        let ram = ram();
        let driver = Driver::new(&ram, device(&path));
        let queues: Vec<_> = RINGS.iter().map(|base| GuestQueue::new(&ram, *base, 64)).collect();
        driver.bring_up(0, &queues.iter().collect::<Vec<_>>());
        let mut guest = Self {
            ram,
            driver,
            queues,
            path,
            _dir: dir,
            sent: 0,
            offered: std::collections::VecDeque::new(),
            received: Vec::new(),
        };
        for index in 0..16 {
            guest.offer(RECEIVE + 0x1_0000 * index);
        }
        guest
    }

    fn offer(&mut self, at: u64) {
        self.queues[0].submit(&[], &[(at, BUFFER)]);
        self.offered.push_back(at);
        self.driver.kick(0);
    }

    fn header(&self, ports: (u32, u32), op: u16) -> Header {
        Header {
            source_cid: CID,
            destination_cid: HOST_CID,
            source_port: ports.0,
            destination_port: ports.1,
            kind: TYPE_STREAM,
            op,
            buffer: 1 << 20,
            ..Header::default()
        }
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        let at = TRANSMIT + 0x2_0000 * (self.sent % 8);
        self.sent += 1;
        self.ram.write_slice(at, &header.bytes()).unwrap();
        self.ram.write_slice(at + LEN as u64, data).unwrap();
        self.queues[1].submit(&[(at, (LEN + data.len()) as u32)], &[]);
        self.driver.kick(1);
        wait_for("the packet to be taken", || {
            let taken = self.queues[1].used();
            !taken.is_empty()
        });
    }

    fn say(&mut self, ports: (u32, u32), op: u16, data: &[u8]) {
        let header = Header { len: data.len() as u32, ..self.header(ports, op) };
        self.send(header, data);
    }

    /// Collect what came, and offer the buffers anew.
    fn collect(&mut self) {
        for (_, written) in self.queues[0].used() {
            let at = self.offered.pop_front().unwrap();
            let mut bytes = vec![0; written as usize];
            self.ram.read_slice(at, &mut bytes).unwrap();
            let header = Header::parse(bytes[..LEN].try_into().unwrap());
            assert_eq!(header.len as usize, bytes.len() - LEN);
            assert_eq!((header.source_cid, header.destination_cid), (HOST_CID, CID));
            self.received.push((header, bytes[LEN..].to_vec()));
            self.offer(at);
        }
    }

    /// The next packet, whatever it is.
    fn next(&mut self) -> (Header, Vec<u8>) {
        wait_for("a packet", || {
            self.collect();
            !self.received.is_empty()
        });
        self.received.remove(0)
    }

    fn expect(&mut self, op: u16) -> (Header, Vec<u8>) {
        let next = self.next();
        assert_eq!(next.0.op, op, "{next:?}");
        next
    }

    fn dial(&self, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream
    }

    /// A stream to the guest's port 5000, and the ports it has.
    fn connected(&mut self) -> (UnixStream, (u32, u32)) {
        let mut stream = self.dial("CONNECT 5000\n");
        let (request, _) = self.expect(op::REQUEST);
        assert_eq!(request.destination_port, 5000);
        let ports = (5000, request.source_port);
        self.say(ports, op::RESPONSE, b"");
        assert_eq!(line(&mut stream), format!("OK {}\n", ports.1));
        (stream, ports)
    }
}

fn device(path: &std::path::Path) -> Vsock {
    let listener = UnixListener::bind(path).unwrap();
    let sockets = Sockets::new(listener.into(), CID as u32).unwrap();
    Vsock::through(CID as u32, sockets, IoThread::spawn("io:vsock", || Ok(())).unwrap())
}

/// One line, and nothing after it.
fn line(stream: &mut UnixStream) -> String {
    let mut line = String::new();
    let mut byte = [0];
    while !line.ends_with('\n') && stream.read(&mut byte).unwrap() == 1 {
        line.push(byte[0].into());
    }
    line
}

/// A line with a socket.
fn accepted(listener: &UnixStream) -> (String, UnixStream) {
    let mut text = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let count = recvmsg(listener, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let line = String::from_utf8(text[..count].to_vec()).unwrap();
    (line, socket.unwrap().into())
}

#[test]
fn a_program_of_the_host_reaches_a_port_of_the_guest() {
    let mut guest = Guest::new();
    assert_eq!((guest.driver.read(DEVICE, 8), guest.driver.offered() & 2), (CID, 0));
    let (mut stream, ports) = guest.connected();
    stream.write_all(b"hello").unwrap();
    let (packet, data) = guest.expect(op::DATA);
    assert_eq!(
        (packet.source_port, packet.destination_port, &data[..]),
        (ports.1, 5000, &b"hello"[..])
    );
    guest.say(ports, op::DATA, b"welcome");
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"welcome");
}

#[test]
fn the_guest_reaches_who_listens_and_nobody_else() {
    let mut guest = Guest::new();
    guest.say((4242, 5001), op::REQUEST, b"");
    guest.expect(op::RESET);
    let mut listener = guest.dial("LISTEN 5001\n");
    assert_eq!(line(&mut listener), "OK 5001\n");
    assert_eq!(line(&mut guest.dial("listen 5001\r\n")), "ERROR somebody listens there already\n");
    guest.say((4242, 5001), op::REQUEST, b"");
    let (response, _) = guest.expect(op::RESPONSE);
    assert_eq!((response.source_port, response.destination_port), (5001, 4242));
    let (text, mut stream) = accepted(&listener);
    assert_eq!(text, "ACCEPT 4242\n");
    guest.say((4242, 5001), op::DATA, b"to the host");
    let mut heard = [0; 11];
    stream.read_exact(&mut heard).unwrap();
    stream.write_all(&heard).unwrap();
    assert_eq!(guest.expect(op::DATA).1, b"to the host");
    drop(listener);
    wait_for("the port to be nobody's", || {
        guest.say((4243, 5001), op::REQUEST, b"");
        guest.next().0.op == op::RESET
    });
}

#[test]
fn a_program_that_says_nonsense_is_told_what_to_say() {
    let guest = Guest::new();
    for nonsense in ["GET / HTTP/1.1\r\n", "CONNECT\n", "CONNECT 99999999999\n", &"x".repeat(64)] {
        let mut stream = guest.dial(nonsense);
        assert_eq!(line(&mut stream), "ERROR say CONNECT PORT or LISTEN PORT\n", "{nonsense}");
    }
    // Whoever says nothing has to go when others come.
    let mut silent = guest.dial("");
    let _others: Vec<_> = (0..80).map(|_| guest.dial("CONN")).collect();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_either_side_has_no_room_for_waits_with_the_other() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.connected();
    // The guest takes ten bytes, and then more.
    let credit = |guest: &Guest, buffer, forwarded| Header {
        buffer,
        forwarded,
        ..guest.header(ports, op::CREDIT_UPDATE)
    };
    guest.send(credit(&guest, 10, 0), b"");
    stream.write_all(b"0123456789abcdef").unwrap();
    assert_eq!(guest.expect(op::DATA).1, b"0123456789");
    std::thread::sleep(Duration::from_millis(50));
    guest.collect();
    assert!(guest.received.is_empty(), "{:?}", guest.received);
    guest.send(credit(&guest, 10, 10), b"");
    assert_eq!(guest.expect(op::DATA).1, b"abcdef");

    // Nobody reads here: the guest may send until what it was told is used up.
    let mut taken = 0_u32;
    let mut told = 0;
    let block = vec![7; 32 << 10];
    loop {
        guest.collect();
        for (header, _) in guest.received.drain(..) {
            told = header.forwarded;
        }
        if taken - told + block.len() as u32 > ROOM {
            std::thread::sleep(Duration::from_millis(20));
            guest.say(ports, op::CREDIT_REQUEST, b"");
            told = guest.expect(op::CREDIT_UPDATE).0.forwarded;
            if taken - told + block.len() as u32 > ROOM {
                break;
            }
        }
        guest.say(ports, op::DATA, &block);
        taken += block.len() as u32;
    }
    // One byte more than it was told ends the connection, and only that.
    let most = ROOM - (taken - told) + 1;
    let before = taken;
    guest.say(ports, op::DATA, &vec![7; most as usize]);
    guest.expect(op::RESET);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert!(all.len() as u32 <= before);
    guest.connected();
}

#[test]
fn an_end_of_one_direction_leaves_the_other() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.connected();
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(op::DATA).1, b"question");
    assert_eq!(guest.expect(op::SHUTDOWN).0.flags, SHUTDOWN_SEND);
    guest.say(ports, op::DATA, b"answer\n");
    assert_eq!(line(&mut stream), "answer\n");
    let both = Header { flags: SHUTDOWN_BOTH, ..guest.header(ports, op::SHUTDOWN) };
    guest.send(both, b"");
    guest.expect(op::RESET);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);

    let (mut stream, ports) = guest.connected();
    let sender = Header { flags: SHUTDOWN_SEND, ..guest.header(ports, op::SHUTDOWN) };
    guest.say(ports, op::DATA, b"all\n");
    guest.send(sender, b"");
    let mut all = String::new();
    BufReader::new(&mut stream).read_line(&mut all).unwrap();
    assert_eq!((&all[..], stream.read(&mut [0]).unwrap()), ("all\n", 0));
    stream.write_all(b"more").unwrap();
    assert_eq!(guest.expect(op::DATA).1, b"more");
    let flags = |guest: &mut Guest| guest.expect(op::SHUTDOWN).0.flags;
    drop(stream);
    let mut told = flags(&mut guest);
    if told != SHUTDOWN_BOTH {
        told |= flags(&mut guest);
    }
    assert_eq!(told & SHUTDOWN_RECEIVE, SHUTDOWN_RECEIVE);
}

#[test]
fn packets_that_make_no_sense_are_answered_with_a_reset_or_not_at_all() {
    let mut guest = Guest::new();
    let (mut stream, ports) = guest.connected();
    // Of somebody else: dropped.
    let spoofed = Header { source_cid: 7, len: 3, ..guest.header(ports, op::DATA) };
    guest.send(spoofed, b"bad");
    let strange: [(&str, Header); 5] = [
        ("another type", Header { kind: 9, ..guest.header((1, 2), op::REQUEST) }),
        ("another guest", Header { destination_cid: 9, ..guest.header((1, 2), op::REQUEST) }),
        ("no such operation", guest.header((1, 2), 77)),
        ("data of no connection", guest.header((1, 2), op::DATA)),
        ("an answer to nothing", guest.header((1, 2), op::RESPONSE)),
    ];
    for (what, header) in strange {
        guest.send(header, b"");
        assert_eq!(guest.next().0.op, op::RESET, "{what}");
    }
    // A reset is never answered.
    guest.send(guest.header((1, 2), op::RESET), b"");
    // More than there is.
    stream.write_all(b"still here").unwrap();
    assert_eq!(guest.expect(op::DATA).1, b"still here");
    let long = Header { len: 4000, ..guest.header(ports, op::DATA) };
    guest.send(long, b"short");
    guest.expect(op::RESET);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "nothing of it arrived");
    assert_eq!(guest.driver.status() & NEEDS_RESET, 0);
}

#[test]
fn a_flood_of_connections_ends_at_a_bound() {
    let mut guest = Guest::new();
    let mut listener = guest.dial("LISTEN 1\n");
    assert_eq!(line(&mut listener), "OK 1\n");
    let listener = Reader::of(listener);
    let (mut taken, mut refused) = (0, 0);
    for port in 0..1200 {
        guest.say((port, 1), op::REQUEST, b"");
        match guest.next().0.op {
            op::RESPONSE => taken += 1,
            op::RESET => refused += 1,
            other => panic!("{other}"),
        }
    }
    // A listener that is slow for a moment loses some, too.
    assert!(taken <= 1023 && refused >= 1200 - 1023, "{taken} {refused}");
    assert!(taken > 500, "{taken}");
    guest.say((5, 1), op::RESET, b"");
    drop(listener);
}

/// Takes what is passed to it, and keeps it.
struct Reader(Option<std::thread::JoinHandle<()>>, UnixStream);

impl Reader {
    fn of(stream: UnixStream) -> Self {
        let theirs = stream.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            let mut text = [0; 16];
            loop {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut parts = [IoSliceMut::new(&mut text)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                match recvmsg(&theirs, &mut parts, &mut control, flags) {
                    Ok(received) if received.bytes > 0 => {}
                    _ => return,
                }
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(files) = message {
                        kept.extend(files);
                    }
                }
            }
        });
        Self(Some(thread), stream)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.1.shutdown(Shutdown::Both);
        self.0.take().unwrap().join().unwrap();
    }
}

#[test]
fn connections_survive_a_pause_and_end_with_a_reset() {
    let mut guest = Guest::new();
    let mut listener = guest.dial("LISTEN 1\n");
    assert_eq!(line(&mut listener), "OK 1\n");
    let (mut stream, ports) = guest.connected();
    guest.driver.function.pause();
    stream.write_all(b"meanwhile").unwrap();
    let state = guest.driver.function.save().unwrap();
    guest.driver.function.resume();
    assert_eq!(guest.expect(op::DATA).1, b"meanwhile");
    guest.say(ports, op::DATA, b"later\n");
    assert_eq!(line(&mut stream), "later\n");

    // In another process the driver is told that they are gone.
    let event = 0x30_0000;
    guest.ram.write_obj(event, u64::MAX).unwrap();
    guest.queues[2].submit(&[], &[(event, 8)]);
    guest.driver.function.pause();
    let state = guest.driver.function.save().unwrap_or(state);
    let other = Driver::new(&guest.ram, device(&guest.path.with_extension("other")));
    other.function.restore(&state).unwrap();
    assert_eq!(other.function.save().unwrap(), state);
    other.function.resume();
    wait_for("the event", || !guest.queues[2].used().is_empty());
    assert_eq!(guest.ram.read_obj::<u64>(event).unwrap(), 0xffff_ffff_0000_0000);
    other.set_status(0);

    guest.driver.function.resume();
    guest.driver.set_status(0);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection is over");
    let fresh: Vec<_> = RINGS.iter().map(|base| GuestQueue::new(&guest.ram, *base, 64)).collect();
    guest.queues = fresh;
    guest.driver.bring_up(0, &guest.queues.iter().collect::<Vec<_>>());
    guest.offered.clear();
    guest.received.clear();
    guest.offer(RECEIVE);
    guest.say((9, 1), op::REQUEST, b"");
    guest.expect(op::RESPONSE);
    assert_eq!(accepted(&listener).0, "ACCEPT 9\n", "it still listens");
}

#[test]
fn a_driver_gone_mad_breaks_only_its_own_device() {
    let mut random = Random(42);
    for _ in 0..200 {
        let mut guest = Guest::new();
        let _program = guest.dial("CONNECT 5000\n");
        for queue in [0, 1] {
            submit_garbage(&mut guest.queues[queue], &mut random);
            guest.driver.kick(queue as u64);
        }
        guest.driver.set_status(0);
        assert_eq!(guest.driver.status(), 0);
    }
}
