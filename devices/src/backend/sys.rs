//! The syscalls of disk I/O that take raw guest ranges: `preadv`, `pwritev2`, and an io_uring whose
//! requests own what the kernel writes to.
//!
//! A disk's worker calls `io_uring_enter`, `preadv`, `pwritev2`, `fdatasync` and `fallocate`, and
//! nothing else on its file: the filter of the io threads lists the same.
#![allow(unsafe_code, reason = "iovecs over guest RAM and io_uring submission need raw pointers")]

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, types};
use memory::IoBuffers;

/// One call takes at most this many ranges; the rest follows as after a short transfer.
const MAX_RANGES: usize = libc::UIO_MAXIOV as usize;

fn ranges(buffers: &IoBuffers) -> &[libc::iovec] {
    let all = buffers.as_iovecs();
    &all[..all.len().min(MAX_RANGES)]
}

/// One `preadv`; bytes read.
pub(super) fn read(file: &File, buffers: &IoBuffers, offset: u64) -> io::Result<u64> {
    let ranges = ranges(buffers);
    // SAFETY: the vectors describe mapped guest RAM as long as `buffers` lives, which is longer
    // than the call; the guest tolerates writes to it at any time.
    let count = unsafe {
        libc::preadv(file.as_raw_fd(), ranges.as_ptr(), ranges.len() as i32, offset as i64)
    };
    u64::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// One `pwritev2`; bytes written.
pub(super) fn write(
    file: &File,
    buffers: &IoBuffers,
    offset: u64,
    durable: bool,
) -> io::Result<u64> {
    let ranges = ranges(buffers);
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    // SAFETY: as in `read`; the kernel only reads from the ranges.
    let count = unsafe {
        libc::pwritev2(file.as_raw_fd(), ranges.as_ptr(), ranges.len() as i32, offset as i64, flags)
    };
    u64::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// One operation of a [`Ring`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Read { offset: u64 },
    Write { offset: u64, durable: bool },
    Sync,
    Allocate { offset: u64, len: u64, mode: i32 },
}

/// An io_uring, on one file at a time. Each slot owns the buffers of the operation in flight in it.
pub(super) struct Ring {
    ring: IoUring,
    /// None while nobody uses the ring.
    file: Option<Arc<File>>,
    slots: Vec<Option<IoBuffers>>,
    in_flight: usize,
    /// Pushed, and not yet taken by the kernel.
    unsubmitted: bool,
}

impl Ring {
    /// # Errors
    /// What `io_uring_setup` says: not built in, or not allowed.
    pub(super) fn new(slots: u16) -> io::Result<Self> {
        let entries = u32::from(slots).max(1).next_power_of_two();
        let ring = IoUring::builder().setup_r_disabled().build(entries)?;
        // A ring opens files and sockets as readily as it reads, past any seccomp filter: let it
        // do what disks need and nothing else, for good.
        let allowed = [
            opcode::Readv::CODE,
            opcode::Writev::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
        ];
        let mut restrictions = allowed.map(Restriction::sqe_op);
        ring.submitter().register_restrictions(&mut restrictions)?;
        ring.submitter().register_enable_rings()?;
        let slots = (0..slots).map(|_| None).collect();
        Ok(Self { ring, file: None, slots, in_flight: 0, unsubmitted: false })
    }

    /// Use the ring, which is idle, for another file, or for none.
    pub(super) fn turn_to(&mut self, file: Option<Arc<File>>) {
        if self.is_idle() {
            self.file = file;
        }
    }

    /// Operations that can be in flight at once.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Becomes readable when operations have ended.
    pub(super) fn source(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Queue an operation in a free slot; the buffers come back through [`reap`](Self::reap), or
    /// at once when the slot is taken or there is none such.
    pub(super) fn push(
        &mut self,
        slot: u16,
        operation: Operation,
        buffers: IoBuffers,
    ) -> Result<(), IoBuffers> {
        let place = self.slots.get_mut(usize::from(slot)).filter(|place| place.is_none());
        let (Some(place), Some(file)) = (place, &self.file) else { return Err(buffers) };
        let buffers = place.insert(buffers);
        let vectors = ranges(buffers);
        let (pointer, count) = (vectors.as_ptr(), vectors.len() as u32);
        let fd = types::Fd(file.as_raw_fd());
        let entry = match operation {
            Operation::Read { offset } => {
                opcode::Readv::new(fd, pointer, count).offset(offset).build()
            }
            Operation::Write { offset, durable } => opcode::Writev::new(fd, pointer, count)
                .offset(offset)
                .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
                .build(),
            Operation::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
            Operation::Allocate { offset, len, mode } => {
                opcode::Fallocate::new(fd, len).offset(offset).mode(mode).build()
            }
        }
        .user_data(u64::from(slot));
        loop {
            // SAFETY: the entry refers to the vectors of `buffers` and, through them, to guest RAM.
            // Both live in the slot, which is neither changed nor dropped until `reap` has seen
            // this operation's completion; `drop` waits for that, or leaks them. The file is
            // held by `self`, which turns to another only when nothing is in flight.
            match unsafe { self.ring.submission().push(&entry) } {
                Ok(()) => break,
                // There is an entry per slot, so this only happens before earlier ones went out.
                Err(_) => {
                    self.unsubmitted = true;
                    self.submit();
                }
            }
        }
        self.in_flight += 1;
        self.unsubmitted = true;
        Ok(())
    }

    /// Hand everything pushed to the kernel.
    pub(super) fn submit(&mut self) {
        while mem::take(&mut self.unsubmitted) {
            let Err(error) = self.ring.submit() else { return };
            self.unsubmitted = true;
            match error.raw_os_error() {
                // The kernel is short of memory, or was interrupted: it will take them.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
                _ => {
                    tracing::error!(%error, "io_uring takes no more requests");
                    return;
                }
            }
        }
    }

    /// The next operation that has ended: its slot, result and buffers.
    pub(super) fn reap(&mut self) -> Option<(u16, i32, IoBuffers)> {
        let entry = self.ring.completion().next()?;
        let slot = u16::try_from(entry.user_data()).ok()?;
        let buffers = self.slots.get_mut(usize::from(slot))?.take()?;
        self.in_flight -= 1;
        Some((slot, entry.result(), buffers))
    }

    /// Block until an operation has ended.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.submit();
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.wait().is_err() {
                // The kernel may still write to the buffers: better leaked than freed.
                mem::forget(mem::take(&mut self.slots));
                return;
            }
            while self.reap().is_some() {}
        }
    }
}
