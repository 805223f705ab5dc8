//! [`Wire`]: bytes to and from a server, in clear or inside TLS, without waiting; and [`Patient`],
//! which waits up to a deadline.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConnection;

pub(super) struct Wire {
    socket: File,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Over a socket that does not block.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), tls: None }
    }

    pub(super) fn start_tls(&mut self, connection: ClientConnection) {
        self.tls = Some(Box::new(connection));
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// `WouldBlock` where there is nothing yet, 0 at the end.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return retry(|| self.socket.read(buffer)) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            // A handshake goes on only when its own bytes are sent.
            send_records(tls, &mut self.socket)?;
            if retry(|| tls.read_tls(&mut self.socket))? == 0 {
                return Ok(0);
            }
            if let Err(error) = tls.process_new_packets() {
                // The server hears why.
                let _ = send_records(tls, &mut self.socket);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
        }
    }

    /// Take some of `bytes`; 0 when none can be taken now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = match &mut self.tls {
            None => retry(|| self.socket.write(bytes)),
            Some(tls) => {
                send_records(tls, &mut self.socket)?;
                let taken = tls.writer().write(bytes)?;
                send_records(tls, &mut self.socket)?;
                Ok(taken)
            }
        };
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Bytes were taken, and are not sent.
    pub(super) fn has_more_to_send(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

/// What of TLS the socket takes.
fn send_records(tls: &mut ClientConnection, socket: &mut File) -> io::Result<()> {
    while tls.wants_write() {
        match retry(|| tls.write_tls(socket)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A wire that is waited for, but not longer than to a moment.
pub(super) struct Patient<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) deadline: Instant,
}

impl Patient<'_> {
    fn wait(&self, for_what: PollFlags) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the NBD server does not answer"));
        }
        wait(&mut [PollFd::from_borrowed_fd(self.wire.fd(), for_what)], Some(left))
    }
}

/// Until one of `fds` is ready, or some time has passed.
pub(super) fn wait(fds: &mut [PollFd<'_>], at_most: Option<Duration>) -> io::Result<()> {
    // Never less than a millisecond: who waits for a moment shall find that it has come.
    let time = at_most.map(|time| time.max(Duration::from_millis(1)));
    let time =
        time.map(|time| Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }));
    match poll(fds, time.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.wire.receive(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let both = PollFlags::IN | PollFlags::OUT;
            let sending = self.wire.has_more_to_send();
            self.wait(if sending { both } else { PollFlags::IN })?;
        }
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.wire.send(bytes)? {
                0 if !bytes.is_empty() => self.wait(PollFlags::OUT)?,
                count => return Ok(count),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
