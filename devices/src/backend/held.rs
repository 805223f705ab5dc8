//! A disk for tests whose requests stay in flight until they are let go, and fail if told to.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::disk::{Action, Channel, Disk, DiskInfo, Finished, Request};
use crate::sync::Lock;

pub(crate) struct HeldDisk {
    pub(crate) size: u64,
    pub(crate) hold: AtomicBool,
    /// An errno that every request fails with; 0: none.
    pub(crate) error: AtomicI32,
    pub(crate) started: AtomicUsize,
    pub(crate) actions: Mutex<Vec<(Action, u64)>>,
    event: EventFd,
}

impl HeldDisk {
    pub(crate) fn new(size: u64, hold: bool) -> Arc<Self> {
        Arc::new(Self {
            size,
            hold: hold.into(),
            error: AtomicI32::new(0),
            started: AtomicUsize::new(0),
            actions: Mutex::default(),
            event: EventFd::new(EFD_NONBLOCK).unwrap(),
        })
    }

    pub(crate) fn started(&self) -> usize {
        self.started.load(SeqCst)
    }

    pub(crate) fn release(&self) {
        self.hold.store(false, SeqCst);
        self.event.write(1).unwrap();
    }
}

/// As its users share it.
pub(crate) struct Held(pub(crate) Arc<HeldDisk>);

impl Disk for Held {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            size: self.0.size,
            read_only: false,
            block_size: 512,
            physical_block_size: 4096,
            writeback: true,
            discard: true,
        }
    }

    fn channel(&self, _depth: u16) -> io::Result<Box<dyn Channel>> {
        let event = self.0.event.try_clone()?;
        Ok(Box::new(HeldChannel { disk: self.0.clone(), event, requests: VecDeque::new() }))
    }
}

struct HeldChannel {
    disk: Arc<HeldDisk>,
    /// A descriptor of its own, so that several channels can be watched.
    event: EventFd,
    requests: VecDeque<(u16, Request)>,
}

impl Channel for HeldChannel {
    fn start(&mut self, token: u16, request: Request) {
        self.disk.actions.hold().push((request.action, request.buffers.len()));
        self.requests.push_back((token, request));
        self.disk.started.fetch_add(1, SeqCst);
    }

    fn submit(&mut self) {}

    fn finished(&mut self) -> Option<Finished> {
        if self.disk.hold.load(SeqCst) {
            return None;
        }
        let _ = self.disk.event.read();
        let (token, request) = self.requests.pop_front()?;
        let result = match self.disk.error.load(SeqCst) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
        Some(Finished { token, result, buffers: request.buffers })
    }

    fn source(&self) -> Option<RawFd> {
        Some(self.event.as_raw_fd())
    }

    fn wait(&mut self) {
        self.disk.hold.store(false, SeqCst);
    }
}
