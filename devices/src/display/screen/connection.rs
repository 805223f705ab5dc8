//! [`Connection`]: a socket with what waits to go out through it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use vmm_sys_util::epoll::EventSet;

pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    out: Vec<u8>,
    /// Bytes of `out` that are gone.
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
        Ok(Self { fd, out: Vec::new(), sent: 0, registered: EventSet::empty() })
    }

    /// Bytes that wait.
    pub(super) fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Where more can be added.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Send what the socket takes.
    pub(super) fn flush(&mut self) -> State {
        while self.backlog() > 0 {
            match rustix::io::write(&self.fd, &self.out[self.sent..]) {
                Ok(0) => return State::Gone,
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return State::Alive,
                Err(Errno::INTR) => {}
                Err(_) => return State::Gone,
            }
        }
        // The space of a large picture is not kept.
        if self.out.capacity() > 256 << 10 {
            self.out = Vec::new();
        }
        self.out.clear();
        self.sent = 0;
        State::Alive
    }

    /// Read once. None when there is nothing; no bytes are the end.
    pub(super) fn read<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(count) => Some(&buffer[..count]),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(&[]),
        }
    }
}
