//! [`Server`]: connections of clients, served by one thread that waits for none of them.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};

use super::{Connection, Export};

/// Clients at once. A copying tool takes four or eight.
const MOST_CLIENTS: usize = 32;
/// Bytes that are taken in at a time.
const CHUNK: usize = 16 << 10;

/// Why a server ended.
#[derive(Debug)]
pub enum ServerEnd {
    Stopped,
    Failed(io::Error),
}

struct Client {
    socket: File,
    connection: Connection,
    /// There is more to do for what it said before.
    busy: bool,
}

/// Serves exports to whoever connects.
pub struct Server {
    /// Does not block.
    listener: OwnedFd,
    exports: Arc<[Export]>,
    clients: Vec<Client>,
}

impl Server {
    /// # Errors
    /// When the listener cannot be made not to block.
    pub fn new(listener: OwnedFd, exports: Vec<Export>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self { listener, exports: exports.into(), clients: Vec::new() })
    }

    /// Until `bell` rings, and it is `stopped`.
    pub fn run(&mut self, bell: BorrowedFd<'_>, stopped: &dyn Fn() -> bool) -> ServerEnd {
        loop {
            if let Err(error) = self.wait(bell) {
                return ServerEnd::Failed(error);
            }
            if stopped() {
                return ServerEnd::Stopped;
            }
            self.accept();
            self.clients.retain_mut(|client| client.serve().is_ok());
        }
    }

    fn wait(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        let room = self.clients.len() < MOST_CLIENTS;
        let listen = if room { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), listen),
        ];
        for client in &self.clients {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::IN, client.connection.wants_input());
            wanted.set(PollFlags::OUT, client.connection.has_output() || client.busy);
            fds.push(PollFd::from_borrowed_fd(client.socket.as_fd(), wanted));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn accept(&mut self) {
        while self.clients.len() < MOST_CLIENTS {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = accept_with(&self.listener, flags) else { return };
            let connection = Connection::new(self.exports.clone());
            self.clients.push(Client { socket: socket.into(), connection, busy: false });
        }
    }
}

impl Client {
    /// Take in, work, send: a bounded part of each. An error is its end.
    fn serve(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        if self.connection.wants_input() {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.connection.take(&chunk[..count]),
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.busy = self.connection.work();
        while self.connection.has_output() {
            match self.socket.write(self.connection.output()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.connection.sent(count),
                Err(error) if is_later(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if self.connection.is_over() { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
