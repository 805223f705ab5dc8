//! [`Connection`]: one stream between a port of the guest and a socket of the host.
//!
//! Nothing is read from the socket that the guest has no room for, and nothing is taken from the
//! guest that there is no room for here: who does not read stops its peer, and costs no memory.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send};

use super::packet::{Header, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, op};

/// Bytes of the guest that wait for the host's program, at most.
pub(super) const ROOM: u32 = 64 << 10;

const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// The two ports that tell a connection from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The guest has been asked, or is about to be.
    Asking,
    Established,
}

pub(super) struct Connection {
    pub(super) ports: Ports,
    pub(super) socket: OwnedFd,
    stage: Stage,
    /// From the guest, on their way into the socket.
    waiting: VecDeque<u8>,
    /// Bytes from the guest that have left `waiting`, modulo 2³², and what the guest knows of it.
    forwarded: u32,
    told: u32,
    /// Bytes to the guest, modulo 2³², and what it said of its own room last.
    sent: u32,
    peer_buffer: u32,
    peer_forwarded: u32,
    /// The socket may have data, or an end.
    readable: bool,
    /// The other end of the socket is closed altogether.
    pub(super) hung_up: bool,
    /// Flags of the shutdown that the guest was told.
    told_shutdown: u32,
    /// Flags of the shutdown that it said.
    shutdown: u32,
    owes: Owes,
    /// It stands in the line of those who have something for the guest.
    pub(super) in_line: bool,
}

/// What is to be said beside data.
#[derive(Debug, Default)]
struct Owes {
    request: bool,
    response: bool,
    credit: bool,
    /// Flags.
    shutdown: u32,
}

/// What the guest is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    Packet {
        op: u16,
        flags: u32,
        len: usize,
    },
    /// The connection is over.
    Reset,
}

/// Whether a connection is still one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// To be ended, and the guest to be told so.
    Over,
}

impl Connection {
    /// One that a program of the host wants.
    pub(super) fn to_guest(ports: Ports, socket: OwnedFd) -> Self {
        let owes = Owes { request: true, ..Owes::default() };
        Self { owes, ..Self::new(ports, socket, Stage::Asking) }
    }

    /// One that the guest wants, and that somebody took.
    pub(super) fn from_guest(ports: Ports, socket: OwnedFd, request: &Header) -> Self {
        let owes = Owes { response: true, ..Owes::default() };
        let mut made = Self { owes, ..Self::new(ports, socket, Stage::Established) };
        made.credit(request);
        made
    }

    fn new(ports: Ports, socket: OwnedFd, stage: Stage) -> Self {
        Self {
            ports,
            socket,
            stage,
            waiting: VecDeque::new(),
            forwarded: 0,
            told: 0,
            sent: 0,
            peer_buffer: 0,
            peer_forwarded: 0,
            readable: true,
            hung_up: false,
            told_shutdown: 0,
            shutdown: 0,
            owes: Owes::default(),
            in_line: false,
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        self.stage == Stage::Asking
    }

    /// Whether the guest has heard of it.
    pub(super) fn is_known(&self) -> bool {
        !self.owes.request
    }

    /// Whether [`next`](Self::next) may have something.
    pub(super) fn has_more(&self) -> bool {
        let owes = &self.owes;
        owes.request || owes.response || owes.credit || owes.shutdown != 0 || self.can_send()
    }

    fn can_send(&self) -> bool {
        self.stage == Stage::Established && self.readable && self.peer_room() > 0
    }

    /// Bytes that the guest has room for.
    fn peer_room(&self) -> u32 {
        let in_flight = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_buffer.saturating_sub(in_flight)
    }

    /// Take what the guest says of its room, as every packet does.
    pub(super) fn credit(&mut self, header: &Header) {
        self.peer_buffer = header.buffer;
        self.peer_forwarded = header.forwarded;
    }

    /// The guest took the connection.
    pub(super) fn accepted(&mut self) {
        self.stage = Stage::Established;
        let hello = format!("OK {}\n", self.ports.host);
        // Nothing was written to this socket before, so that so little fits.
        let _ = send(&self.socket, hello.as_bytes(), SEND);
    }

    /// Bytes that the guest may send now.
    pub(super) fn room(&self) -> u32 {
        ROOM.saturating_sub(self.waiting.len() as u32)
    }

    /// Data of the guest, no more than there is [`room`](Self::room) for.
    pub(super) fn take(&mut self, data: &[u8]) {
        self.waiting.extend(data);
    }

    /// Pass on what waits.
    pub(super) fn flush(&mut self) -> State {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match send(&self.socket, first, SEND) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.forwarded = self.forwarded.wrapping_add(count as u32);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return State::Over,
            }
        }
        // The guest learns of new room with any packet; alone only when that is worth one.
        if self.forwarded.wrapping_sub(self.told) >= ROOM / 2 {
            self.owes.credit = true;
        }
        if self.waiting.is_empty() && self.shutdown & SHUTDOWN_SEND != 0 {
            if self.shutdown == SHUTDOWN_BOTH {
                return State::Over;
            }
            // It says no more, but may hear something yet.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        State::Open
    }

