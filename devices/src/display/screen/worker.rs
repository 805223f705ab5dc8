//! [`ScreenWorker`]: the event loop's side of a [`Screen`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use rustix::net::SocketFlags;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use vmm_sys_util::epoll::EventSet;

use super::connection::{Connection, State};
use super::{Listener, Order, Screen, Sharing};
use crate::display::Surface;
use crate::display::picture::png;
use crate::display::vnc::{Notice, Terms, Viewer};
use crate::io_thread::{Job, Stop};
use crate::sync::Lock;

/// Viewers and takers of pictures at once.
const MOST_CLIENTS: usize = 32;
/// From connecting to being let in, and for a picture to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between frames while the picture changes, and when it has not for a while.
const FRAME: Duration = Duration::from_millis(33);
const IDLE_FRAME: Duration = Duration::from_millis(100);
/// So many frames without a change make it idle.
const IDLE_AFTER: u32 = 60;
/// What blinks does so at about the rate of a VGA.
const BLINK_MS: u128 = 266;
/// Times that a viewer's socket is filled before others get their turn.
const ROUNDS: usize = 16;

const WAKE: u32 = 0;
const TIMER: u32 = 1;
const FIRST_ID: u32 = 16;

pub struct ScreenWorker {
    screen: Arc<Screen>,
    surface: Surface,
    timer: OwnedFd,
    armed: bool,
    started: Instant,
    drawn: Option<Instant>,
    /// Frames since the picture changed.
    still: u32,
    listeners: BTreeMap<u32, Listener>,
    clients: BTreeMap<u32, Client>,
    next_id: u32,
    error: Option<io::Error>,
}

struct Client {
    connection: Connection,
    role: Role,
    /// When it is sent away, unless it has come further by then.
    deadline: Option<Instant>,
}

enum Role {
    /// Takes a picture and goes.
    Picture,
    Viewer {
        viewer: Box<Viewer>,
        sharing: Sharing,
        alone: bool,
    },
}

