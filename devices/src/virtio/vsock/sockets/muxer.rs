//! [`Muxer`]: which packet belongs to which socket, without queues and without an event loop.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};
use vmm_sys_util::epoll::EventSet;

use super::connection::{Connection, Next, Ports, State};
use super::greeting::{self, Greeting, Wish};
use super::header;
use super::packet::{HOST_CID, Header, TYPE_STREAM, op};

const MOST_CONNECTIONS: usize = 1023;
const MOST_LISTENERS: usize = 64;
/// Programs that have not said what they want; the oldest has to go when there are more.
const MOST_GREETINGS: usize = 64;
/// Resets that wait for a buffer of the guest. While there are so many its packets wait.
const MOST_RESETS: usize = 256;
/// Ports that host programs are given; those below are for the guest to connect to.
const FIRST_PORT: u32 = 1 << 30;

#[cfg(test)]
mod tests;

/// Names a socket to the event loop.
pub(super) type Token = u32;

pub(super) struct Muxer {
    cid: u64,
    greetings: BTreeMap<Token, OwnedFd>,
    listeners: BTreeMap<Token, Listener>,
    connections: BTreeMap<Token, Connection>,
    by_ports: BTreeMap<Ports, Token>,
    next_token: Token,
    next_port: u32,
    /// Connections that have something for the guest.
    line: VecDeque<Token>,
    resets: VecDeque<Ports>,
    /// Sockets that the event loop does not know yet, and those that it has to forget.
    pub(super) added: Vec<Token>,
    pub(super) removed: Vec<OwnedFd>,
}

struct Listener {
    port: u32,
    socket: OwnedFd,
}

/// A packet for the guest: its header, and how much data there is with it.
pub(super) struct Packet {
    pub(super) header: Header,
    pub(super) len: usize,
}

