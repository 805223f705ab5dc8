//! What tortured devices are connected to: a disk that holds them to their word, interrupts and doorbells that lead
//! nowhere, one io thread for all.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use memory::{Backing, GuestRam};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::backend::chardev::{ConsoleBackend, InputListener};
use crate::backend::lane::Meter;
use crate::backend::{Action, Channel, Disk, DiskInfo, Finished, Request};
use crate::clock::Clock;
use crate::io_thread::IoThread;
use crate::irq::{Doorbells, IrqLine, MsiController, MsiMessage, MsiVector};
use crate::scsi::{Identity, LogicalUnit, UnitKind};
use crate::sync::Lock;

/// Two adjoining regions and one behind a hole.
pub(super) const LAYOUT: [(u64, u64); 3] =
    [(0, 0x2_0000), (0x2_0000, 0x2_0000), (0x8_0000, 0x2_0000)];
pub(super) const DISK_LEN: u64 = 64 << 10;
const BLOCK: u64 = 512;

pub(super) fn ram() -> GuestRam {
    GuestRam::new(&LAYOUT, &Backing::Anonymous).expect("the host has memory for it")
}

/// Serves every device of every input: they are there one after another.
pub(super) fn thread() -> Arc<IoThread> {
    static THREAD: OnceLock<Arc<IoThread>> = OnceLock::new();
    let spawn = || IoThread::spawn("torture", || Ok(())).expect("the host has a thread for it");
    THREAD.get_or_init(spawn).clone()
}

/// A disk in memory. Devices check what guests ask for; so whatever comes here lies inside of it.
pub(super) struct MemoryDisk {
    contents: Arc<Mutex<Vec<u8>>>,
    read_only: bool,
}

impl MemoryDisk {
    pub(super) fn new(read_only: bool) -> Arc<Self> {
        let contents = Arc::new(Mutex::new(vec![0x5a; DISK_LEN as usize]));
        Arc::new(Self { contents, read_only })
    }
}

impl Disk for MemoryDisk {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            size: DISK_LEN,
            read_only: self.read_only,
            block_size: BLOCK as u32,
            physical_block_size: 4096,
            writeback: true,
            discard: true,
        }
    }

    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>> {
        let contents = self.contents.clone();
        let (read_only, finished) = (self.read_only, VecDeque::new());
        Ok(Box::new(MemoryChannel { contents, read_only, depth, finished }))
    }
}

struct MemoryChannel {
    contents: Arc<Mutex<Vec<u8>>>,
    read_only: bool,
    depth: u16,
    finished: VecDeque<Finished>,
}

impl Channel for MemoryChannel {
    fn start(&mut self, token: u16, request: Request) {
        let Request { action, offset, mut buffers } = request;
        assert!(token < self.depth, "token {token} of {}", self.depth);
        assert!(self.finished.iter().all(|other| other.token != token), "token {token} is in use");
        let len = match action {
            Action::Read | Action::Write { .. } => buffers.len(),
            Action::Discard { len } | Action::Zero { len, .. } => len,
            Action::Flush => 0,
        };
        let end = offset.checked_add(len).expect("a request ends somewhere");
        assert!(end <= DISK_LEN, "{action:?} of {len} bytes at {offset} leaves the disk");
        assert!(
            offset.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK),
            "{action:?} {offset} {len}"
        );
        assert!(!self.read_only || matches!(action, Action::Read | Action::Flush), "{action:?}");
        let mut contents = self.contents.hold();
        let range = &mut contents[offset as usize..end as usize];
        match action {
            Action::Read => drop(buffers.copy_from(range)),
            Action::Write { .. } => drop(buffers.copy_to(range)),
            Action::Zero { .. } => range.fill(0),
            Action::Flush | Action::Discard { .. } => {}
        }
        buffers.clear();
        self.finished.push_back(Finished { token, result: Ok(()), buffers });
    }

    fn submit(&mut self) {}

    fn finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    fn source(&self) -> Option<RawFd> {
        None
    }

    fn wait(&mut self) {}
}

pub(super) fn meter() -> Arc<Meter> {
    Arc::default()
}

pub(super) fn unit(kind: UnitKind) -> Arc<LogicalUnit> {
    let identity = Identity {
        vendor: "MANOR".to_owned(),
        product: "torture".to_owned(),
        serial: "s-1".to_owned(),
        wwn: Some(0x5000_c500_15ea_71aa),
        rotation_rate: 1,
        removable: false,
    };
    let disk = MemoryDisk::new(kind == UnitKind::Cdrom);
    Arc::new(LogicalUnit::new(kind, identity, Some(disk), meter()))
}

/// Interrupts, doorbells and a console that nobody is at.
pub(super) struct Nobody;

struct Vector(EventFd);

impl MsiVector for Vector {
    fn event(&self) -> &EventFd {
        &self.0
    }
    fn route(&self, _message: MsiMessage) -> io::Result<()> {
        Ok(())
    }
    fn mask(&self) -> io::Result<()> {
        Ok(())
    }
    fn pending(&self) -> bool {
        false
    }
}

impl MsiController for Nobody {
    fn vector(&self) -> io::Result<Arc<dyn MsiVector>> {
        Ok(Arc::new(Vector(EventFd::new(EFD_NONBLOCK)?)))
    }
}

impl IrqLine for Nobody {
    fn set(&self, _high: bool) {}
}

impl Doorbells for Nobody {
    fn bind(&self, _gpa: u64, _event: &EventFd) -> io::Result<()> {
        Ok(())
    }
    fn unbind(&self, _gpa: u64, _event: &EventFd) -> io::Result<()> {
        Ok(())
    }
}

impl ConsoleBackend for Nobody {
    fn output(&self, _data: &[u8]) {}
    fn input(&self, data: &mut [u8]) -> usize {
        data.fill(b'x');
        data.len().min(3)
    }
    fn listen(&self, _listener: std::sync::Weak<dyn InputListener>) {}
}

/// A clock that stands still until it is moved.
#[derive(Default)]
pub(super) struct Still(Mutex<Duration>);

impl Still {
    pub(super) fn advance(&self, by: Duration) {
        let mut now = self.0.hold();
        *now = now.saturating_add(by);
    }
}

impl Clock for Still {
    fn monotonic(&self) -> Duration {
        *self.0.hold()
    }
    fn real(&self) -> Duration {
        *self.0.hold()
    }
}
