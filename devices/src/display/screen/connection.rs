//! [`Connection`]: a socket with what waits to go out through it, as it is or by TLS.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustls::ServerConnection;
use vmm_sys_util::epoll::EventSet;

use crate::display::vnc::Tls;

/// What is read at once, bytes.
const CHUNK: usize = 4 << 10;
/// And what TLS makes one record of.
const RECORD: usize = 16 << 10;

pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    tls: Option<Box<ServerConnection>>,
    out: Vec<u8>,
    /// Bytes of `out` that are gone, or with TLS.
    sent: usize,
    /// What the event loop knows that it waits for.
    pub(super) registered: EventSet,
}

/// Whether there is still somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Alive,
    Gone,
}

impl Connection {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, tls: None, out: Vec::new(), sent: 0, registered: EventSet::empty() })
    }

    /// Send what there is, and all that follows by TLS.
    pub(super) fn secure(&mut self, tls: &Tls) -> io::Result<()> {
        if self.flush() == State::Gone || self.backlog() > 0 {
            // It is a few bytes, and the viewer waits for them.
            return Err(io::ErrorKind::WriteZero.into());
        }
        let session = tls.connection().map_err(io::Error::other)?;
        self.tls = Some(Box::new(session));
        Ok(())
    }

    /// Bytes that wait; with TLS at least one while it has some of its own.
    pub(super) fn backlog(&self) -> usize {
        let records = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        self.out.len() - self.sent + usize::from(records)
    }

    /// Whether room in the socket is of use.
    pub(super) fn wants_to_send(&self) -> bool {
        match &self.tls {
            // What waits for the handshake waits for the viewer.
            Some(tls) if tls.is_handshaking() => tls.wants_write(),
            _ => self.backlog() > 0,
        }
    }

    /// Where more can be added.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Send what the socket takes.
    pub(super) fn flush(&mut self) -> State {
        while self.wants_to_send() {
            let taken = match &mut self.tls {
                None => {
                    rustix::io::write(&self.fd, &self.out[self.sent..]).map_err(io::Error::from)
                }
                Some(tls) if tls.wants_write() => tls.write_tls(&mut Socket(&self.fd)),
                Some(tls) => {
                    // Into TLS, which has room for a record as it has nothing to send.
                    let end = self.out.len().min(self.sent + RECORD);
                    let taken = io::Write::write(&mut tls.writer(), &self.out[self.sent..end]);
                    self.sent += *taken.as_ref().unwrap_or(&0);
                    taken
                }
            };
            match taken {
                Ok(0) => return State::Gone,
                Ok(count) if self.tls.is_none() => self.sent += count,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return State::Alive,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return State::Gone,
            }
        }
        if self.sent < self.out.len() {
            return State::Alive;
        }
        // The space of a large picture is not kept.
        if self.out.capacity() > 256 << 10 {
            self.out = Vec::new();
        }
        self.out.clear();
        self.sent = 0;
        State::Alive
    }

    /// Read once, to the end of `into`, which may be nothing.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> State {
        let mut buffer = [0; CHUNK];
        let bytes = match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => return State::Gone,
            Ok(count) => &buffer[..count],
            Err(Errno::AGAIN | Errno::INTR) => return State::Alive,
            Err(_) => return State::Gone,
        };
        match &mut self.tls {
            None => {
                into.extend_from_slice(bytes);
                State::Alive
            }
            Some(tls) => match decrypt(tls, bytes, into) {
                Ok(state) => state,
                Err(error) => {
                    tracing::info!(%error, "a viewer's TLS failed");
                    // It shall hear why, as far as it listens.
                    let _ = tls.write_tls(&mut Socket(&self.fd));
                    State::Gone
                }
            },
        }
    }
}

/// Give `bytes` to TLS, and take what is in them.
fn decrypt(tls: &mut ServerConnection, bytes: &[u8], into: &mut Vec<u8>) -> io::Result<State> {
    let mut rest = bytes;
    while !rest.is_empty() {
        tls.read_tls(&mut rest)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        if state.peer_has_closed() {
            return Ok(State::Gone);
        }
        // All of it: the event loop tells only of what waits in the socket.
        let mut plain = io::Read::take(tls.reader(), state.plaintext_bytes_to_read() as u64);
        io::Read::read_to_end(&mut plain, into)?;
    }
    Ok(State::Alive)
}

struct Socket<'a>(&'a OwnedFd);

impl io::Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
