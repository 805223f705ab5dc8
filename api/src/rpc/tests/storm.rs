//! Clients that send anything: packets of every procedure with arguments of every kind, made wrong by
//! chance. Nothing comes of it but answers and closed connections; memory stays where it was, and
//! another client is served meanwhile. `MANOR_TRIES=count:seed` sends more of them.

use std::time::Instant;

use management::torture::powerless_manager;
use manor_tests::chance::Chance;
use manor_tests::tries::{Tries, resident_bytes};
use tokio::net::unix::OwnedWriteHalf;
use tokio::task::JoinHandle;

use super::super::protocol::object::{Domain, Pool};
use super::*;

/// Packets that one daemon gets: what its admins define is kept, so another one goes on after them.
const EPOCH: usize = 20_000;
/// Packets of one connection.
const VISIT: usize = 250;
/// What a daemon may hold on to beyond what the first one did.
const GROWTH: u64 = 96 << 20;
/// How long another client waits for its answer, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_that_are_wrong_in_any_way_disturb_nobody() {
    let torture = Tries::asked_or(2_000);
    let mut chance = torture.chance();
    let seeds = arguments();
    let (mut left, mut first, mut slowest) = (torture.count, None, Duration::ZERO);
    let (mut answers, mut closed) = (0, 0);
    while left > 0 {
        let epoch = left.min(EPOCH);
        left -= epoch;
        let directory = tempfile::tempdir().unwrap();
        let manager = powerless_manager(directory.path()).await;
        let mut bystander = Bystander::come(&manager).await;
        let mut sent = 0;
        while sent < epoch {
            let mut attacker = Attacker::come(&manager, &mut chance).await;
            for _ in 0..VISIT.min(epoch - sent) {
                sent += 1;
                if !attacker.attack(&mut chance, &seeds).await {
                    closed += 1;
                    break;
                }
            }
            answers += attacker.leave(&mut chance).await;
            slowest = slowest.max(bystander.is_served().await);
        }
        drop((bystander, manager));
        let now = resident_bytes();
        let before = *first.get_or_insert(now);
        assert!(now <= before + GROWTH, "{before} bytes became {now}");
    }
    assert!(answers > torture.count / 4, "{answers} answers are too few to have tried anything");
    torture.report(
        "rpc packets",
        format!("{answers} answered, {closed} closed the connection, others waited {slowest:?}"),
    );
}

/// Arguments that procedures have, each good for some of them.
fn arguments() -> Vec<Vec<u8>> {
    let encoded = |value: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        value(&mut bytes);
        bytes
    };
    let uuid = uuid::Uuid::from_u128(7);
    let domain = || Domain { name: "demo".to_owned(), uuid, id: -1 };
    let pool = || Pool { name: "images".to_owned(), uuid };
    let xml = "<domain type='kvm'><name>demo</name><memory unit='MiB'>64</memory>\
               <os><type>hvm</type><kernel>/nonexistent/vmlinuz</kernel></os></domain>";
    let network =
        "<network><name>lab</name><ip address='192.168.7.1' netmask='255.255.255.0'/></network>";
    let directory =
        "<pool type='dir'><name>images</name><target><path>/nonexistent</path></target></pool>";
    vec![
        encoded(&|to| Words(&ZEROS).encode(to)),
        encoded(&|to| ("demo", 0, 0, 0).encode(to)),
        encoded(&|to| (Some("demo"), 1, 16, 0).encode(to)),
        encoded(&|to| (domain(), 0, 0, 0).encode(to)),
        encoded(&|to| (domain(), "vda", 0_u64, 4096, 0).encode(to)),
        encoded(&|to| (domain(), vec![("cpu_shares", 4, 9_u64)], 1, 0).encode(to)),
        encoded(&|to| (vec![domain(), domain()], 0x3f, 1).encode(to)),
        encoded(&|to| (domain(), xml, 3, 0).encode(to)),
        encoded(&|to| (pool(), "a.img", 0, 0).encode(to)),
        encoded(&|to| (16, 1, 0, 0).encode(to)),
        encoded(&|to| (uuid, 0, 0, 0).encode(to)),
        encoded(&|to| ("SCRAM-SHA-256", 0, CharBytes(b"n,,n=a,r=b".to_vec())).encode(to)),
        encoded(&|to| (xml, 0, 0).encode(to)),
        encoded(&|to| (network, 0, 0).encode(to)),
        encoded(&|to| (directory, 0, 0).encode(to)),
    ]
}