impl ScreenWorker {
    pub(super) fn new(screen: Arc<Screen>) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            screen,
            surface: Surface::new(),
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            armed: false,
            started: Instant::now(),
            drawn: None,
            still: 0,
            listeners: BTreeMap::new(),
            clients: BTreeMap::new(),
            next_id: FIRST_ID,
            error: None,
        })
    }

    fn id(&mut self) -> u32 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(FIRST_ID);
        self.next_id
    }

    fn take_orders(&mut self, ops: &mut EventOps) {
        let orders = std::mem::take(&mut *self.screen.orders.hold());
        for order in orders {
            match order {
                Order::Picture(stream) => self.picture(stream, ops),
                Order::Viewer(stream) => {
                    let terms = self.screen.trusted.clone();
                    self.viewer(stream, &terms, Sharing::Ignore, ops);
                }
                Order::Listen(listener) => {
                    let id = self.id();
                    if let Err(error) =
                        ops.add(Events::with_data(&listener.socket, id, EventSet::IN))
                    {
                        tracing::error!(%error, screen = self.screen.name, "nobody hears viewers");
                    }
                    self.listeners.insert(id, listener);
                }
            }
        }
    }

    fn picture(&mut self, stream: OwnedFd, ops: &mut EventOps) {
        self.draw(true);
        match png(&self.surface) {
            Ok(file) => self.insert(stream, Role::Picture, file, ops),
            Err(error) => tracing::error!(%error, screen = self.screen.name, "no picture"),
        }
    }

    fn viewer(
        &mut self,
        stream: OwnedFd,
        terms: &Arc<Terms>,
        sharing: Sharing,
        ops: &mut EventOps,
    ) {
        let mut greeting = Vec::new();
        let viewer = Box::new(Viewer::new(terms.clone(), &mut greeting));
        self.insert(stream, Role::Viewer { viewer, sharing, alone: false }, greeting, ops);
    }

    fn insert(&mut self, stream: OwnedFd, role: Role, words: Vec<u8>, ops: &mut EventOps) {
        if self.clients.len() >= MOST_CLIENTS {
            tracing::warn!(screen = self.screen.name, "there are too many viewers already");
            return;
        }
        let id = self.id();
        let connection = Connection::new(stream).and_then(|connection| {
            let events = Events::with_data(&connection.fd, id, EventSet::empty());
            ops.add(events).map_err(io::Error::other)?;
            Ok(connection)
        });
        match connection {
            Ok(mut connection) => {
                *connection.out() = words;
                let deadline = Some(Instant::now() + PATIENCE);
                self.clients.insert(id, Client { connection, role, deadline });
            }
            Err(error) => tracing::warn!(%error, screen = self.screen.name, "a viewer was lost"),
        }
    }

    fn accept(&mut self, id: u32, ops: &mut EventOps) {
        let Some(listener) = self.listeners.get(&id) else { return };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // Who gave up waiting is no failure, and the listener itself stays.
        let Ok(stream) = rustix::net::accept_with(&listener.socket, flags) else { return };
        let (terms, sharing) = (listener.terms.clone(), listener.sharing);
        self.viewer(stream, &terms, sharing, ops);
    }

    fn remove(&mut self, id: u32, ops: &mut EventOps) {
        let Some(mut client) = self.clients.remove(&id) else { return };
        // Its own registration: nothing to be done if it is gone.
        let _ = ops.remove(Events::with_data(&client.connection.fd, id, EventSet::empty()));
        if let Role::Viewer { viewer, .. } = &mut client.role {
            viewer.leave(&*self.screen.input);
        }
    }

    fn read(&mut self, id: u32) -> State {
        let role = self.clients.get(&id).map(|client| &client.role);
        if let Some(Role::Viewer { viewer, .. }) = role
            && viewer.awaits_size()
        {
            // Some viewers can be told a size only once: it shall be the one there is now.
            self.draw(true);
        }
        let Some(client) = self.clients.get_mut(&id) else { return State::Alive };
        let mut bytes = Vec::new();
        if client.connection.read(&mut bytes) == State::Gone {
            return State::Gone;
        }
        let Role::Viewer { viewer, sharing, alone } = &mut client.role else {
            // Who waits for a picture has nothing to say: only its end is of interest.
            return State::Alive;
        };
        let input = &*self.screen.input;
        match viewer.receive(&bytes, &self.surface, input, client.connection.out()) {
            Ok(None) => State::Alive,
            Ok(Some(Notice::Secure)) => {
                let Some(tls) = viewer.tls() else { return State::Gone };
                if let Err(error) = client.connection.secure(tls) {
                    tracing::info!(%error, screen = self.screen.name, "TLS did not begin");
                    return State::Gone;
                }
                viewer.secured(client.connection.out());
                State::Alive
            }
            Ok(Some(Notice::Joined { shared })) => {
                client.deadline = None;
                let sharing = *sharing;
                *alone = !shared && sharing == Sharing::AllowExclusive;
                self.join(id, shared, sharing)
            }
            Err(reason) => {
                tracing::info!(screen = self.screen.name, %reason, "a viewer was sent away");
                // It shall hear why, as far as it listens.
                let _ = client.connection.flush();
                State::Gone
            }
        }
    }

    /// A viewer was let in: whether it stays, and who does beside it.
    fn join(&mut self, id: u32, shared: bool, sharing: Sharing) -> State {
        let others = |client: &(&u32, &mut Client)| *client.0 != id;
        match (sharing, shared) {
            (Sharing::Ignore, _) | (Sharing::ForceShared, true) => State::Alive,
            (Sharing::ForceShared, false) => State::Gone,
            (Sharing::AllowExclusive, false) => {
                for (_, client) in self.clients.iter_mut().filter(others) {
                    if matches!(client.role, Role::Viewer { .. }) {
                        client.deadline = Some(Instant::now());
                    }
                }
                State::Alive
            }
            (Sharing::AllowExclusive, true) => {
                let mut others = self.clients.iter_mut().filter(others);
                let taken = others
                    .any(|(_, client)| matches!(client.role, Role::Viewer { alone: true, .. }));
                if taken { State::Gone } else { State::Alive }
            }
        }
    }

    fn draw(&mut self, blink: bool) {
        let before = self.surface.frame();
        self.screen.scanout.draw(&mut self.surface, blink);
        let changed = !self.surface.changes_since(before).is_empty();
        self.still = if changed { 0 } else { self.still.saturating_add(1) };
    }

    /// Draw if somebody waits and it is time to, and give everyone what there is for them.
    fn serve(&mut self, ops: &mut EventOps) {
        let now = Instant::now();
        let waits = self.clients.values().any(Client::wants_frame);
        let pause = if self.still < IDLE_AFTER { FRAME } else { IDLE_FRAME };
        let due = self.drawn.map_or(now, |drawn| drawn + pause);
        if waits && due <= now {
            let blink = ((now - self.started).as_millis() / BLINK_MS).is_multiple_of(2);
            self.draw(blink);
            self.drawn = Some(now);
        }
        let accepts = self.screen.input.accepts();
        let mut gone = Vec::new();
        for (&id, client) in &mut self.clients {
            if let Role::Viewer { viewer, .. } = &mut client.role
                && client.connection.backlog() == 0
                && self.drawn == Some(now)
            {
                viewer.begin_update(&self.surface, accepts, client.connection.out());
            }
            let late = client.deadline.is_some_and(|deadline| deadline <= now);
            if client.send(&self.surface) == State::Gone || client.is_done() || late {
                gone.push(id);
            }
        }
        if self.clients.values().any(Client::is_hungry) {
            // Come back after the thread's other events.
            let _ = self.screen.wake.write(1);
        }
        for id in gone {
            self.remove(id, ops);
        }
        self.register_interest(ops);
        self.arm(now);
    }

    fn register_interest(&mut self, ops: &mut EventOps) {
        for (&id, client) in &mut self.clients {
            let mut interest = EventSet::IN;
            interest.set(EventSet::OUT, client.connection.wants_to_send());
            let connection = &mut client.connection;
            if connection.registered != interest
                && ops.modify(Events::with_data(&connection.fd, id, interest)).is_ok()
            {
                connection.registered = interest;
            }
        }
        let interest =
            if self.clients.len() < MOST_CLIENTS { EventSet::IN } else { EventSet::empty() };
        for (&id, listener) in &self.listeners {
            // Those beyond wait in the listener's queue.
            let _ = ops.modify(Events::with_data(&listener.socket, id, interest));
        }
    }

    /// Wake up for the next frame, or for the next deadline.
    fn arm(&mut self, now: Instant) {
        let waits = self.clients.values().any(Client::wants_frame);
        let pause = if self.still < IDLE_AFTER { FRAME } else { IDLE_FRAME };
        let frame = waits.then(|| self.drawn.map_or(now, |drawn| drawn + pause));
        let deadlines = self.clients.values().filter_map(|client| client.deadline);
        let next = frame.into_iter().chain(deadlines).min();
        if next.is_none() && !self.armed {
            return;
        }
        self.armed = next.is_some();
        // An all-zero time switches the timer off, so what is due now is due in a nanosecond.
        let value = next.map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |next| {
            let wait = next.saturating_duration_since(now);
            let tv_nsec = i64::from(wait.subsec_nanos()).max(1);
            Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec }
        });
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Setting a valid time on our own timer cannot fail.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }
}

