//! The client against a server of the test's own: one that serves, and ones that lie.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;

use memory::{Backing, GuestRam};

use super::spec::{command, flag, info, option, reply};
use super::*;
use crate::backend::Action;

const SIZE: u64 = 8 << 20;
const ALL: u16 =
    flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::SEND_TRIM | flag::SEND_WRITE_ZEROES;

/// What a server has, and what was asked of it.
#[derive(Default)]
struct Served {
    content: Mutex<Vec<u8>>,
    commands: Mutex<Vec<(u16, u16, u64, u32)>>,
}

impl Served {
    fn new() -> Arc<Self> {
        let served = Self::default();
        *served.content.lock().unwrap() = vec![0; SIZE as usize];
        Arc::new(served)
    }

    fn commands(&self) -> Vec<(u16, u16, u64, u32)> {
        let mut commands = std::mem::take(&mut *self.commands.lock().unwrap());
        // Of the disk before, which may have said it late.
        commands.retain(|command| command.0 != command::DISCONNECT);
        commands
    }
}

/// How a server behaves.
#[derive(Clone, Copy)]
struct Manner {
    flags: u16,
    blocks: Option<[u32; 3]>,
    /// It goes after so many commands, without a word of the last one.
    commands: usize,
}

const GOOD: Manner = Manner { flags: ALL, blocks: None, commands: usize::MAX };

fn option_reply(to: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = spec::OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(to.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

fn greeting() -> Vec<u8> {
    [&b"NBDMAGICIHAVEOPT"[..], &(spec::FIXED_NEWSTYLE | spec::NO_ZEROES).to_be_bytes()].concat()
}

fn export_info(size: u64, flags: u16) -> Vec<u8> {
    let mut data = info::EXPORT.to_be_bytes().to_vec();
    data.extend(size.to_be_bytes());
    data.extend(flags.to_be_bytes());
    option_reply(option::GO, reply::INFO, &data)
}

/// A server that keeps to the protocol, on one connection.
fn serve(mut stream: UnixStream, served: &Served, manner: Manner) -> io::Result<()> {
    stream.write_all(&greeting())?;
    stream.read_exact(&mut [0; 4])?;
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    assert_eq!(&header[8..12], option::GO.to_be_bytes());
    let mut name = vec![0; u32::from_be_bytes(header[12..].try_into().unwrap()) as usize];
    stream.read_exact(&mut name)?;
    assert_eq!(&name[4..8], b"disk");
    stream.write_all(&export_info(SIZE, manner.flags))?;
    if let Some(blocks) = manner.blocks {
        let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
        data.extend(blocks.iter().flat_map(|size| size.to_be_bytes()));
        stream.write_all(&option_reply(option::GO, reply::INFO, &data))?;
    }
    stream.write_all(&option_reply(option::GO, reply::ACK, &[]))?;
    for _ in 0..manner.commands {
        let mut request = [0; 28];
        stream.read_exact(&mut request)?;
        let half = |at: usize| u16::from_be_bytes(request[at..at + 2].try_into().unwrap());
        let offset = u64::from_be_bytes(request[16..24].try_into().unwrap());
        let len = u32::from_be_bytes(request[24..].try_into().unwrap());
        let (flags, kind, range) =
            (half(4), half(6), offset as usize..offset as usize + len as usize);
        served.commands.lock().unwrap().push((kind, flags, offset, len));
        let mut answer = spec::REPLY_MAGIC.to_be_bytes().to_vec();
        answer.extend(0_u32.to_be_bytes());
        answer.extend(&request[8..16]);
        let mut content = served.content.lock().unwrap();
        match kind {
            command::READ => answer.extend(&content[range]),
            command::WRITE => stream.read_exact(&mut content[range])?,
            command::TRIM | command::WRITE_ZEROES => content[range].fill(0),
            command::FLUSH => {}
            _ => return Ok(()),
        }
        stream.write_all(&answer)?;
    }
    // The last word is not said.
    stream.read_exact(&mut [0; 28])
}

fn connection() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours.into(), theirs)
}

fn good_server(served: &Arc<Served>, manner: Manner) -> OwnedFd {
    let (ours, theirs) = connection();
    let served = served.clone();
    thread::spawn(move || serve(theirs, &served, manner));
    ours
}

