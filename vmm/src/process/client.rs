//! [`Client`]: one connection on the control socket, and how far it has come.
//!
//! ```text
//! accepted ──Hello──▶ greeted ──Console──▶ handed to the console (no longer a client)
//! ```
//! A client costs a bounded amount of memory and cannot make the process wait: reading stops while
//! its replies are not taken, events are fetched from the ring only as it reads, and a message that
//! is not completed in time ends the connection.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use vmm_protocol::control::{Call, MAX_FILES, Message};
use vmm_protocol::wire::{self, WireError};

use super::ring::EventRing;

/// Output that may wait before reading from the client, or fetching events for it, stops.
const HIGH_WATER: usize = 256 << 10;
/// From a message's first byte to its last; also from connecting to the first message.
const PATIENCE: Duration = Duration::from_secs(10);
const CHUNK: usize = 16 << 10;

pub(super) struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that were sent.
    sent: usize,
    pub(super) files: Vec<OwnedFd>,
    pub(super) greeted: bool,
    /// Events after this number are to be sent, once it asked for them.
    pub(super) events_after: Option<u64>,
    deadline: Option<Instant>,
    /// Close once everything is sent.
    closing: bool,
    /// The peer will send nothing more.
    ended: bool,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hangup {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client broke off in the middle of a message")]
    Broken,
    #[error("the client did not complete a message in time")]
    TooSlow,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Client {
    pub(super) fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            files: Vec::new(),
            greeted: false,
            events_after: None,
            deadline: Some(now + PATIENCE),
            closing: false,
            ended: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Say goodbye: nothing more is read, and the connection ends when all is sent.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether another request may be served: not while replies to earlier ones pile up.
    pub(super) fn may_ask(&self) -> bool {
        !self.closing && self.backlog() < HIGH_WATER
    }

    pub(super) fn wants_to_read(&self) -> bool {
        !self.ended && self.may_ask()
    }

    pub(super) fn wants_to_write(&self) -> bool {
        self.backlog() > 0
    }

    fn backlog(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Take in what the client sent. `Ok` also when that was nothing.
    pub(super) fn receive(&mut self) -> Result<(), Hangup> {
        let mut chunk = [0; CHUNK];
        // A few rounds, then others get their turn: what is left rings again.
        for _ in 0..16 {
            if !self.wants_to_read() {
                break;
            }
            match self.receive_some(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            // A complete message waits: it is served before more is read.
            if matches!(self.announced(), Ok(Some(len)) if self.incoming.len() >= 4 + len) {
                break;
            }
        }
        Ok(())
    }

    fn receive_some(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.stream,
            &mut [IoSliceMut::new(chunk)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                for file in files {
                    // Files beyond the bound are closed at once.
                    if self.files.len() < MAX_FILES {
                        self.files.push(file);
                    }
                }
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            tracing::warn!("a client passed more files than any request takes");
        }
        Ok(received.bytes)
    }

    /// Length of the body that the bytes at hand announce.
    fn announced(&self) -> Result<Option<usize>, WireError> {
        match self.incoming.first_chunk::<4>() {
            Some(header) => wire::body_len(*header).map(Some),
            None => Ok(None),
        }
    }

    /// The next complete call.
    pub(super) fn next_call(&mut self, now: Instant) -> Option<Result<Call, WireError>> {
        if self.closing {
            return None;
        }
        let len = match self.announced() {
            Ok(Some(len)) if self.incoming.len() >= 4 + len => len,
            Ok(_) => {
                let begun = !self.incoming.is_empty() || !self.greeted;
                self.deadline = begun.then(|| self.deadline.unwrap_or(now + PATIENCE));
                return None;
            }
            Err(error) => return Some(Err(error)),
        };
        let call = wire::decode(&self.incoming[4..4 + len]);
        self.incoming.drain(..4 + len);
        if self.incoming.is_empty() {
            // A large message is rare; its space is not kept.
            self.incoming = Vec::new();
        }
        self.deadline = None;
        Some(call)
    }

    /// Queue a message, however large the backlog: at most a few per request are.
    pub(super) fn queue(&mut self, message: &Message) -> Result<(), WireError> {
        let frame = wire::encode(message)?;
        self.outgoing.extend_from_slice(&frame);
        Ok(())
    }

    /// Fetch events as far as the client keeps up.
    pub(super) fn fetch_events(&mut self, ring: &EventRing) {
        while let Some(after) = self.events_after
            && self.backlog() < HIGH_WATER
            && let Some(event) = ring.after(after)
        {
            self.events_after = Some(event.seq);
            if let Err(error) = self.queue(&Message::Event(event)) {
                tracing::error!(%error, "an event cannot be sent");
            }
        }
    }

    /// Send what the socket takes. An error, or the end of a closing client, ends the connection.
    pub(super) fn flush(&mut self) -> Result<(), Hangup> {
        while self.backlog() > 0 {
            match self.stream.write_vectored(&[IoSlice::new(&self.outgoing[self.sent..])]) {
                Ok(0) => return Err(Hangup::Closed),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        if self.closing { Err(Hangup::Closed) } else { Ok(()) }
    }

    /// To be asked after all calls were served: the end of a connection that has nothing left.
    pub(super) fn check_end(&self, now: Instant) -> Result<(), Hangup> {
        match self.deadline {
            Some(deadline) if deadline <= now => return Err(Hangup::TooSlow),
            _ if !self.ended || self.backlog() > 0 => {}
            _ if self.incoming.is_empty() => return Err(Hangup::Closed),
            _ => return Err(Hangup::Broken),
        }
        Ok(())
    }
}