impl Muxer {
    pub(super) fn new(cid: u64) -> Self {
        Self {
            cid,
            greetings: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            by_ports: BTreeMap::new(),
            // 0 is the listening socket.
            next_token: 1,
            next_port: FIRST_PORT,
            line: VecDeque::new(),
            resets: VecDeque::new(),
            added: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Every socket there is.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (Token, &OwnedFd)> {
        let greetings = self.greetings.iter().map(|(token, socket)| (*token, socket));
        let listeners = self.listeners.iter().map(|(token, it)| (*token, &it.socket));
        let connections = self.connections.iter().map(|(token, it)| (*token, &it.socket));
        greetings.chain(listeners).chain(connections)
    }

    pub(super) fn socket(&self, token: Token) -> Option<&OwnedFd> {
        let listener = || self.listeners.get(&token).map(|it| &it.socket);
        let connection = || self.connections.get(&token).map(|it| &it.socket);
        self.greetings.get(&token).or_else(listener).or_else(connection)
    }

    pub(super) fn forget_connections(&mut self) {
        self.connections.clear();
        self.by_ports.clear();
        self.line.clear();
        self.resets.clear();
    }

    fn token(&mut self) -> Token {
        loop {
            let token = self.next_token;
            // The event loop keeps the highest bit for itself. Most tokens of long ago are free again.
            self.next_token = if token < i32::MAX as u32 { token + 1 } else { 1 };
            if self.socket(token).is_none() {
                return token;
            }
        }
    }

    /// Have the event loop forget a socket, if it knows it.
    fn remove(&mut self, token: Token, socket: OwnedFd) {
        match self.added.iter().position(|added| *added == token) {
            Some(at) => {
                self.added.swap_remove(at);
            }
            None => self.removed.push(socket),
        }
    }

    /// A program of the host has connected.
    pub(super) fn came(&mut self, socket: OwnedFd) {
        if self.greetings.len() >= MOST_GREETINGS
            && let Some((token, oldest)) = self.greetings.pop_first()
        {
            self.remove(token, oldest);
        }
        let token = self.token();
        self.greetings.insert(token, socket);
        self.added.push(token);
    }

    /// A socket has something to read, room to write, or an end.
    pub(super) fn ready(&mut self, token: Token, events: EventSet) {
        if self.greetings.contains_key(&token) {
            self.greeted(token);
        } else if self.listeners.contains_key(&token) {
            self.heard_listener(token);
        } else if let Some(connection) = self.connections.get_mut(&token) {
            if events.contains(EventSet::HANG_UP) {
                connection.hung_up = true;
            }
            if events.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP) {
                connection.became_readable();
            }
            if connection.is_asking() && connection.hung_up {
                return self.end(token, true);
            }
            match connection.flush() {
                State::Open => self.queue_up(token),
                State::Over => self.end(token, true),
            }
        }
    }

    fn greeted(&mut self, token: Token) {
        let Some(socket) = self.greetings.get(&token) else { return };
        let wish = match greeting::read(socket) {
            Greeting::Incomplete => return,
            Greeting::Wish(wish) => Some(wish),
            Greeting::Gone => None,
            Greeting::Misunderstood => {
                greeting::answer(socket, "ERROR say CONNECT PORT or LISTEN PORT\n");
                None
            }
        };
        let Some(socket) = self.greetings.remove(&token) else { return };
        let refusal = match wish {
            None => return self.remove(token, socket),
            Some(Wish::Connect(_)) if self.connections.len() >= MOST_CONNECTIONS => {
                "ERROR there are too many connections\n"
            }
            Some(Wish::Connect(port)) => return self.connect(token, socket, port),
            Some(Wish::Listen(port)) if self.listener(port).is_some() => {
                "ERROR somebody listens there already\n"
            }
            Some(Wish::Listen(_)) if self.listeners.len() >= MOST_LISTENERS => {
                "ERROR there are too many who listen\n"
            }
            Some(Wish::Listen(port)) => {
                greeting::answer(&socket, &format!("OK {port}\n"));
                self.listeners.insert(token, Listener { port, socket });
                return;
            }
        };
        greeting::answer(&socket, refusal);
        self.remove(token, socket);
    }

    fn connect(&mut self, token: Token, socket: OwnedFd, guest: u32) {
        let mut ports = Ports { host: self.next_port, guest };
        // Far more ports than connections: a free one is near.
        while self.by_ports.contains_key(&ports) {
            ports.host = ports.host.checked_add(1).unwrap_or(FIRST_PORT);
        }
        self.next_port = ports.host.checked_add(1).unwrap_or(FIRST_PORT);
        self.by_ports.insert(ports, token);
        self.connections.insert(token, Connection::to_guest(ports, socket));
        self.queue_up(token);
    }

    /// One that listens has nothing more to say: it ended, or does not know what it does.
    fn heard_listener(&mut self, token: Token) {
        let Some(listener) = self.listeners.get(&token) else { return };
        let heard = recv(&listener.socket, &mut [0; 1][..], RecvFlags::DONTWAIT);
        if !matches!(heard, Err(rustix::io::Errno::AGAIN))
            && let Some(listener) = self.listeners.remove(&token)
        {
            self.remove(token, listener.socket);
        }
    }

    fn listener(&self, port: u32) -> Option<&OwnedFd> {
        self.listeners.values().find(|it| it.port == port).map(|it| &it.socket)
    }

    /// Whether packets of the guest may be taken.
    pub(super) fn takes_packets(&self) -> bool {
        self.resets.len() < MOST_RESETS
    }

    /// How much of the data behind `header` is to be read, and passed to [`data`](Self::data), if
    /// any. What the packet itself says is done when this returns.
    pub(super) fn packet(&mut self, header: &Header, available: u32) -> Option<Token> {
        if header.source_cid != self.cid || header.op == op::RESET && header.kind != TYPE_STREAM {
            return None;
        }
        let ports = Ports { host: header.destination_port, guest: header.source_port };
        if header.destination_cid != HOST_CID || header.kind != TYPE_STREAM {
            self.resets.push_back(ports);
            return None;
        }
        let Some(&token) = self.by_ports.get(&ports) else {
            match header.op {
                op::RESET => {}
                op::REQUEST if self.accept(ports, header) => {}
                _ => self.resets.push_back(ports),
            }
            return None;
        };
        let connection = self.connections.get_mut(&token)?;
        connection.credit(header);
        let established = !connection.is_asking();
        let state = match header.op {
            op::RESPONSE if !established => {
                connection.accepted();
                State::Open
            }
            op::DATA if established && header.len <= available.min(connection.room()) => {
                return Some(token);
            }
            op::SHUTDOWN if established => connection.shut_down(header.flags),
            op::CREDIT_UPDATE if established => State::Open,
            op::CREDIT_REQUEST if established => {
                connection.asked_for_credit();
                State::Open
            }
            op::RESET => {
                self.end(token, false);
                return None;
            }
            // More data than there is room for, or than there is, or what makes no sense here.
            _ => State::Over,
        };
        match state {
            State::Open => self.queue_up(token),
            State::Over => self.end(token, true),
        }
        None
    }

    /// Data of a packet, or a part of it.
    pub(super) fn data(&mut self, token: Token, data: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.take(data);
        }
    }