/// A server that says these bytes, whatever it is told.
fn liar(bytes: Vec<u8>) -> OwnedFd {
    let (ours, mut theirs) = connection();
    thread::spawn(move || {
        let _ = theirs.write_all(&bytes);
        let _ = theirs.shutdown(std::net::Shutdown::Write);
        let _ = theirs.read_to_end(&mut Vec::new());
    });
    ours
}

fn spec(socket: OwnedFd) -> NbdSpec {
    NbdSpec {
        socket,
        export: "disk".to_owned(),
        tls: None,
        read_only: false,
        cache: Cache::Writeback,
        discard: true,
        block_size: 512,
        reconnect_delay: Duration::ZERO,
        patience: Duration::from_secs(10),
        users: 1,
        ask: Box::new(|_| {}),
        back: Box::new(|| {}),
    }
}

fn open(spec: NbdSpec) -> Result<NbdDisk, NbdError> {
    NbdDisk::open(spec, |work| Errand::start("nbd", || Ok(()), work))
}

struct Rig {
    ram: GuestRam,
    channel: Box<dyn Channel>,
    disk: NbdDisk,
}

impl Rig {
    fn new(disk: NbdDisk) -> Self {
        let ram = GuestRam::new(&[(0, 16 << 20)], &Backing::Anonymous).unwrap();
        Self { ram, channel: disk.channel(8).unwrap(), disk }
    }

    fn start(&mut self, token: u16, action: Action, offset: u64, len: u64) {
        let gpa = u64::from(token) << 20;
        let buffers = if len > 0 {
            self.ram.buffers([(gpa, len)]).unwrap()
        } else {
            self.ram.buffers([]).unwrap()
        };
        self.channel.start(token, Request { action, offset, buffers });
        self.channel.submit();
    }

    fn end(&mut self) -> Finished {
        loop {
            match self.channel.finished() {
                Some(finished) => return finished,
                None => self.channel.wait(),
            }
        }
    }

    fn run(&mut self, action: Action, offset: u64, len: u64) -> io::Result<()> {
        self.start(0, action, offset, len);
        self.end().result
    }
}

const WRITE: Action = Action::Write { durable: false };

#[test]
fn what_is_written_is_read_again_in_pieces_that_the_server_takes() {
    let served = Served::new();
    let manner = Manner { blocks: Some([512, 4096, 65536]), ..GOOD };
    let mut rig = Rig::new(open(spec(good_server(&served, manner))).unwrap());
    assert_eq!(rig.disk.info().size, SIZE);
    let data: Vec<u8> = (0..200 << 10).map(|n: u32| (n / 512) as u8).collect();
    rig.ram.write_slice(0, &data).unwrap();
    rig.run(WRITE, 1024, data.len() as u64).unwrap();
    assert_eq!(served.content.lock().unwrap()[1024..][..data.len()], data);
    let pieces: Vec<_> = served.commands().iter().map(|command| command.3).collect();
    assert_eq!(pieces, [65536, 65536, 65536, 8192]);

    rig.ram.write_slice(0, &vec![0; data.len()]).unwrap();
    rig.run(Action::Read, 1024, data.len() as u64).unwrap();
    let mut back = vec![0; data.len()];
    rig.ram.read_slice(0, &mut back).unwrap();
    assert_eq!(back, data);
}

#[test]
fn a_server_is_asked_for_what_it_can() {
    let served = Served::new();
    let actions = [
        Action::Write { durable: true },
        Action::Flush,
        Action::Discard { len: 4096 },
        Action::Zero { len: 4096, unmap: true, durable: true },
        Action::Zero { len: 4096, unmap: false, durable: false },
    ];
    let run = |flags: u16| {
        let manner = Manner { flags: flag::HAS_FLAGS | flags, ..GOOD };
        let mut rig = Rig::new(open(spec(good_server(&served, manner))).unwrap());
        for action in actions {
            let len = if matches!(action, Action::Write { .. }) { 512 } else { 0 };
            rig.run(action, 8192, len).unwrap();
        }
        served.commands()
    };
    let (fua, keep) = (command::FUA, command::NO_HOLE);
    assert_eq!(
        run(ALL),
        [
            (command::WRITE, fua, 8192, 512),
            (command::FLUSH, 0, 0, 0),
            (command::TRIM, 0, 8192, 4096),
            (command::WRITE_ZEROES, fua, 8192, 4096),
            (command::WRITE_ZEROES, keep, 8192, 4096),
        ]
    );
    let zeros = (command::WRITE, 0, 8192, 4096);
    assert_eq!(
        run(flag::SEND_FLUSH),
        [
            (command::WRITE, 0, 8192, 512),
            (command::FLUSH, 0, 0, 0),
            (command::FLUSH, 0, 0, 0),
            zeros,
            (command::FLUSH, 0, 0, 0),
            zeros,
        ]
    );
    assert_eq!(run(0), [(command::WRITE, 0, 8192, 512), zeros, zeros]);
}

