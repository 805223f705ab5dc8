//! The protocol over a socket pair, as good and as bad clients speak it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::time::Duration;

use management::config::Config;
use management::ops::OPERATIONS;
use management::{Access, Caller, Manager};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::admission::{Admission, Auth};
use super::connection;
use super::protocol::packet::{self, Header, KEEPALIVE, Kind, Packet, REMOTE, Status, VERSION};
use super::protocol::xdr::{CharBytes, Decode, Decoder, Encode};
use super::table::PROCEDURES;

mod old_events;
mod storm;

const OPEN: i32 = 1;
const CLOSE: i32 = 2;
const GET_TYPE: i32 = 3;
const DOMAIN_DESTROY: i32 = 12;
const LIST_ALL_DOMAINS: i32 = 273;
const REGISTER_CALLBACK: i32 = 316;
const LIMIT: usize = 32 << 20;

struct Client {
    socket: UnixStream,
    serial: u32,
    stop: tokio::sync::watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl Client {
    async fn new(access: Access) -> Self {
        Self::with(Auth::None, access).await.0
    }

    /// Of a socket that grants this, and perhaps asks for a password; and the daemon behind it.
    async fn with(auth: Auth, access: Access) -> (Self, Manager) {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            state_dir: directory.path().join("state"),
            run_dir: directory.path().join("run"),
            log_dir: directory.path().join("log"),
            ..Config::default()
        };
        let manager = Manager::open(config).await.unwrap();
        let (socket, served) = UnixStream::pair().unwrap();
        let admission = Admission { caller: Caller::new("test", access), auth, remote: None };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(connection::serve(served, manager.clone(), admission, stopped));
        (Self { socket, serial: 0, stop, _directory: directory }, manager)
    }

    /// With its connection open.
    async fn opened(access: Access) -> Self {
        let mut client = Self::new(access).await;
        let opened = client.call(OPEN, &(Some("qemu:///system"), 0)).await;
        assert_eq!(opened.header.status, Status::Ok);
        client
    }