/// Documents that are stored cost more than all else: these of the arguments are rare.
const DOCUMENTS: usize = 3;

struct Attacker {
    socket: OwnedWriteHalf,
    answers: JoinHandle<usize>,
    serial: u32,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Attacker {
    /// Of any access; most have opened their connection.
    async fn come(manager: &Manager, chance: &mut Chance) -> Self {
        let access = *chance.one_of(&[Access::Read, Access::Control, Access::Admin, Access::Admin]);
        let auth = if chance.once_in(8) { Auth::Sasl } else { Auth::None };
        let (socket, stop) = connect(manager, access, auth);
        let (mut from, socket) = socket.into_split();
        let answers = tokio::spawn(async move {
            let mut total = 0;
            while let Ok(Some(packet)) = packet::read(&mut from, LIMIT).await {
                total += usize::from(packet.header.kind == Kind::Reply);
            }
            total
        });
        let mut attacker = Self { socket, answers, serial: 0, _stop: stop };
        if !chance.once_in(16) {
            let opened = packet::encode(attacker.header(OPEN), &(Some("qemu:///system"), 0));
            attacker.send(&opened).await;
        }
        attacker
    }

    fn header(&mut self, procedure: i32) -> Header {
        self.serial += 1;
        let (kind, status, serial) = (Kind::Call, Status::Ok, self.serial);
        Header { program: REMOTE, version: VERSION, procedure, kind, serial, status }
    }

    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    /// One packet; false if the connection is closed.
    async fn attack(&mut self, chance: &mut Chance, seeds: &[Vec<u8>]) -> bool {
        let procedure = chance.one_of(PROCEDURES).number;
        let header = self.header(procedure);
        let kinds = if chance.once_in(16) { seeds.len() } else { seeds.len() - DOCUMENTS };
        let mut payload = seeds[chance.below(kinds)].clone();
        for _ in 0..chance.below(4) {
            chance.vary(&mut payload, seeds);
        }
        let mut bytes = packet::encode_raw(header, &payload);
        let (is_mangled, lies) = (chance.once_in(16), chance.once_in(128));
        if is_mangled {
            // Program, version, procedure, kind, serial, status: any of their bytes.
            let at = 4 + chance.below(24);
            bytes[at] = *chance.one_of(&[0, 1, 2, 3, 6, 0x7f, 0x80, 0xff]);
        }
        if lies {
            let length = *chance.one_of(&[0, 3, 27, 28, 0x1_0000, 16 << 20, u32::MAX]);
            bytes[..4].copy_from_slice(&length.to_be_bytes());
        }
        let breaks_off = chance.once_in(128);
        if breaks_off {
            bytes.truncate(chance.below(bytes.len()));
        }
        // After a lie about lengths nothing is a packet any more.
        self.send(&bytes).await && !lies && !breaks_off
    }

    /// At once, or when what was asked is answered for the most part; half closed, then closed. How
    /// many answers it had.
    async fn leave(mut self, chance: &mut Chance) -> usize {
        if !chance.once_in(4) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let _ = self.socket.shutdown().await;
        tokio::time::timeout(PATIENCE, self.answers).await.expect("it is let go").unwrap()
    }
}

fn connect(
    manager: &Manager,
    access: Access,
    auth: Auth,
) -> (UnixStream, tokio::sync::watch::Sender<bool>) {
    let (socket, served) = UnixStream::pair().unwrap();
    let admission = Admission { caller: Caller::new("test", access), auth, remote: None };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(connection::serve(served, manager.clone(), admission, stopped));
    (socket, stop)
}

/// Somebody who asks for what is always there.
struct Bystander(Client);

impl Bystander {
    async fn come(manager: &Manager) -> Self {
        let (socket, stop) = connect(manager, Access::Read, Auth::None);
        let directory = tempfile::tempdir().unwrap();
        let mut client = Client { socket, serial: 0, stop, _directory: directory };
        assert_eq!(client.call(OPEN, &(Some(""), 0)).await.header.status, Status::Ok);
        Self(client)
    }

    /// How long it took.
    async fn is_served(&mut self) -> Duration {
        let begun = Instant::now();
        let served = tokio::time::timeout(PATIENCE, self.0.is_alive()).await;
        assert!(served.expect("another client is answered"), "another client has its answer");
        begun.elapsed()
    }
}
