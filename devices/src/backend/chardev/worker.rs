//! [`ChardevWorker`]: moves bytes between a character device and its clients, on an io thread.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use vmm_sys_util::epoll::EventSet;

use crate::backend::chardev::device::{Chardev, ClientId, Command};
use crate::backend::chardev::log::Log;
use crate::io_thread::{Job, Stop};
use crate::sync::Lock;

/// Most that moves at once.
const CHUNK: usize = 4 << 10;
/// Chunks per event, so that one flood leaves time for the thread's other jobs.
const BUDGET: usize = 32;

/// The worker's own event; clients are numbered from one.
const WAKE: u32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Input,
    Output,
    Both,
    /// Both, and nobody beside it.
    Alone,
}

pub(super) struct Client {
    end: End,
    /// The other side of a pseudoterminal, kept open.
    peer: Option<OwnedFd>,
    direction: Direction,
    /// How far it has read.
    position: u64,
    /// Its buffers are full: wait until it can take more.
    blocked: bool,
    /// What it is registered for; none if it cannot be waited for (a regular file).
    registered: Option<EventSet>,
}

impl Client {
    pub(super) fn new(
        fd: Arc<OwnedFd>,
        peer: Option<OwnedFd>,
        direction: Direction,
        position: u64,
    ) -> Self {
        Self { end: End::Stream(fd), peer, direction, position, blocked: false, registered: None }
    }

    pub(super) fn log(log: Log, position: u64) -> Self {
        let (end, direction) = (End::Log(log), Direction::Output);
        Self { end, peer: None, direction, position, blocked: false, registered: None }
    }

    fn takes_output(&self) -> bool {
        self.direction != Direction::Input
    }

    fn gives_input(&self) -> bool {
        self.direction != Direction::Output
    }

    /// Who must be waited for. Behind a pty there may be nobody.
    pub(super) fn is_waited_for(&self) -> bool {
        self.is_connection() && self.peer.is_none()
    }

    /// Two-way clients are somebody; a log file is not.
    fn is_connection(&self) -> bool {
        matches!(self.direction, Direction::Both | Direction::Alone)
    }
}

/// Where a client's bytes go to and come from.
enum End {
    Stream(Arc<OwnedFd>),
    Log(Log),
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(fd) => fd.as_fd(),
            Self::Log(log) => log.as_fd(),
        }
    }
}

impl AsRawFd for End {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl End {
    fn write(&mut self, data: &[u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Stream(fd) => rustix::io::write(fd, data),
            Self::Log(log) => log.write(data),
        }
    }
}

/// A listening socket, and the client that came through it.
struct Listener {
    fd: OwnedFd,
    client: Option<u32>,
}

/// Serves the clients of one [`Chardev`].
pub struct ChardevWorker {
    device: Arc<Chardev>,
    listeners: BTreeMap<u32, Listener>,
    clients: BTreeMap<u32, Client>,
    error: Option<io::Error>,
}

/// What became of a client.
#[derive(PartialEq, Eq)]
enum State {
    Alive,
    Gone,
}

impl ChardevWorker {
    pub(super) fn new(device: Arc<Chardev>) -> Self {
        Self { device, listeners: BTreeMap::new(), clients: BTreeMap::new(), error: None }
    }

    fn run_commands(&mut self, ops: &mut EventOps) {
        let commands = std::mem::take(&mut self.device.shared.hold().commands);
        for command in commands {
            match command {
                Command::Attach(ClientId(id), client) => self.insert(id, client, ops),
                Command::Detach(ClientId(id)) => self.remove(id, ops),
                Command::Listen(ClientId(id), fd) => {
                    let interest =
                        if self.has_one_alone() { EventSet::empty() } else { EventSet::IN };
                    if let Err(error) = ops.add(Events::with_data(&fd, id, interest)) {
                        tracing::error!(
                            %error,
                            device = self.device.name(),
                            "cannot listen for clients of a character device"
                        );
                    }
                    self.listeners.insert(id, Listener { fd, client: None });
                }
            }
        }
    }