    /// All data of a packet was handed over.
    pub(super) fn flush(&mut self, token: Token) {
        match self.connections.get_mut(&token).map(Connection::flush) {
            Some(State::Open) => self.queue_up(token),
            Some(State::Over) => self.end(token, true),
            None => {}
        }
    }

    /// The guest asks for a port of the host: whether somebody took the connection.
    fn accept(&mut self, ports: Ports, request: &Header) -> bool {
        if self.connections.len() >= MOST_CONNECTIONS {
            return false;
        }
        let Some(listener) = self.listener(ports.host) else { return false };
        let flags = SocketFlags::CLOEXEC;
        let Ok((ours, theirs)) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        else {
            return false;
        };
        if pass(listener, &theirs, &format!("ACCEPT {}\n", ports.guest)).is_err() {
            return false;
        }
        let token = self.token();
        self.by_ports.insert(ports, token);
        self.connections.insert(token, Connection::from_guest(ports, ours, request));
        self.added.push(token);
        self.queue_up(token);
        true
    }

    fn end(&mut self, token: Token, tell: bool) {
        let Some(connection) = self.connections.remove(&token) else { return };
        self.by_ports.remove(&connection.ports);
        // A guest that takes no packets must not make the line longer with each that comes and goes.
        if connection.in_line {
            self.line.retain(|waiting| *waiting != token);
        }
        if tell && connection.is_known() {
            self.resets.push_back(connection.ports);
        }
        self.remove(token, connection.socket);
    }

    fn queue_up(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token)
            && connection.has_more()
            && !std::mem::replace(&mut connection.in_line, true)
        {
            self.line.push_back(token);
        }
    }

    /// Whether [`next`](Self::next) may have something.
    pub(super) fn has_packets(&self) -> bool {
        !self.line.is_empty() || !self.resets.is_empty()
    }

    /// The next packet for the guest; its data goes into `data`.
    pub(super) fn next(&mut self, data: &mut [u8]) -> Option<Packet> {
        if let Some(ports) = self.resets.pop_front() {
            return Some(Packet { header: header(self.cid, ports, op::RESET), len: 0 });
        }
        while let Some(token) = self.line.pop_front() {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            connection.in_line = false;
            match connection.next(data) {
                Next::Nothing => {}
                Next::Packet { op, flags, len } => {
                    let header = connection.header(self.cid, op, flags, len);
                    // Behind the others.
                    self.queue_up(token);
                    return Some(Packet { header, len });
                }
                Next::Reset => {
                    let ports = connection.ports;
                    self.end(token, false);
                    return Some(Packet { header: header(self.cid, ports, op::RESET), len: 0 });
                }
            }
        }
        None
    }
}

/// Send `line` and a socket.
fn pass(listener: &OwnedFd, socket: &OwnedFd, line: &str) -> rustix::io::Result<()> {
    let files = [socket.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(listener, &[IoSlice::new(line.as_bytes())], &mut control, flags)?;
    Ok(())
}