    pub(super) fn asked_for_credit(&mut self) {
        self.owes.credit = true;
    }

    /// The guest takes no more data, or has none any more.
    pub(super) fn shut_down(&mut self, flags: u32) -> State {
        self.shutdown |= flags & SHUTDOWN_BOTH;
        if self.shutdown & SHUTDOWN_RECEIVE != 0 {
            // The program learns of it when it writes, and what there is to discard has an end.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
        }
        self.flush()
    }

    /// The socket has something, or its end.
    pub(super) fn became_readable(&mut self) {
        self.readable = true;
    }

    /// The next packet for the guest; its data goes into `data`.
    pub(super) fn next(&mut self, data: &mut [u8]) -> Next {
        let packet = |op| Next::Packet { op, flags: 0, len: 0 };
        if std::mem::take(&mut self.owes.request) {
            return packet(op::REQUEST);
        }
        if std::mem::take(&mut self.owes.response) {
            return packet(op::RESPONSE);
        }
        while self.can_send() {
            let most = data.len().min(self.peer_room() as usize);
            if most == 0 {
                // The guest's buffer holds a header alone, and reading nothing never ends.
                break;
            }
            let received = recv(&self.socket, &mut data[..most], RecvFlags::DONTWAIT);
            match received.map(|(count, _)| count) {
                Ok(0) => {
                    self.readable = false;
                    self.ended();
                }
                // The guest said that it wants to hear nothing.
                Ok(_) if self.shutdown & SHUTDOWN_RECEIVE != 0 => {}
                Ok(len) => {
                    self.sent = self.sent.wrapping_add(len as u32);
                    return Next::Packet { op: op::DATA, flags: 0, len };
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(_) => return Next::Reset,
            }
        }
        let flags = std::mem::take(&mut self.owes.shutdown);
        if flags != 0 {
            self.told_shutdown |= flags;
            return Next::Packet { op: op::SHUTDOWN, flags, len: 0 };
        }
        if std::mem::take(&mut self.owes.credit) {
            return packet(op::CREDIT_UPDATE);
        }
        Next::Nothing
    }

    /// All that the socket had is read.
    fn ended(&mut self) {
        let flags = if self.hung_up { SHUTDOWN_BOTH } else { SHUTDOWN_SEND };
        self.owes.shutdown = flags & !self.told_shutdown;
    }

    /// What a packet to the guest says of this connection.
    pub(super) fn header(&mut self, cid: u64, op: u16, flags: u32, len: usize) -> Header {
        self.told = self.forwarded;
        self.owes.credit = false;
        Header {
            len: len as u32,
            flags,
            buffer: ROOM,
            forwarded: self.forwarded,
            ..super::header(cid, self.ports, op)
        }
    }
}