    fn insert(&mut self, id: u32, mut client: Client, ops: &mut EventOps) {
        let interest = EventSet::empty();
        // A regular file cannot be waited for, and need not be.
        let added = ops.add(Events::with_data(&client.end, id, interest));
        client.registered = added.is_ok().then_some(interest);
        if client.is_connection() && self.device.connections.fetch_add(1, Ordering::Relaxed) == 0 {
            self.device.tell(|listener| listener.connection_changed(true));
        }
        let alone = client.direction == Direction::Alone;
        self.clients.insert(id, client);
        if alone {
            self.turn_away(ops);
        }
    }

    /// Somebody is to be alone: let go who came through listeners, and let nobody in.
    fn turn_away(&mut self, ops: &mut EventOps) {
        let callers: Vec<u32> = self.listeners.values().filter_map(|l| l.client).collect();
        for caller in callers {
            self.remove(caller, ops);
        }
        for (&at, listener) in &self.listeners {
            let _ = ops.modify(Events::with_data(&listener.fd, at, EventSet::empty()));
        }
    }

    fn has_one_alone(&self) -> bool {
        self.clients.values().any(|client| client.direction == Direction::Alone)
    }

    /// Let in who waits at the listener `id`, and nobody else before it has gone.
    fn accept(&mut self, id: u32, ops: &mut EventOps) {
        if self.has_one_alone() {
            return;
        }
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Who gave up waiting is no failure, and the listener itself stays.
        let Ok(stream) = rustix::net::accept_with(&listener.fd, flags) else { return };
        let ClientId(client) = self.device.next_id();
        listener.client = Some(client);
        let _ = ops.modify(Events::with_data(&listener.fd, id, EventSet::empty()));
        let position = {
            let mut shared = self.device.shared.hold();
            shared.callers += 1;
            shared.ring.head()
        };
        self.insert(client, Client::new(Arc::new(stream), None, Direction::Both, position), ops);
    }

    fn remove(&mut self, id: u32, ops: &mut EventOps) {
        self.device.shared.hold().attached.remove(&ClientId(id));
        let Some(client) = self.clients.remove(&id) else { return };
        let closed = self.has_one_alone();
        for (&at, listener) in &mut self.listeners {
            let came_here = listener.client.take_if(|client| *client == id).is_some();
            if came_here {
                self.device.shared.hold().callers -= 1;
            }
            let free = came_here || client.direction == Direction::Alone;
            if free && !closed && listener.client.is_none() {
                let _ = ops.modify(Events::with_data(&listener.fd, at, EventSet::IN));
            }
        }
        if client.direction == Direction::Alone {
            self.device.shared.hold().input.clear();
        }
        if client.registered.is_some() {
            // Its own registration: nothing to be done if it is gone.
            let _ = ops.remove(Events::with_data(&client.end, id, EventSet::empty()));
        }
        if client.is_connection() && self.device.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.device.tell(|listener| listener.connection_changed(false));
        }
    }

    /// Read what a client has, as far as there is room.
    fn read(&self, client: &Client) -> State {
        let mut chunk = [0; CHUNK];
        let room = {
            let mut shared = self.device.shared.hold();
            let room = shared.input_room();
            shared.input_blocked = room == 0;
            room
        };
        if room == 0 {
            return State::Alive;
        }
        match rustix::io::read(&client.end, &mut chunk[..room.min(CHUNK)]) {
            Ok(0) => State::Gone,
            Ok(count) => {
                // Only this thread adds, apart from `inject`, which may overshoot by its own bytes.
                self.device.shared.hold().input.extend(&chunk[..count]);
                self.device.tell(|listener| listener.input_available());
                State::Alive
            }
            Err(Errno::AGAIN | Errno::INTR) => State::Alive,
            Err(_) => State::Gone,
        }
    }

    /// Write one chunk to every client that can take it. Whether there is more to do comes back.
    fn write_round(&mut self, gone: &mut Vec<u32>) -> bool {
        let mut chunk = [0; CHUNK];
        let mut more = false;
        let readers = self.clients.iter_mut();
        for (&id, client) in readers.filter(|(_, client)| client.takes_output() && !client.blocked)
        {
            let count = {
                let shared = self.device.shared.hold();
                let tail = shared.ring.tail();
                if client.position < tail {
                    self.device.lost.fetch_add(tail - client.position, Ordering::Relaxed);
                    client.position = tail;
                }
                shared.ring.read(client.position, &mut chunk)
            };
            if count == 0 {
                continue;
            }
            match client.end.write(&chunk[..count]) {
                Ok(written) => {
                    client.position += written as u64;
                    more = true;
                }
                Err(Errno::INTR) => more = true,
                Err(Errno::AGAIN) if client.registered.is_some() => client.blocked = true,
                Err(_) => gone.push(id),
            }
        }
        more
    }

