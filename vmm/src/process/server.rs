//! [`Server`]: the control socket, its clients, and the one loop of the main thread.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use vmm_protocol::control::{Call, ControlError, ControlErrorCode, Message, Reply, Request};

use super::client::{Client, Hangup};
use super::domain::{Attach, Domain, Ended};
use super::sys;
use crate::state::Packing;

/// Connections at once. A daemon needs two or three; the rest is room for people.
const MAX_CLIENTS: usize = 64;
/// How long the last messages may take to be read before the process ends anyway.
const FAREWELL: Duration = Duration::from_secs(2);

const LISTENER: u64 = 0;
const BELL: u64 = 1;
const SIGNALS: u64 = 2;
/// Clients are numbered from here and never twice.
const FIRST_CLIENT: u64 = 16;

pub(super) struct Server {
    epoll: std::os::fd::OwnedFd,
    listener: UnixListener,
    clients: BTreeMap<u64, Client>,
    next: u64,
    /// Who waits for the end of a save: client and call.
    saving: Option<(u64, u64)>,
}

impl Server {
    pub(super) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let server =
            Self { epoll, listener, clients: BTreeMap::new(), next: FIRST_CLIENT, saving: None };
        server.watch(server.listener.as_fd(), LISTENER)?;
        Ok(server)
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    /// Serve until the domain ends. Clients are still there then, for [`farewell`](Self::farewell).
    pub(super) fn run(
        &mut self,
        domain: &mut Domain,
        bell: BorrowedFd<'_>,
        signals: BorrowedFd<'_>,
    ) -> io::Result<Ended> {
        self.watch(bell, BELL)?;
        self.watch(signals, SIGNALS)?;
        let mut events = Vec::with_capacity(32);
        loop {
            let now = domain.is_saving().then(Instant::now);
            self.wait(now.or(domain.deadline()), &mut events)?;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    BELL => domain.on_bell(),
                    SIGNALS => match sys::next_signal(signals) {
                        Some(sys::Signal::End) => domain.destroy(),
                        Some(sys::Signal::PowerFailure) => domain.host_powers_off(),
                        None => {}
                    },
                    client => self.serve(client, domain),
                }
            }
            domain.on_time(Instant::now());
            self.go_on_saving(domain);
            self.settle(domain);
            if let Some(ended) = domain.ended() {
                return Ok(ended);
            }
        }
    }

    fn wait(&self, other: Option<Instant>, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        let deadlines = self.clients.values().filter_map(Client::deadline).chain(other);
        let timeout = deadlines.min().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        // A hair more than asked, so that the deadline has passed when we look.
        let timeout = timeout.map(|mut time| {
            if (time.tv_sec, time.tv_nsec) == (0, 0) {
                return time;
            }
            time.tv_nsec = (time.tv_nsec + 1_000_000).min(999_999_999);
            time
        });
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Take connections while there is room. Those beyond wait in the listener's queue until others
    /// have gone: many that died all at once must not cost one that lives its place.
    fn accept(&mut self) {
        while self.clients.len() < MAX_CLIENTS
            && let Ok((stream, _)) = self.listener.accept()
        {
            let token = self.next;
            self.next += 1;
            let client = Client::new(stream, Instant::now())
                .and_then(|client| self.watch(client.fd(), token).map(|()| client));
            match client {
                Ok(client) => drop(self.clients.insert(token, client)),
                Err(error) => tracing::warn!(%error, "a control connection was lost"),
            }
        }
        self.listen();
    }

    /// Hear of new connections only while there is room for one.
    fn listen(&self) {
        let mut interest = epoll::EventFlags::empty();
        interest.set(epoll::EventFlags::IN, self.clients.len() < MAX_CLIENTS);
        let data = epoll::EventData::new_u64(LISTENER);
        if let Err(error) = epoll::modify(&self.epoll, &self.listener, data, interest) {
            tracing::error!(%error, "new control connections cannot be watched for");
        }
    }

    /// Read from one client and carry out what it asks.
    fn serve(&mut self, token: u64, domain: &mut Domain) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        // First what waits to go out: a client that took its replies may ask again.
        if let Err(reason) = client.flush().and_then(|()| client.receive()) {
            return self.hang_up(token, &reason);
        }
        while let Some(client) = self.clients.get_mut(&token)
            && client.may_ask()
            && let Some(call) = client.next_call(Instant::now())
        {
            match call {
                Ok(call) => self.carry_out(token, call, domain),
                Err(error) => {
                    // Where the next message begins is anyone's guess: say why, and end.
                    let error = refuse(ControlErrorCode::Malformed, super::chain(&error));
                    reply(client, 0, Err(error));
                    client.close();
                }
            }
        }
    }

    fn carry_out(&mut self, token: u64, call: Call, domain: &mut Domain) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let Call { id, request } = call;
        if !client.greeted && !matches!(request, Request::Hello { .. }) {
            let text = "the first request of a connection must be Hello";
            reply(client, id, Err(refuse(ControlErrorCode::Malformed, text)));
            return client.close();
        }
        match request {
            Request::Hello { version } => match domain.hello(version) {
                Ok(hello) => {
                    client.greeted = true;
                    reply(client, id, Ok(Reply::Hello(hello)));
                }
                Err(error) => {
                    reply(client, id, Err(error));
                    client.close();
                }
            },
            Request::Events { after } => {
                client.events_after = Some(after);
                reply(client, id, Ok(Reply::Done));
            }
            Request::Console { id: console, replay, force } => {
                let attach = domain.console(&console, replay, force);
                self.hand_over(token, id, attach);
            }
            Request::Screenshot { id: card } => self.hand_over(token, id, domain.picture(&card)),
            Request::Viewer { id: card } => self.hand_over(token, id, domain.viewer(&card)),
            Request::Save
            | Request::SavePacked
            | Request::CopyMemory
            | Request::SaveRest
            | Request::Dump => {
                let file = client.files.pop();
                let begun = match request {
                    Request::Save => domain.begin_save(file, Packing::AsItIs),
                    Request::SavePacked => domain.begin_save(file, Packing::Zstd),
                    Request::CopyMemory => domain.begin_copy(file),
                    Request::SaveRest => domain.begin_rest(),
                    _ => domain.begin_dump(file),
                };
                match begun {
                    Ok(()) => self.saving = Some((token, id)),
                    Err(error) => reply(client, id, Err(error)),
                }
            }
            request => {
                let files = std::mem::take(&mut client.files);
                reply(client, id, domain.request(request, files));
            }
        }
    }

    /// A part of a save, if there is one, and the answer when it was the last.
    fn go_on_saving(&mut self, domain: &mut Domain) {
        let Some(result) = domain.go_on_saving() else { return };
        // Whoever asked may be gone by now.
        if let Some((token, id)) = self.saving.take()
            && let Some(client) = self.clients.get_mut(&token)
        {
            reply(client, id, result.map(|()| Reply::Done));
        }
    }

    /// The reply goes out first, blocking for its few bytes; then the stream is somebody else's.
    fn hand_over(&mut self, token: u64, id: u64, attach: Result<Attach, ControlError>) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let attach = match attach {
            Ok(attach) => attach,
            Err(error) => return reply(client, id, Err(error)),
        };
        reply(client, id, Ok(Reply::Done));
        if client.flush().is_err() || client.wants_to_write() {
            return self.hang_up(token, &Hangup::TooSlow);
        }
        if let Some(client) = self.clients.remove(&token) {
            let _ = epoll::delete(&self.epoll, client.fd());
            self.listen();
            attach(client.into_stream());
        }
    }

    /// After each round: events go out, slow and finished clients go, interests follow.
    fn settle(&mut self, domain: &Domain) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for (token, client) in &mut self.clients {
            client.fetch_events(domain.events());
            let state = client.flush().and_then(|()| client.check_end(now));
            if let Err(reason) = state {
                gone.push((*token, reason));
                continue;
            }
            let mut interest = epoll::EventFlags::empty();
            interest.set(epoll::EventFlags::IN, client.wants_to_read());
            interest.set(epoll::EventFlags::OUT, client.wants_to_write());
            let data = epoll::EventData::new_u64(*token);
            if let Err(error) = epoll::modify(&self.epoll, client.fd(), data, interest) {
                gone.push((*token, Hangup::Io(error.into())));
            }
        }
        for (token, reason) in gone {
            self.hang_up(token, &reason);
        }
    }

    fn hang_up(&mut self, token: u64, reason: &Hangup) {
        if let Some(client) = self.clients.remove(&token) {
            let _ = epoll::delete(&self.epoll, client.fd());
            self.listen();
            match reason {
                Hangup::Closed => {}
                reason => tracing::info!(%reason, "control connection ended"),
            }
        }
    }

    /// Everyone is told that this is the end, but nobody is waited for longer than `FAREWELL`.
    pub(super) fn farewell(&mut self, domain: &Domain) {
        let deadline = Instant::now() + FAREWELL;
        let mut events = Vec::with_capacity(32);
        loop {
            for client in self.clients.values_mut() {
                client.fetch_events(domain.events());
            }
            self.clients.retain(|_, client| client.flush().is_ok() && client.wants_to_write());
            if self.clients.is_empty() || Instant::now() >= deadline {
                return;
            }
            self.settle(domain);
            if self.wait(Some(deadline), &mut events).is_err() {
                return;
            }
            events.clear();
        }
    }
}

fn reply(client: &mut Client, id: u64, result: Result<Reply, ControlError>) {
    let message = Message::Reply { id, result };
    if let Err(error) = client.queue(&message) {
        let error = refuse(ControlErrorCode::Failed, super::chain(&error));
        // A refusal is small, so this one fits.
        let _ = client.queue(&Message::Reply { id, result: Err(error) });
    }
}

pub(super) fn refuse(code: ControlErrorCode, message: impl Into<String>) -> ControlError {
    ControlError { code, message: message.into() }
}
