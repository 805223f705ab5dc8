//! NBD servers and clients that say anything.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use image::{MemoryStorage, Raw};
use memory::{Backing, GuestRam};

use crate::backend::nbd::{NbdDisk, NbdSpec};
use crate::backend::{Action, Cache, Disk as _, Request};
use crate::backup::Moment;
use crate::backup::nbd::{Connection, Export, Marked};
use crate::standby::Errand;

/// Less than the socket takes without anybody reading.
const MOST: usize = 32 << 10;
const ACTIONS: [Action; 5] = [
    Action::Read,
    Action::Write { durable: true },
    Action::Zero { len: 4096, unmap: true, durable: false },
    Action::Discard { len: 4096 },
    Action::Flush,
];

/// The server greets with the first of `said`; every request ends, whatever comes then.
pub fn nbd(said: &[u8]) {
    let Ok((ours, mut theirs)) = UnixStream::pair() else { return };
    let said = &said[..said.len().min(MOST)];
    let prepared = ours.set_nonblocking(true).and_then(|()| theirs.write_all(said));
    if prepared.and_then(|()| theirs.shutdown(Shutdown::Write)).is_err() {
        return;
    }
    let spec = NbdSpec {
        socket: ours.into(),
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
    };
    let Ok(disk) = NbdDisk::open(spec, |work| Errand::start("nbd", || Ok(()), work)) else {
        return;
    };
    let info = disk.info();
    assert!(info.size.is_multiple_of(512) && info.physical_block_size >= info.block_size);
    let ram = GuestRam::new(&[(0, 1 << 20)], &Backing::Anonymous).expect("a mebibyte");
    let mut channel = disk.channel(8).expect("it has one user");
    for (token, action) in (0..).zip(ACTIONS) {
        let len = if matches!(action, Action::Read | Action::Write { .. }) { 4096 } else { 0 };
        let ranges = (len > 0).then_some((u64::from(token) << 16, len));
        let buffers = ram.buffers(ranges).expect("they are inside");
        channel.start(token, Request { action, offset: 0, buffers });
    }
    channel.submit();
    let mut ended = 0;
    while ended < ACTIONS.len() {
        channel.wait();
        while channel.finished().is_some() {
            ended += 1;
        }
    }
}

/// A client of our own server, after what it has to say first: whatever comes then, answers wait within bounds, and
/// nothing is written.
pub fn nbd_client(said: &[u8]) {
    const SIZE: usize = 300 << 10;
    /// An answer begun when there is room may be this much: a piece of a disk, or lists of extents.
    const MOST_WAITING: usize = 3 << 20;
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 70_000) as u8).collect();
    let disk = Arc::new(MemoryStorage::new(bytes.clone()));
    let Ok(image) = Raw::open(disk.clone(), true) else { return };
    let scratch = Arc::new(MemoryStorage::default());
    let moment = Arc::new(Moment::new(Arc::new(image), scratch, Box::new(|_| {})));
    let marked = Some(("b".to_owned(), Arc::new(Marked::new(vec![0b101], 65536))));
    let export = Export { name: "vda".to_owned(), description: String::new(), moment, marked };
    let mut connection = Connection::new(vec![export].into());
    for part in [&3_u32.to_be_bytes(), &said[..said.len().min(MOST)]] {
        for piece in part.chunks(1000) {
            connection.take(piece);
            while connection.work() {
                assert!(connection.waiting() <= MOST_WAITING, "{}", connection.waiting());
                connection.sent(usize::MAX);
            }
            assert!(connection.waiting() <= MOST_WAITING, "{}", connection.waiting());
            connection.sent(usize::MAX);
        }
    }
    assert!(disk.bytes() == bytes);
}
