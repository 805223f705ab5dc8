//! An NBD server that says anything, and hears nothing.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use memory::{Backing, GuestRam};

use crate::backend::nbd::{NbdDisk, NbdSpec};
use crate::backend::{Action, Cache, Disk as _, Request};
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