/// The server goes again and again in the middle of requests; each is carried out all the same.
#[test]
fn requests_outlive_their_connection() {
    let served = Served::new();
    let manner = Manner { commands: 3, ..GOOD };
    let (asked, asks) = mpsc::channel();
    let asked = Mutex::new(asked);
    let (came_back, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (back, lost) = (came_back.clone(), count.clone());
    let disk = open(NbdSpec {
        reconnect_delay: Duration::from_secs(60),
        ask: Box::new(move |_| {
            lost.fetch_add(1, SeqCst);
            asked.lock().unwrap_or_else(PoisonError::into_inner).send(()).unwrap();
        }),
        back: Box::new(move || _ = back.fetch_add(1, SeqCst)),
        ..spec(good_server(&served, manner))
    })
    .unwrap();
    let (connector, again) = (disk.connector(), served.clone());
    thread::spawn(move || {
        while asks.recv().is_ok() {
            connector.connect(good_server(&again, manner));
        }
    });
    let mut rig = Rig::new(disk);
    for token in 0..8_u16 {
        rig.ram.write_slice(u64::from(token) << 20, &[token as u8 + 1; 4096]).unwrap();
    }
    for round in 0..2_u64 {
        for token in 0..8 {
            rig.start(token, WRITE, round * 65536 + u64::from(token) * 4096, 4096);
        }
        for _ in 0..8 {
            rig.end().result.unwrap();
        }
    }
    // It is asked for more than once where it takes its time.
    let (asks, back) = (count.load(SeqCst), came_back.load(SeqCst));
    assert!((1..=asks).contains(&back), "{asks} questions, {back} returns");
    let content = served.content.lock().unwrap();
    for token in 0..8 {
        for round in 0..2 {
            let at = round * 65536 + token * 4096;
            assert!(content[at..at + 4096].iter().all(|byte| *byte == token as u8 + 1), "{token}");
        }
    }
}

#[test]
fn requests_fail_when_no_server_comes_in_time_and_work_when_it_comes_later() {
    let served = Served::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let mut rig = Rig::new(
        open(NbdSpec {
            reconnect_delay: Duration::from_millis(50),
            ask: Box::new(move |_| _ = count.fetch_add(1, SeqCst)),
            ..spec(good_server(&served, Manner { commands: 0, ..GOOD }))
        })
        .unwrap(),
    );
    let error = rig.run(WRITE, 0, 512).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert_eq!(asked.load(SeqCst), 1);
    let error = rig.run(Action::Flush, 0, 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "later ones do not wait once more");

    rig.disk.connector().connect(liar(b"HTTP/1.1 400 Bad Request".to_vec()));
    rig.disk.connector().connect(good_server(&served, GOOD));
    let deadline = Instant::now() + Duration::from_secs(10);
    while rig.run(WRITE, 0, 512).is_err() {
        assert!(Instant::now() < deadline, "the good server was not taken");
    }
}

fn refusal(bytes: Vec<u8>) -> String {
    let error = open(spec(liar(bytes))).err().expect("a liar is found out");
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

#[test]
fn servers_that_lie_are_refused_by_what_they_said() {
    let said = |rest: &[Vec<u8>]| refusal([greeting(), rest.concat()].concat());
    let ack = || option_reply(option::GO, reply::ACK, &[]);
    assert!(refusal(b"HTTP/1.1 400 Bad Request\r\n".to_vec()).contains("no NBD server"));
    let old = [&b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"[..], &[0; 152]].concat();
    assert!(refusal(old).contains("before 2011"));
    assert!(said(&[ack()]).contains("without a size"));
    assert!(said(&[export_info(u64::MAX, ALL), ack()]).contains("beyond all disks"));
    assert!(said(&[export_info(SIZE, 0), ack()]).contains("without flags"));
    assert!(said(&[export_info(SIZE, ALL | flag::READ_ONLY), ack()]).contains("<readonly/>"));
    let short = option_reply(option::GO, reply::INFO, &[0, 0, 1]);
    assert!(said(&[short]).contains("wrong length"));
    assert!(said(&[option_reply(option::GO, reply::INFO, &[0])]).contains("no kind"));
    assert!(said(&[option_reply(option::STARTTLS, reply::ACK, &[])]).contains("another option"));
    let mut long = option_reply(option::GO, reply::INFO, &[]);
    long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(said(&[long]).contains("longer than any"));
    let endless: Vec<_> =
        (0..100).map(|_| option_reply(option::GO, reply::INFO, &[0, 9])).collect();
    assert!(said(&endless).contains("no end of replies"));
    let unknown = option_reply(option::GO, reply::UNKNOWN, b"who\x1b[2J?");
    let text = said(&[unknown]);
    assert!(text.contains("no export \"disk\": who [2J?"), "{text:?}");
    let tls = option_reply(option::GO, reply::TLS_REQUIRED, &[]);
    assert!(said(&[tls]).contains("tls='yes'"));
    for sizes in [[3, 4096, 1 << 20], [512, 256, 1 << 20], [512, 4096, 0], [0, 0, 0]] {
        let mut data = info::BLOCK_SIZE.to_be_bytes().to_vec();
        data.extend(sizes.iter().flat_map(|size: &u32| size.to_be_bytes()));
        let blocks = option_reply(option::GO, reply::INFO, &data);
        let text = said(&[export_info(SIZE, ALL), blocks, ack()]);
        assert!(text.contains("make no sense"), "{sizes:?} {text}");
    }
    assert!(said(&[]).contains("failed"), "it goes in the middle");
}

#[test]
fn blocks_larger_than_the_guests_are_refused_with_what_to_do() {
    let manner = Manner { blocks: Some([4096, 4096, 1 << 20]), ..GOOD };
    let error = open(spec(good_server(&Served::new(), manner))).err().unwrap();
    assert!(error.to_string().contains("logical_block_size='4096'"), "{error}");
    let socket = good_server(&Served::new(), manner);
    let disk = open(NbdSpec { block_size: 4096, ..spec(socket) }).unwrap();
    assert_eq!(disk.info().physical_block_size, 4096);
}

/// Replies that answer nothing, or nothing that was asked, end the connection and not the process.
#[test]
fn replies_that_make_no_sense_end_the_connection() {
    let agreed =
        || [greeting(), export_info(SIZE, ALL), option_reply(option::GO, reply::ACK, &[])].concat();
    for wrong in [&[0xff; 16][..], b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x09"] {
        let (asked, asks) = mpsc::channel::<String>();
        let asked = Mutex::new(asked);
        let bytes = [&agreed(), wrong].concat();
        let (ours, mut theirs) = connection();
        thread::spawn(move || {
            theirs.write_all(&bytes).unwrap();
            let _ = theirs.read_to_end(&mut Vec::new());
        });
        let disk = open(NbdSpec {
            ask: Box::new(move |why| asked.lock().unwrap().send(why.to_owned()).unwrap()),
            ..spec(ours)
        })
        .unwrap();
        let why = asks.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(why.contains("breaks the protocol"), "{why}");
        drop(disk);
    }
}

#[test]
fn errors_of_the_server_are_the_guests_and_no_end() {
    let agreed =
        [greeting(), export_info(SIZE, ALL), option_reply(option::GO, reply::ACK, &[])].concat();
    let (ours, mut theirs) = connection();
    thread::spawn(move || {
        theirs.write_all(&agreed).unwrap();
        theirs.read_exact(&mut [0; 4 + 16 + 4 + 4 + 2 + 2]).unwrap();
        for failure in [28_u32, 12345] {
            let mut request = [0; 28];
            theirs.read_exact(&mut request).unwrap();
            let mut answer = spec::REPLY_MAGIC.to_be_bytes().to_vec();
            answer.extend(failure.to_be_bytes());
            answer.extend(&request[8..16]);
            theirs.write_all(&answer).unwrap();
        }
    });
    let mut rig = Rig::new(open(spec(ours)).unwrap());
    assert_eq!(rig.run(Action::Read, 0, 512).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(rig.run(Action::Flush, 0, 0).unwrap_err().raw_os_error(), Some(libc::EIO));
}