    fn header(&mut self, procedure: i32, kind: Kind) -> Header {
        self.serial += 1;
        let (serial, status) = (self.serial, Status::Ok);
        Header { program: REMOTE, version: VERSION, procedure, kind, serial, status }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    async fn next(&mut self) -> Packet {
        packet::read(&mut self.socket, LIMIT).await.unwrap().unwrap()
    }

    async fn call(&mut self, procedure: i32, arguments: &impl Encode) -> Packet {
        let header = self.header(procedure, Kind::Call);
        self.send(&packet::encode(header, arguments)).await;
        let answer = self.next().await;
        assert_eq!(answer.header, header.answered(Kind::Reply, answer.header.status));
        answer
    }

    /// libvirt's code, its domain, and the message.
    async fn refused(&mut self, procedure: i32, arguments: &impl Encode) -> (i32, i32, String) {
        failure(&self.call(procedure, arguments).await)
    }

    async fn is_alive(&mut self) -> bool {
        let answer = self.call(GET_TYPE, &()).await;
        String::decode(&mut Decoder::new(&answer.payload)).is_ok_and(|name| name == "QEMU")
    }

    /// The other side has closed.
    async fn is_closed(&mut self) -> bool {
        !matches!(packet::read(&mut self.socket, LIMIT).await, Ok(Some(_)))
    }
}

fn failure(answer: &Packet) -> (i32, i32, String) {
    assert_eq!(answer.header.status, Status::Error, "{answer:?}");
    let (code, domain, message, level) =
        <(i32, i32, Option<String>, i32)>::decode(&mut Decoder::new(&answer.payload)).unwrap();
    assert_eq!(level, 2);
    (code, domain, message.unwrap())
}

/// Arguments of any procedure: no strings, no lists, the UUID of nothing.
const ZEROS: [u32; 64] = [0; 64];

struct Words(&'static [u32]);

impl Encode for Words {
    fn encode(&self, to: &mut Vec<u8>) {
        self.0.iter().for_each(|word| word.encode(to));
    }
}

#[tokio::test]
async fn what_is_not_known_is_refused_and_the_connection_goes_on() {
    let mut client = Client::opened(Access::Admin).await;
    for number in [0, -1, 62, 9999] {
        let (code, domain, message) = client.refused(number, &()).await;
        assert_eq!((code, domain), (39, 13), "{number}");
        assert!(message.starts_with("unknown procedure"), "{message}");
    }
    // Known, and never carried out.
    let (code, _, message) = client.refused(131, &()).await;
    assert_eq!(code, 3);
    assert!(message.ends_with("changed by what configures the host's network"), "{message}");
    let call = client.header(GET_TYPE, Kind::Call);
    for header in [
        Header { program: 0x1234, ..call },
        Header { version: 2, ..call },
        Header { program: 0x2000_8087, ..call },
    ] {
        client.send(&packet::encode(header, &())).await;
        assert_eq!(failure(&client.next().await).0, 39);
    }
    assert!(client.is_alive().await);
}

#[tokio::test]
async fn nothing_is_done_before_the_connection_is_open() {
    let mut client = Client::new(Access::Admin).await;
    for procedure in PROCEDURES.iter().filter(|p| !matches!(p.number, 1 | 60 | 66..=69)) {
        assert_eq!(client.refused(procedure.number, &Words(&ZEROS)).await.0, 1);
    }
    assert_eq!(client.refused(OPEN, &(Some("xen:///"), 0)).await.0, 5);
    assert_eq!(client.refused(OPEN, &(Some("qemu:///system"), 8)).await.0, 8);
    // As virsh opens a session.
    assert_eq!(client.call(OPEN, &(Some("qemu:///session"), 6)).await.header.status, Status::Ok);
    assert_eq!(client.refused(OPEN, &(Some(""), 0)).await.0, 55);
    assert!(client.is_alive().await);
    client.call(CLOSE, &()).await;
    assert_eq!(client.refused(GET_TYPE, &()).await.0, 1);
}

#[tokio::test]
async fn frames_that_lie_end_the_connection() {
    let whole = packet::encode(Header::message(KEEPALIVE, 1), &());
    let mut wrong_kind = whole.clone();
    wrong_kind[19] = 77;
    for bytes in [vec![0; 8], vec![0xff; 8], b"GET / HTTP/1.1\r\n\r\n".to_vec(), wrong_kind] {
        let mut client = Client::opened(Access::Admin).await;
        client.send(&bytes).await;
        assert!(client.is_closed().await, "{bytes:?}");
    }
    // Lengths that no packet has, with as many bytes as a head has.
    for length in [0, 3, 4, 27, (32 << 20) + 5, 1 << 31, u32::MAX - 3, u32::MAX] {
        let mut client = Client::opened(Access::Admin).await;
        client.send(&[&length.to_be_bytes()[..], &whole[4..]].concat()).await;
        assert!(client.is_closed().await, "{length}");
    }
}

#[tokio::test]
async fn arguments_that_lie_are_refused_and_the_connection_goes_on() {
    let mut client = Client::opened(Access::Admin).await;
    for arguments in [&[][..], &[0xffff_ffff], &[0x0030_0000, 1], &[4, u32::MAX]] {
        let header = client.header(11, Kind::Call);
        let mut payload = Vec::new();
        arguments.iter().for_each(|word| word.encode(&mut payload));
        client.send(&packet::encode_raw(header, &payload)).await;
        assert_eq!(failure(&client.next().await).0, 39, "{arguments:?}");
    }
    // As many domains as fit into no message.
    assert_eq!(client.refused(344, &Words(&[16384, 1])).await.0, 39);
    assert!(client.is_alive().await);
}

#[tokio::test]
async fn streams_that_nobody_opened_are_not_listened_to() {
    let mut client = Client::opened(Access::Admin).await;
    for kind in [Kind::Stream, Kind::StreamHole, Kind::Reply, Kind::ReplyWithFiles] {
        for status in [Status::Ok, Status::Error, Status::Continue] {
            let header = Header { status, ..client.header(201, kind) };
            client.send(&packet::encode(header, &"bytes")).await;
        }
    }
    assert!(client.is_alive().await);
}

/// Descriptors of one pipe's end, so many, each beside a byte of its own.
async fn pass(client: &Client, count: usize) -> tokio::net::unix::pipe::Receiver {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    for _ in 0..count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (files, mut ancillary) = ([theirs.as_fd()], SendAncillaryBuffer::new(&mut space));
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        let send = || {
            let byte = [IoSlice::new(&[0])];
            Ok(sendmsg(&client.socket, &byte, &mut ancillary, SendFlags::NOSIGNAL)?)
        };
        client.socket.async_io(Interest::WRITABLE, send).await.unwrap();
    }
    tokio::net::unix::pipe::Receiver::from_owned_fd(ours).unwrap()
}

#[tokio::test]
async fn descriptors_are_taken_by_what_needs_one_and_closed_else() {
    const OPEN_GRAPHICS: i32 = 249;
    const NO_SUPPORT: i32 = 3;
    for (access, procedure, count, code) in [
        (Access::Admin, OPEN_GRAPHICS, 1, 42),
        (Access::Admin, OPEN_GRAPHICS, 2, 8),
        (Access::Admin, GET_TYPE, 1, NO_SUPPORT),
        (Access::Admin, 310, 0, 42),
        (Access::Admin, 9999, 3, 39),
        (Access::Read, OPEN_GRAPHICS, 1, 29),
    ] {
        let mut client = Client::opened(access).await;
        let header = client.header(procedure, Kind::CallWithFiles);
        client.send(&packet::encode_with_files(header, count, &[0; 256])).await;
        let mut pipe = pass(&client, count).await;
        assert_eq!(failure(&client.next().await).0, code, "{access:?} {procedure} {count}");
        // Nobody holds the other end of it.
        let read = tokio::time::timeout(Duration::from_secs(5), pipe.read(&mut [0])).await;
        assert_eq!(read.unwrap().unwrap(), 0, "{procedure} {count}");
        assert!(client.is_alive().await);
    }
}

#[tokio::test]
async fn descriptors_that_are_not_there_end_the_connection() {
    let mut client = Client::opened(Access::Admin).await;
    let header = client.header(249, Kind::CallWithFiles);
    client.send(&packet::encode_with_files(header, 33, &[0; 256])).await;
    assert!(client.is_closed().await);
    let mut client = Client::opened(Access::Admin).await;
    let header = client.header(249, Kind::CallWithFiles);
    client.send(&packet::encode_with_files(header, 1, &[0; 256])).await;
    client.send(&[0]).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_ping_is_answered() {
    let mut client = Client::opened(Access::Read).await;
    client.send(&packet::encode(Header::message(KEEPALIVE, 1), &())).await;
    assert_eq!(client.next().await.header, Header::message(KEEPALIVE, 2));
}

#[tokio::test]
async fn without_a_password_nothing_is_said_where_one_is_asked_for() {
    const AUTH: i32 = 45;
    let (mut client, manager) = Client::with(Auth::Sasl, Access::Control).await;
    for procedure in PROCEDURES.iter().filter(|p| !(66..=69).contains(&p.number)) {
        assert_eq!(client.refused(procedure.number, &Words(&ZEROS)).await.0, AUTH);
    }
    let ways = client.call(66, &()).await;
    assert_eq!(Vec::<i32>::decode(&mut Decoder::new(&ways.payload)), Ok(vec![1]));
    // Out of turn.
    assert_eq!(client.refused(69, &(0, CharBytes(vec![]))).await.0, AUTH);
    assert_eq!(client.call(67, &()).await.header.status, Status::Ok);
    assert_eq!(client.refused(67, &()).await.0, AUTH);
    assert_eq!(client.refused(68, &("PLAIN", 0, CharBytes(vec![]))).await.0, AUTH);
    let first = CharBytes(b"n,,n=alice,r=abc".to_vec());
    let asked = client.call(68, &("SCRAM-SHA-256", 0, first)).await;
    let (complete, nothing, asked) =
        <(bool, i32, CharBytes)>::decode(&mut Decoder::new(&asked.payload)).unwrap();
    assert!(!complete && nothing == 0 && asked.0.starts_with(b"r=abc"));
    let nonce = String::from_utf8(asked.0).unwrap();
    let nonce = nonce.split(',').next().unwrap();
    let proof = CharBytes(format!("c=biws,{nonce},p={}=", "A".repeat(43)).into_bytes());
    let (code, _, message) = client.refused(69, &(0, proof.clone())).await;
    assert_eq!(
        (code, message.contains("user or the password is wrong")),
        (AUTH, true),
        "{message}"
    );
    // No second try.
    assert_eq!(client.refused(69, &(0, proof)).await.0, AUTH);
    assert_eq!(client.refused(67, &()).await.0, AUTH);
    let log = management::ops::GetAudit { after: None, limit: 10, wait: Duration::ZERO };
    let log = manager.call(&Caller::daemon(), log).await.unwrap();
    assert!(format!("{log:?}").contains("authenticate"), "{log:?}");
}

/// A client that said that it answers pings, and does not.
#[tokio::test(start_paused = true)]
async fn who_does_not_answer_pings_is_gone() {
    const FEATURE: i32 = 60;
    const KEEPALIVE_FEATURE: i32 = 10;
    let mut client = Client::opened(Access::Read).await;
    client.call(FEATURE, &KEEPALIVE_FEATURE).await;
    let ping = Header::message(KEEPALIVE, 1);
    for _ in 0..7 {
        assert_eq!(client.next().await.header, ping);
        client.send(&packet::encode(Header::message(KEEPALIVE, 2), &())).await;
    }
    for _ in 0..5 {
        assert_eq!(client.next().await.header, ping);
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn who_wants_to_know_hears_that_the_daemon_goes() {
    let mut client = Client::opened(Access::Read).await;
    assert_eq!(client.refused(361, &()).await.0, 55);
    assert_eq!(client.call(360, &()).await.header.status, Status::Ok);
    assert_eq!(client.refused(360, &()).await.0, 55);
    client.stop.send_replace(true);
    let told = client.next().await;
    assert_eq!(told.header, Header::message(REMOTE, 362));
    assert!(client.is_closed().await);
}

/// The table of operations says what each procedure needs, and that is what it needs.
#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    const DENIED: i32 = 29;
    /// Before anybody was asked: zeros make no sense here.
    const INVALID: i32 = 8;
    let access = |name: &&str| OPERATIONS.iter().find(|row| row.operation == *name).unwrap().access;
    let mut asked = Client::new(Access::Admin).await;
    let opened = asked.call(OPEN, &(Some("qemu:///system"), 1)).await;
    assert_eq!(opened.header.status, Status::Ok);
    let reader = Client::opened(Access::Read).await;
    for mut client in [reader, asked] {
        let mut denied = 0;
        for procedure in PROCEDURES {
            let reads = procedure.operations.iter().any(|name| access(name) == Access::Read);
            if reads || procedure.operations.is_empty() {
                continue;
            }
            let (code, _, message) = client.refused(procedure.number, &Words(&ZEROS)).await;
            assert!(matches!(code, DENIED | INVALID), "{}: {message}", procedure.name);
            denied += usize::from(code == DENIED);
        }
        assert!(denied > 50, "{denied}");
        assert!(client.is_alive().await);
    }
}

#[tokio::test]
async fn who_may_only_look_has_little_to_say() {
    let mut client = Client::opened(Access::Read).await;
    client.send(&((64 << 10) + 4_u32).to_be_bytes()).await;
    assert!(client.is_closed().await);
    let mut client = Client::opened(Access::Admin).await;
    let long = "x".repeat(1 << 20);
    assert_eq!(client.refused(23, &long).await.0, 42);
}

#[tokio::test]
async fn what_is_not_there_is_called_by_libvirts_numbers() {
    let mut client = Client::opened(Access::Admin).await;
    for (procedure, code) in [(23, 42), (46, 43), (84, 49), (96, 50)] {
        let (found, _, message) = client.refused(procedure, &"nothing").await;
        assert_eq!(found, code, "{message}");
    }
    assert_eq!(client.refused(DOMAIN_DESTROY, &Words(&ZEROS)).await.0, 42);
    assert_eq!(client.refused(11, &"<domain/>").await.0, 27);
    assert_eq!(client.refused(LIST_ALL_DOMAINS, &(1, 1_u32 << 30)).await.0, 8);
}

#[tokio::test]
async fn callbacks_are_numbered_and_bounded() {
    let mut client = Client::opened(Access::Read).await;
    let nothing: Option<String> = None;
    for number in 0..256 {
        let answer = client.call(REGISTER_CALLBACK, &(number % 27, nothing.clone())).await;
        assert_eq!(i32::decode(&mut Decoder::new(&answer.payload)), Ok(number));
    }
    assert_eq!(client.refused(REGISTER_CALLBACK, &(0, nothing.clone())).await.0, 55);
    assert_eq!(client.refused(REGISTER_CALLBACK, &(27, nothing)).await.0, 8);
    assert_eq!(client.call(317, &3).await.header.status, Status::Ok);
    assert_eq!(client.refused(317, &3).await.0, 8);
}

/// A call that takes long does not hold up one that does not.
#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    let mut client = Client::opened(Access::Read).await;
    let mut waiting = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let header = client.header(LIST_ALL_DOMAINS, Kind::Call);
        client.send(&packet::encode(header, &(1, 0))).await;
        waiting.insert(header.serial);
    }
    while !waiting.is_empty() {
        let answer = client.next().await;
        assert!(waiting.remove(&answer.header.serial), "{answer:?}");
    }
}

/// What libvirt calls a close callback, 362 on the wire, is the only way to say it.
#[tokio::test]
async fn who_missed_events_is_told_and_let_go() {
    let (_client, manager) = Client::with(Auth::None, Access::Read).await;
    let (outgoing, mut sent) = tokio::sync::mpsc::channel(4);
    let admission = Admission::known(Caller::new("test", Access::Read));
    let session = super::session::Session::new(manager, admission, outgoing, false);
    session.tell_of_closing(true).unwrap();
    let kind = management::events::EventKind::Lost { up_to: 7 };
    let time = "2026-01-01T00:00:00Z".parse().unwrap();
    let lost = management::events::Event { id: 7, time, domain: None, kind };
    assert!(super::events::tell(&session, &lost).await.is_err());
    connection::let_go(&session).await;
    let told = sent.recv().await.unwrap().packet;
    let told = packet::read(&mut told.as_slice(), LIMIT).await.unwrap().unwrap();
    assert_eq!(told.header, Header::message(REMOTE, 362));
}

/// Its socket takes no more, and after a while nobody waits for it any longer; others hear of all.
#[tokio::test(start_paused = true)]
async fn who_never_reads_its_events_is_let_go() {
    use management::ops::DefineDomain;
    let (mut client, manager) = Client::with(Auth::None, Access::Admin).await;
    client.call(OPEN, &(Some("qemu:///system"), 0)).await;
    let nothing: Option<String> = None;
    for _ in 0..256 {
        client.call(REGISTER_CALLBACK, &(0, nothing.clone())).await;
    }
    let caller = Caller::new("test", Access::Admin);
    for number in 0..60 {
        let xml = format!(
            "<domain type='kvm'><name>d{number}</name><memory unit='MiB'>64</memory>\
             <os><type>hvm</type><kernel>/nonexistent</kernel></os></domain>"
        );
        let define = DefineDomain { xml, cloud_init: None, check_only: false };
        manager.call(&caller, define).await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    client.stop.closed().await;
    assert!(begun.elapsed() < Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn a_packet_that_trickles_in_is_given_up() {
    let mut client = Client::opened(Access::Admin).await;
    let packet = packet::encode(client.header(GET_TYPE, Kind::Call), &());
    let begun = tokio::time::Instant::now();
    let mut sent = 0;
    for byte in packet.iter().cycle() {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if client.socket.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < packet.len(), "{sent} bytes of a packet were waited for");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert!(client.is_closed().await);
}