impl Client {
    /// Encode and send, as far as the socket takes it, and others get their turn.
    fn send(&mut self, surface: &Surface) -> State {
        for _ in 0..ROUNDS {
            if let Role::Viewer { viewer, .. } = &mut self.role {
                let waiting = self.connection.backlog();
                viewer.fill(surface, self.connection.out(), waiting);
            }
            if self.connection.flush() == State::Gone {
                return State::Gone;
            }
            if !self.is_hungry() {
                break;
            }
        }
        State::Alive
    }

    /// The socket took everything, and there is more.
    fn is_hungry(&self) -> bool {
        match &self.role {
            Role::Viewer { viewer, .. } => viewer.is_busy() && self.connection.backlog() == 0,
            Role::Picture => false,
        }
    }

    fn wants_frame(&self) -> bool {
        match &self.role {
            Role::Viewer { viewer, .. } => viewer.wants_frame() && self.connection.backlog() == 0,
            Role::Picture => false,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.role, Role::Picture) && self.connection.backlog() == 0
    }
}

impl MutEventSubscriber for ScreenWorker {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            WAKE => {
                let _ = self.screen.wake.read();
            }
            TIMER => {
                let _ = rustix::io::read(&self.timer, &mut [0u8; 8]);
            }
            id if self.listeners.contains_key(&id) => self.accept(id, ops),
            id => {
                let set = events.event_set();
                let ended = !set.contains(EventSet::IN)
                    && set.intersects(EventSet::HANG_UP | EventSet::ERROR);
                if ended || (set.contains(EventSet::IN) && self.read(id) == State::Gone) {
                    self.remove(id, ops);
                }
            }
        }
        self.take_orders(ops);
        self.serve(ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        let added = ops
            .add(Events::with_data(&self.screen.wake, WAKE, EventSet::IN))
            .and_then(|()| ops.add(Events::with_data(&self.timer, TIMER, EventSet::IN)));
        self.error = added.err().map(io::Error::other);
        self.take_orders(ops);
        self.serve(ops);
    }
}

impl Job for ScreenWorker {
    type Output = ();

    fn init_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn finish(self, _how: Stop) {}
}
