//! [`NbdDisk`]: a disk that an NBD server has, over a socket that somebody else connected.
//!
//! ```text
//! queue ── NbdChannel ──▶ mailbox ──▶ Engine (thread) ── Wire ──▶ server
//!   ▲                                   │      ▲
//!   └───────────── Answers ◀────────────┘      └── connections: the first, and later ones
//! ```
//! The server is trusted with the disk's content, and with nothing else: what it says is parsed
//! here, in the process of the guest that uses it.

mod engine;
mod export;
mod flight;
pub(crate) mod spec;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

pub use export::{LONGEST_NAME, NegotiationError};
pub use tls::{NbdTls, NbdTlsError, NbdTlsParts};

use self::engine::{Engine, Mailbox, Tell, Terms};
use self::flight::{Abilities, Flight};
use super::answers::{Answers, Spares};
use super::disk::{Cache, Channel, Disk, DiskInfo, Finished, Request};
use crate::standby::{Errand, Work};

const SECTOR: u64 = 512;

#[derive(Debug, thiserror::Error)]
pub enum NbdError {
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    #[error("the connection to the NBD server failed")]
    Io(#[from] io::Error),
    #[error("the NBD server lets nobody write to the export {name:?}: add <readonly/>")]
    ReadOnly { name: String },
    #[error(
        "the NBD server has blocks of {server} bytes, larger than the {guest} of the guest's disk: \
         add <blockio logical_block_size='{server}'/>"
    )]
    BlockSize { server: u32, guest: u32 },
    #[error("the NBD server's export has {size} bytes, and had {before}")]
    Shrunk { size: u64, before: u64 },
}

/// How an export is used.
pub struct NbdSpec {
    /// Connected, and not blocking.
    pub socket: OwnedFd,
    pub export: String,
    pub tls: Option<NbdTls>,
    pub read_only: bool,
    pub cache: Cache,
    /// Discarded ranges are given up by the server.
    pub discard: bool,
    /// The guest's logical block size.
    pub block_size: u32,
    /// How long requests wait for a new connection when one is lost, before they fail.
    pub reconnect_delay: Duration,
    /// For the server to agree on the first connection: nobody waits for the disk any longer.
    pub patience: Duration,
    /// Queues that use the disk at once.
    pub users: usize,
    /// Told when a connection is wanted, and why; again until there is one.
    pub ask: Box<dyn Fn(&str) + Send>,
    /// Told when there is one again.
    pub back: Box<dyn Fn() + Send>,
}

/// A disk on an NBD server. Its thread ends with it.
pub struct NbdDisk {
    mailbox: Arc<Mailbox>,
    thread: Option<Errand>,
    spares: Spares,
    info: DiskInfo,
}

impl NbdDisk {
    /// Agree with the server, and serve the disk, both on a thread that `begin` has do so: what a server
    /// says is read there alone.
    ///
    /// # Errors
    /// When the server does not serve what is wanted, or there is no thread.
    pub fn open(
        spec: NbdSpec,
        begin: impl FnOnce(Work) -> io::Result<Errand>,
    ) -> Result<Self, NbdError> {
        let (mailbox, spares) = (Mailbox::new()?, Spares::new(spec.users)?);
        let (agreed, answer) = mpsc::channel();
        let work = {
            let mailbox = mailbox.clone();
            move || match agree(mailbox, spec) {
                Ok((engine, info)) => {
                    // The maker waits on the other end.
                    let _ = agreed.send(Ok(info));
                    engine.run();
                }
                Err(error) => _ = agreed.send(Err(error)),
            }
        };
        let thread = begin(Box::new(work))?;
        let info = answer.recv().map_err(io::Error::other)??;
        Ok(Self { mailbox, thread: Some(thread), spares, info })
    }

    /// Who brings new connections.
    pub fn connector(&self) -> NbdConnector {
        NbdConnector(self.mailbox.clone())
    }
}

/// Who serves the disk, once its server has agreed, and what it is.
fn agree(mailbox: Arc<Mailbox>, spec: NbdSpec) -> Result<(Engine, DiskInfo), NbdError> {
    let terms = Terms {
        export: spec.export,
        tls: spec.tls,
        writable: !spec.read_only,
        block_size: spec.block_size,
    };
    let (wire, export) = terms.agree(spec.socket, 0, Instant::now() + spec.patience)?;
    // What is not a whole block at the end cannot be asked for.
    let size = export.size - export.size % u64::from(spec.block_size).max(SECTOR);
    let server =
        Abilities { export, discard: spec.discard, ignore_flush: spec.cache == Cache::Unsafe };
    let info = DiskInfo {
        size,
        read_only: spec.read_only,
        block_size: spec.block_size,
        physical_block_size: export.preferred_block.clamp(spec.block_size, 1 << 16),
        writeback: spec.cache.is_writeback(),
        discard: spec.discard,
    };
    let tell = Tell { ask: spec.ask, back: spec.back };
    let engine = Engine::new(mailbox, terms, (wire, size), server, spec.reconnect_delay, tell);
    Ok((engine, info))
}

/// Brings connections to a disk that has lost its own.
#[derive(Clone)]
pub struct NbdConnector(Arc<Mailbox>);

impl NbdConnector {
    /// A connected socket that does not block. One that is not needed is closed.
    pub fn connect(&self, socket: OwnedFd) {
        self.0.connect(socket);
    }
}

impl Drop for NbdDisk {
    fn drop(&mut self) {
        self.mailbox.close();
        if let Some(thread) = self.thread.take() {
            thread.wait();
        }
    }
}

impl Disk for NbdDisk {
    fn info(&self) -> DiskInfo {
        self.info
    }

    fn channel(&self, _depth: u16) -> io::Result<Box<dyn Channel>> {
        let answers = self
            .spares
            .answers()
            .ok_or_else(|| io::Error::other("the disk has as many users as it was made for"))?;
        Ok(Box::new(NbdChannel {
            mailbox: self.mailbox.clone(),
            spares: self.spares.clone(),
            answers,
            batch: Vec::new(),
            in_flight: 0,
            finished: VecDeque::new(),
        }))
    }
}

struct NbdChannel {
    mailbox: Arc<Mailbox>,
    spares: Spares,
    answers: Arc<Answers>,
    /// Started, and not handed on.
    batch: Vec<Flight>,
    /// With the engine.
    in_flight: usize,
    finished: VecDeque<Finished>,
}

impl Channel for NbdChannel {
    fn start(&mut self, token: u16, request: Request) {
        self.batch.push(Flight::new(token, request, self.answers.clone()));
    }

    fn submit(&mut self) {
        if !self.batch.is_empty() {
            self.in_flight += self.batch.len();
            self.mailbox.fly(&mut self.batch);
        }
    }

    fn finished(&mut self) -> Option<Finished> {
        if self.finished.is_empty() && self.in_flight > 0 {
            self.in_flight -= self.answers.take(&mut self.finished);
        }
        self.finished.pop_front()
    }

    fn source(&self) -> Option<RawFd> {
        Some(self.answers.source())
    }

    fn wait(&mut self) {
        self.submit();
        if self.finished.is_empty() && self.in_flight > 0 {
            self.answers.wait();
        }
    }
}

impl Drop for NbdChannel {
    fn drop(&mut self) {
        if self.in_flight == 0 {
            self.spares.put_back(&self.answers);
        }
    }
}
