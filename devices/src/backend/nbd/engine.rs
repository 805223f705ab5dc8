//! [`Engine`]: the thread that owns the connection of a disk.
//!
//! ```text
//!              lost, or the protocol broken                  a new connection, negotiated
//!   connected ─────────────────────────────▶ disconnected ────────────────────────────────▶ connected
//!                commands without a reply      asks for a connection, again and again;      are sent
//!                are kept                      after the delay, requests fail               once more
//! ```
//! It never connects by itself: it has no way to. Whoever can is asked, and brings a socket.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use super::NbdError;
use super::export::{self, Export, NegotiationError};
use super::flight::{Abilities, Command, Flight};
use super::spec::{REPLY_MAGIC, REQUEST_MAGIC, command, error};
use super::tls::NbdTls;
use super::wire::{Patient, Wire, wait};
use crate::limit::warn_limited;
use crate::sync::Lock;

/// For a server to agree on everything.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two times that a connection is asked for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Bytes that wait to be sent before more are encoded.
const HIGH_WATER: usize = 256 << 10;
const REPLY_LEN: usize = 16;

/// What is agreed on with a server, each time anew.
pub(super) struct Terms {
    pub(super) export: String,
    pub(super) tls: Option<NbdTls>,
    pub(super) writable: bool,
    /// Of the guest.
    pub(super) block_size: u32,
}

impl Terms {
    /// Agree with the server behind `socket`. A server that came back may serve more than before,
    /// but not less.
    pub(super) fn agree(
        &self,
        socket: OwnedFd,
        at_least: u64,
        deadline: Instant,
    ) -> Result<(Wire, Export), NbdError> {
        let mut wire = Wire::new(socket);
        let mut stream = Patient { wire: &mut wire, deadline };
        export::greet(&mut stream)?;
        if let Some(tls) = &self.tls {
            export::start_tls(&mut stream)?;
            let connection = tls.connection().map_err(io::Error::other)?;
            stream.wire.start_tls(connection);
        }
        let export = export::go(&mut stream, &self.export)?;
        if self.writable && export.read_only() {
            return Err(NbdError::ReadOnly { name: self.export.clone() });
        }
        if export.minimum_block > self.block_size {
            return Err(NbdError::BlockSize {
                server: export.minimum_block,
                guest: self.block_size,
            });
        }
        if export.size < at_least {
            return Err(NbdError::Shrunk { size: export.size, before: at_least });
        }
        Ok((wire, export))
    }
}

/// How others reach the engine.
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Letters {
    flights: Vec<Flight>,
    connection: Option<OwnedFd>,
    closing: bool,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Arc::new(Self { letters: Mutex::default(), wake }))
    }

    fn put(&self, change: impl FnOnce(&mut Letters)) {
        change(&mut self.letters.hold());
        // Fails only when the counter is full, and then the engine is told anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn fly(&self, flights: &mut Vec<Flight>) {
        self.put(|letters| letters.flights.append(flights));
    }

    /// A socket that does not block; one that is not needed is closed.
    pub(super) fn connect(&self, socket: OwnedFd) {
        self.put(|letters| letters.connection = Some(socket));
    }

    pub(super) fn close(&self) {
        self.put(|letters| letters.closing = true);
    }

    fn take(&self) -> Letters {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let mut letters = self.letters.hold();
        let closing = letters.closing;
        Letters { closing, ..std::mem::take(&mut *letters) }
    }
}

/// Who hears of the connection.
pub(super) struct Tell {
    /// Asks for one, with the reason why the last was lost.
    pub(super) ask: Box<dyn Fn(&str) + Send>,
    /// There is one again.
    pub(super) back: Box<dyn Fn() + Send>,
}

pub(super) struct Engine {
    mailbox: Arc<Mailbox>,
    terms: Terms,
    size: u64,
    server: Abilities,
    /// How long requests wait for a new connection.
    delay: Duration,
    tell: Tell,
    connection: Connection,
    /// Not commanded at present, in their order.
    waiting: VecDeque<Flight>,
    /// By the handles of their commands, which count up.
    commanded: BTreeMap<u64, (Flight, Command)>,
    handles: u64,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that were sent.
    sent: usize,
    incoming: Incoming,
    /// Of a read, as far as it is here.
    data: Vec<u8>,
}

enum Connection {
    Up(Wire),
    Down { since: Instant, ask_at: Instant, pause: Duration, reason: String },
}

enum Incoming {
    Reply { bytes: [u8; REPLY_LEN], have: usize },
    Data { handle: u64, have: usize },
}

