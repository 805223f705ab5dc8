//! [`UringChannel`]: a raw disk through one io_uring per queue.

use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use memory::IoBuffers;

use super::disk::{Action, Channel, Finished, Request};
use super::raw::RawFile;
use super::sys::{Operation, Ring};
use crate::sync::Lock;

/// How far a request has come.
#[derive(Debug, Clone, Copy)]
struct Pending {
    action: Action,
    /// Where its rest begins.
    offset: u64,
    /// Its work is done, and the sync that makes it durable is in flight.
    syncing: bool,
}

/// Rings that were made in advance: a thread that is confined once the guest runs cannot make any.
#[derive(Clone, Default)]
pub struct Rings(Arc<Mutex<Vec<Ring>>>);

impl Rings {
    /// `count` rings, each for `depth` requests at a time.
    ///
    /// # Errors
    /// When the host has no io_uring, or does not allow it.
    pub fn new(count: usize, depth: u16) -> io::Result<Self> {
        let rings = (0..count).map(|_| Ring::new(depth));
        Ok(Self(Arc::new(Mutex::new(rings.collect::<io::Result<_>>()?))))
    }

    fn lend(&self, file: &RawFile, depth: u16) -> Option<Loan> {
        let mut rings = self.0.hold();
        let at = rings.iter().position(|ring| ring.slots() >= usize::from(depth))?;
        let mut ring = rings.swap_remove(at);
        ring.turn_to(Some(file.file().clone()));
        Some(Loan { ring: Some(ring), owner: self.clone() })
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.0.hold().len()
    }
}

/// A ring that goes back when its channel ends.
struct Loan {
    /// There until the drop.
    ring: Option<Ring>,
    owner: Rings,
}

impl Deref for Loan {
    type Target = Ring;

    fn deref(&self) -> &Ring {
        self.ring.as_ref().expect("a loan has its ring until it is dropped")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Ring {
        self.ring.as_mut().expect("a loan has its ring until it is dropped")
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // One with work in flight is not used again: its drop waits for the end of that.
        let Some(mut ring) = self.ring.take().filter(Ring::is_idle) else { return };
        ring.turn_to(None);
        self.owner.0.hold().push(ring);
    }
}

pub(super) struct UringChannel {
    file: Arc<RawFile>,
    ring: Loan,
    pending: Vec<Option<Pending>>,
    finished: VecDeque<Finished>,
}

impl UringChannel {
    /// A channel on one of `rings`, if there is one left that is deep enough.
    pub(super) fn new(file: Arc<RawFile>, rings: &Rings, depth: u16) -> Option<Self> {
        let ring = rings.lend(&file, depth)?;
        let pending = vec![None; usize::from(depth)];
        Some(Self { file, ring, pending, finished: VecDeque::new() })
    }

    fn push(&mut self, token: u16, pending: Pending, buffers: IoBuffers) {
        let Pending { action, offset, syncing } = pending;
        let operation = match action {
            _ if syncing => Operation::Sync,
            Action::Read => Operation::Read { offset },
            Action::Write { durable } => Operation::Write { offset, durable },
            Action::Flush => Operation::Sync,
            Action::Discard { len } => {
                Operation::Allocate { offset, len, mode: self.file.hole_mode() }
            }
            Action::Zero { len, unmap, .. } => {
                Operation::Allocate { offset, len, mode: self.file.zero_mode(unmap) }
            }
        };
        match self.ring.push(token, operation, buffers) {
            Ok(()) => {
                if let Some(place) = self.pending.get_mut(usize::from(token)) {
                    *place = Some(pending);
                }
            }
            Err(buffers) => {
                let result = Err(io::Error::other("request token out of range or in use"));
                self.finished.push_back(Finished { token, result, buffers });
            }
        }
    }

    /// An operation has ended: the request goes on, or has ended too.
    fn ended(&mut self, token: u16, result: i32, mut buffers: IoBuffers) {
        let Some(mut pending) = self.pending.get_mut(usize::from(token)).and_then(Option::take)
        else {
            return;
        };
        let outcome = u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        let result = match (pending.action, outcome) {
            (_, Err(error)) if is_transient(&error) => {
                self.push(token, pending, buffers);
                return;
            }
            (Action::Read, Ok(0)) => self.file.read_end(pending.offset, &mut buffers),
            (Action::Write { .. }, Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            (Action::Read | Action::Write { .. }, Ok(count)) => {
                buffers.advance(count.into());
                pending.offset += u64::from(count);
                if !buffers.is_empty() {
                    self.push(token, pending, buffers);
                    return;
                }
                Ok(())
            }
            (Action::Zero { durable: true, .. }, Ok(_)) if !pending.syncing => {
                pending.syncing = true;
                self.push(token, pending, buffers);
                return;
            }
            (_, Ok(_)) => Ok(()),
            (Action::Discard { .. } | Action::Zero { .. }, Err(_)) if !pending.syncing => {
                // Not every file system can; the synchronous path knows the other ways.
                self.file.carry_out(pending.action, pending.offset, &mut buffers)
            }
            (_, Err(error)) => Err(error),
        };
        self.finished.push_back(Finished { token, result, buffers });
    }

    /// Block until nothing is in flight.
    fn settle(&mut self) {
        while !self.ring.is_idle() {
            self.wait_for_one();
        }
    }

    fn wait_for_one(&mut self) {
        if let Err(error) = self.ring.wait() {
            tracing::error!(%error, "waiting for disk I/O failed");
            std::thread::yield_now();
        }
        self.reap();
    }

    fn reap(&mut self) {
        while let Some((token, result, buffers)) = self.ring.reap() {
            self.ended(token, result, buffers);
        }
    }
}

impl Channel for UringChannel {
    fn start(&mut self, token: u16, request: Request) {
        let Request { action, offset, mut buffers } = request;
        self.file.reach(action, offset, &buffers);
        let Some(action) = self.file.effective(action) else {
            self.finished.push_back(Finished { token, result: Ok(()), buffers });
            return;
        };
        if !self.file.must_bounce(action, offset, &buffers) {
            self.push(token, Pending { action, offset, syncing: false }, buffers);
            return;
        }
        if action != Action::Read {
            // Rewriting part of a host block must not undo a write to the rest of it.
            self.settle();
        }
        let result = self.file.carry_out(action, offset, &mut buffers);
        self.finished.push_back(Finished { token, result, buffers });
    }

    fn submit(&mut self) {
        self.ring.submit();
    }

    fn finished(&mut self) -> Option<Finished> {
        if self.finished.is_empty() {
            self.reap();
            // Rests of short transfers.
            self.ring.submit();
        }
        self.finished.pop_front()
    }

    fn source(&self) -> Option<RawFd> {
        Some(self.ring.source())
    }

    fn wait(&mut self) {
        while self.finished.is_empty() && !self.ring.is_idle() {
            self.wait_for_one();
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}