    /// Let the device go on that waited for a client of its channel.
    fn make_room(&self) {
        if !self.device.lossless {
            return;
        }
        let connections = self.clients.values().filter(|client| client.is_waited_for());
        let slowest = connections.map(|client| client.position).min();
        let mut shared = self.device.shared.hold();
        // One that was added since has read nothing yet.
        if !shared.commands.is_empty() {
            return;
        }
        shared.slowest = slowest;
        let room = shared.output_blocked && shared.output_room() > 0;
        shared.output_blocked &= !room;
        drop(shared);
        if room {
            self.device.tell(|listener| listener.output_possible());
        }
    }

    /// Serve all clients until there is nothing to do, or the budget is used up.
    fn serve(&mut self, ops: &mut EventOps) {
        self.run_commands(ops);
        let mut rounds = 0;
        loop {
            let mut gone = Vec::new();
            let more = self.write_round(&mut gone);
            for id in gone {
                self.remove(id, ops);
            }
            rounds += 1;
            if rounds == BUDGET {
                // Come back after the other jobs.
                let _ = self.device.wake.write(1);
                break;
            }
            if !more && self.fall_asleep() {
                break;
            }
            self.run_commands(ops);
        }
        self.make_room();
        self.register_interest(ops);
    }

    /// Sleep, unless something came up since the last look.
    fn fall_asleep(&self) -> bool {
        let mut shared = self.device.shared.hold();
        let head = shared.ring.head();
        let waiting = self
            .clients
            .values()
            .any(|client| client.takes_output() && !client.blocked && client.position < head);
        shared.asleep = shared.commands.is_empty() && !waiting;
        shared.asleep
    }

    fn register_interest(&mut self, ops: &mut EventOps) {
        let has_room = {
            let mut shared = self.device.shared.hold();
            let has_room = shared.input_room() > 0;
            shared.input_blocked = !has_room;
            has_room
        };
        for (&id, client) in &mut self.clients {
            let mut interest = EventSet::empty();
            interest.set(EventSet::IN, client.gives_input() && has_room);
            interest.set(EventSet::OUT, client.blocked);
            if client.registered.is_some_and(|registered| registered != interest)
                && ops.modify(Events::with_data(&client.end, id, interest)).is_ok()
            {
                client.registered = Some(interest);
            }
        }
    }
}

impl MutEventSubscriber for ChardevWorker {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let id = events.data();
        if id == WAKE {
            let _ = self.device.wake.read();
        } else if self.listeners.contains_key(&id) {
            self.accept(id, ops);
        } else if let Some(client) = self.clients.get_mut(&id) {
            let set = events.event_set();
            if set.contains(EventSet::OUT) {
                client.blocked = false;
            }
            let client = &self.clients[&id];
            let hung_up = set.intersects(EventSet::HANG_UP | EventSet::ERROR);
            let state = if client.gives_input() && set.contains(EventSet::IN) {
                self.read(client)
            } else if hung_up {
                // Nothing to read any more, or no room: waiting would spin on the hang-up.
                State::Gone
            } else {
                State::Alive
            };
            if state == State::Gone {
                self.remove(id, ops);
            }
        }
        self.serve(ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::with_data(&self.device.wake, WAKE, EventSet::IN)) {
            self.error = Some(io::Error::other(error));
        }
        self.serve(ops);
    }
}

impl Job for ChardevWorker {
    type Output = ();

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// What clients can take at once still reaches them: the last words of a guest.
    fn finish(mut self, _how: Stop) {
        for command in std::mem::take(&mut self.device.shared.hold().commands) {
            if let Command::Attach(ClientId(id), client) = command {
                self.clients.insert(id, client);
            }
        }
        let mut gone = Vec::new();
        while self.write_round(&mut gone) && gone.is_empty() {}
        self.device.connections.store(0, Ordering::Relaxed);
        self.device.shared.hold().asleep = true;
    }
}