impl Incoming {
    const NOTHING: Self = Self::Reply { bytes: [0; REPLY_LEN], have: 0 };
}

fn broken(reason: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, NegotiationError::Protocol(reason))
}

impl Engine {
    pub(super) fn new(
        mailbox: Arc<Mailbox>,
        terms: Terms,
        (wire, size): (Wire, u64),
        server: Abilities,
        delay: Duration,
        tell: Tell,
    ) -> Self {
        Self {
            mailbox,
            terms,
            size,
            server,
            delay,
            tell,
            connection: Connection::Up(wire),
            waiting: VecDeque::new(),
            commanded: BTreeMap::new(),
            handles: 0,
            outgoing: Vec::new(),
            sent: 0,
            incoming: Incoming::NOTHING,
            data: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let Letters { flights, connection, closing } = self.mailbox.take();
            self.waiting.extend(flights);
            if closing {
                return self.part();
            }
            if let Some(socket) = connection {
                self.connect(socket);
            }
            match self.work() {
                Ok(true) => {}
                Ok(false) => self.wait(),
                Err(error) => self.lose(&error.to_string()),
            }
        }
    }

    /// Whether something was done.
    fn work(&mut self) -> io::Result<bool> {
        if let Connection::Up(_) = self.connection {
            let sent = self.send()?;
            return Ok(self.receive()? || sent);
        }
        self.ask_again();
        Ok(self.expire())
    }

    // ---- connected -------------------------------------------------------------------------

    fn send(&mut self) -> io::Result<bool> {
        let before = (self.handles, self.sent);
        while self.outgoing.len() - self.sent < HIGH_WATER
            && let Some(flight) = self.waiting.pop_front()
        {
            self.command(flight);
        }
        let Connection::Up(wire) = &mut self.connection else { return Ok(false) };
        while self.sent < self.outgoing.len() {
            match wire.send(&self.outgoing[self.sent..])? {
                0 => return Ok(before != (self.handles, self.sent)),
                count => self.sent += count,
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(before != (self.handles, self.sent))
    }

    fn command(&mut self, flight: Flight) {
        let Some(command) = flight.command(&self.server) else { return flight.finish(Ok(())) };
        self.handles += 1;
        encode(command, self.handles, &mut self.outgoing);
        if command.kind == command::WRITE {
            flight.data(command, &mut self.outgoing);
        }
        self.commanded.insert(self.handles, (flight, command));
    }

    fn receive(&mut self) -> io::Result<bool> {
        let Connection::Up(wire) = &mut self.connection else { return Ok(false) };
        let (space, have) = match &mut self.incoming {
            Incoming::Reply { bytes, have } => (&mut bytes[*have..], have),
            Incoming::Data { have, .. } => (&mut self.data[*have..], have),
        };
        match wire.receive(space) {
            Ok(0) => return Err(io::Error::other("the NBD server closed the connection")),
            Ok(count) => *have += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        match self.incoming {
            Incoming::Reply { bytes, have: REPLY_LEN } => self.on_reply(&bytes)?,
            Incoming::Data { handle, have } if have == self.data.len() => {
                self.incoming = Incoming::NOTHING;
                self.on_done(handle);
            }
            _ => {}
        }
        Ok(true)
    }

    fn on_reply(&mut self, bytes: &[u8; REPLY_LEN]) -> io::Result<()> {
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if word(0) != REPLY_MAGIC {
            return Err(broken("a reply without its magic number"));
        }
        let (failure, handle) = (word(4), u64::from(word(8)) << 32 | u64::from(word(12)));
        let Some((_, command)) = self.commanded.get(&handle) else {
            return Err(broken("a reply to no request"));
        };
        self.incoming = Incoming::NOTHING;
        match failure {
            0 => {
                self.data.clear();
                self.data.resize(command.answer_len(), 0);
                if self.data.is_empty() {
                    self.on_done(handle);
                } else {
                    self.incoming = Incoming::Data { handle, have: 0 };
                }
            }
            // Not carried out; whoever comes in its place will.
            error::SHUTDOWN => return Err(io::Error::other("the NBD server shuts down")),
            failure => {
                if let Some((flight, _)) = self.commanded.remove(&handle) {
                    flight.finish(Err(failed(failure)));
                }
            }
        }
        Ok(())
    }

    fn on_done(&mut self, handle: u64) {
        let Some((mut flight, command)) = self.commanded.remove(&handle) else { return };
        flight.done(command, &self.data);
        match flight.command(&self.server) {
            None => flight.finish(Ok(())),
            Some(_) => self.waiting.push_back(flight),
        }
    }

    // ---- disconnected ----------------------------------------------------------------------

    fn lose(&mut self, reason: &str) {
        warn_limited!("export {:?}: the connection was lost: {reason}", self.terms.export);
        self.outgoing = Vec::new();
        self.sent = 0;
        self.incoming = Incoming::NOTHING;
        for (flight, _) in std::mem::take(&mut self.commanded).into_values().rev() {
            self.waiting.push_front(flight);
        }
        let now = Instant::now();
        let (reason, pause) = (reason.to_owned(), SHORTEST_PAUSE);
        self.connection = Connection::Down { since: now, ask_at: now, pause, reason };
    }

    fn ask_again(&mut self) {
        let Connection::Down { ask_at, pause, reason, .. } = &mut self.connection else { return };
        let now = Instant::now();
        if *ask_at <= now {
            (self.tell.ask)(reason);
            *ask_at = now + *pause;
            *pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Fail what has waited long enough; whether there was something.
    fn expire(&mut self) -> bool {
        let Connection::Down { since, reason, .. } = &self.connection else { return false };
        if since.elapsed() < self.delay || self.waiting.is_empty() {
            return false;
        }
        for flight in self.waiting.drain(..) {
            let text = format!("no connection to the NBD server: {reason}");
            flight.finish(Err(io::Error::new(ErrorKind::NotConnected, text)));
        }
        true
    }

    fn connect(&mut self, socket: OwnedFd) {
        let Connection::Down { reason, .. } = &mut self.connection else { return };
        match self.terms.agree(socket, self.size, Instant::now() + PATIENCE) {
            Ok((wire, export)) => {
                tracing::info!(export = self.terms.export, "connected to the NBD server again");
                self.server.export = export;
                self.connection = Connection::Up(wire);
                (self.tell.back)();
            }
            Err(error) => {
                warn_limited!("export {:?}: no new connection: {error}", self.terms.export);
                *reason = error.to_string();
            }
        }
    }

    // ---- both ------------------------------------------------------------------------------

    fn wait(&self) {
        let (wire, at_most) = match &self.connection {
            Connection::Up(wire) => (Some(wire), None),
            Connection::Down { since, ask_at, .. } => {
                let ask = ask_at.saturating_duration_since(Instant::now());
                let expire = self.delay.saturating_sub(since.elapsed());
                (None, Some(if self.waiting.is_empty() { ask } else { ask.min(expire) }))
            }
        };
        let mut fds = vec![PollFd::new(&self.mailbox.wake, PollFlags::IN)];
        if let Some(wire) = wire {
            let sending = self.sent < self.outgoing.len() || wire.has_more_to_send();
            let both = PollFlags::IN | PollFlags::OUT;
            let flags = if sending { both } else { PollFlags::IN };
            fds.push(PollFd::from_borrowed_fd(wire.fd(), flags));
        }
        if let Err(error) = wait(&mut fds, at_most) {
            warn_limited!("waiting for the NBD server failed: {error}");
        }
    }

    /// The disk is closed: say goodbye.
    fn part(self) {
        let closed = || io::Error::new(ErrorKind::NotConnected, "the disk is closed");
        let commanded = self.commanded.into_values().map(|(flight, _)| flight);
        for flight in self.waiting.into_iter().chain(commanded) {
            flight.finish(Err(closed()));
        }
        if let Connection::Up(mut wire) = self.connection
            && self.outgoing.is_empty()
        {
            let mut bytes = Vec::new();
            let goodbye = Command { kind: command::DISCONNECT, flags: 0, offset: 0, len: 0 };
            encode(goodbye, 0, &mut bytes);
            let deadline = Instant::now() + SHORTEST_PAUSE;
            // A server that does not hear it sees the connection end.
            let _ = Patient { wire: &mut wire, deadline }.write_all(&bytes);
        }
    }
}

fn encode(command: Command, handle: u64, to: &mut Vec<u8>) {
    to.extend(REQUEST_MAGIC.to_be_bytes());
    to.extend(command.flags.to_be_bytes());
    to.extend(command.kind.to_be_bytes());
    to.extend(handle.to_be_bytes());
    to.extend(command.offset.to_be_bytes());
    to.extend(command.len.to_be_bytes());
}

/// Errors of the protocol have Linux' numbers; others are none.
fn failed(number: u32) -> io::Error {
    match number {
        1 | 5 | 12 | 22 | 28 | 75 | 95 => io::Error::from_raw_os_error(number as i32),
        _ => io::Error::from_raw_os_error(libc::EIO),
    }
}
