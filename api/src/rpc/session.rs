//! What is known of one client: who it is, what it opened, what it wants to hear of.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use management::domain::DomainRef;
use management::ops::DestroyDomain;
use management::{Access, Caller, Driver, Manager, Operation};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::admission::{Admission, Progress, out_of_turn};
use super::events::Callback;
use super::failure::{Area, Failure};
use super::protocol::packet::{self, Header, REMOTE};
use super::stream::Incoming;
use super::wire::Outgoing;

/// Packets that wait for the client to read. Beyond, whoever has something to say waits too.
pub(super) const QUEUE: usize = 16;
/// Before the answer to a wrong password.
const WRONG_PASSWORD: Duration = Duration::from_secs(1);
/// Streams and callbacks of one client.
const MAX_STREAMS: usize = 32;
/// Streams whose client may still say that it has had enough. One that does says so at once.
const MAX_TOLD: usize = 256;
pub(super) const MAX_CALLBACKS: usize = 256;

/// A stream is known by the procedure and the serial of the call that opened it.
pub(super) type StreamKey = (i32, u32);

pub(crate) struct Session {
    manager: Manager,
    admission: Admission,
    state: Mutex<State>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Whether descriptors can be passed to it.
    takes_files: bool,
    /// Raised when it said that it answers pings.
    pinged: Notify,
    /// Raised when events are gone that it was to hear of.
    behind: Notify,
    /// The login that it came by, if by one, once it was let in.
    login: watch::Sender<Option<Option<(Uuid, u64)>>>,
}

struct State {
    caller: Caller,
    progress: Progress,
    /// When something came from it.
    heard: Instant,
    /// It wants to be told when the daemon goes.
    tell_of_closing: bool,
    /// The name that it opened, such as `qemu:///system`.
    opened: Option<String>,
    /// Runs of guests that end with the connection, by their numbers.
    bound: Vec<u32>,
    streams: BTreeMap<StreamKey, mpsc::Sender<Incoming>>,
    /// The last of those that were told whole, and whose client said nothing yet.
    told: VecDeque<StreamKey>,
    callbacks: BTreeMap<i32, Callback>,
    next_callback: i32,
    /// Somebody tells it of events.
    is_told: bool,
}

/// The client has gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Session {
    pub(super) fn new(
        manager: Manager,
        admission: Admission,
        outgoing: mpsc::Sender<Outgoing>,
        takes_files: bool,
    ) -> Arc<Self> {
        let progress = Progress::of(admission.auth);
        let login = match &progress {
            Progress::Admitted { login } => Some(*login),
            _ => None,
        };
        let state = State {
            caller: admission.caller.clone(),
            progress,
            heard: Instant::now(),
            tell_of_closing: false,
            opened: None,
            bound: Vec::new(),
            streams: BTreeMap::new(),
            told: VecDeque::new(),
            callbacks: BTreeMap::new(),
            next_callback: 0,
            is_told: false,
        };
        let (state, pinged, behind) = (Mutex::new(state), Notify::new(), Notify::new());
        let login = watch::Sender::new(login);
        Arc::new(Self { manager, admission, state, outgoing, takes_files, pinged, behind, login })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn driver(&self) -> Driver {
        self.manager.driver()
    }

    pub(crate) fn caller(&self) -> Caller {
        self.state().caller.clone()
    }

    /// Ask the management plane; what is missing is of this kind.
    pub(crate) async fn ask<O: Operation>(&self, area: Area, op: O) -> Result<O::Output, Failure> {
        let caller = self.caller();
        let answer = self.manager.call(&caller, op).await;
        answer.map_err(|error| Failure::new(area, &caller, &error))
    }

    /// The error of something that an operation gave.
    pub(crate) fn failure(&self, area: Area, error: &management::Error) -> Failure {
        Failure::new(area, &self.caller(), error)
    }

    pub(crate) async fn domain<O: Operation>(&self, op: O) -> Result<O::Output, Failure> {
        self.ask(Area::Domain, op).await
    }

    /// It may look only from now on, if it says so itself.
    pub(crate) fn open(&self, name: String, read_only: bool) -> Result<(), Failure> {
        let mut state = self.state();
        if state.opened.is_some() {
            return Err(Failure::invalid_state(Area::Node, "the connection is open already"));
        }
        if read_only {
            state.caller.access = Access::Read;
        }
        state.opened = Some(name);
        Ok(())
    }

    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.opened = None;
        state.callbacks.clear();
    }

    pub(crate) fn opened(&self) -> Option<String> {
        self.state().opened.clone()
    }

    /// A guest ends with the connection.
    pub(crate) fn bind(&self, number: u32) {
        self.state().bound.push(number);
    }

    /// The connection has ended, and with it the guests that were to.
    pub(super) async fn destroy_bound(&self) {
        let bound = std::mem::take(&mut self.state().bound);
        for number in bound {
            let destroy = DestroyDomain { domain: DomainRef::Id(number), graceful: false };
            // Another run of it has another number, and is nobody's.
            if let Err(error) = self.manager.call(&self.caller(), destroy).await
                && error.code != management::Code::NotFound
            {
                tracing::warn!(number, error = %error.chain(), "a guest outlives its client");
            }
        }
    }

    /// Waits as long as the client does not read what was sent before.
    pub(super) async fn send(&self, packet: impl Into<Outgoing>) -> Result<(), Gone> {
        self.outgoing.send(packet.into()).await.map_err(|_| Gone)
    }

    /// Now or not at all.
    pub(super) fn send_now(&self, packet: Vec<u8>) -> bool {
        self.outgoing.try_send(packet.into()).is_ok()
    }

    pub(crate) fn takes_files(&self) -> bool {
        self.takes_files
    }

    pub(super) fn note_heard(&self) {
        self.state().heard = Instant::now();
    }

    pub(super) fn heard(&self) -> Instant {
        self.state().heard
    }

    /// From now on it may be pinged.
    pub(crate) fn answers_pings(&self) {
        self.pinged.notify_one();
    }

    pub(super) async fn may_be_pinged(&self) {
        self.pinged.notified().await;
    }

    pub(crate) fn tell_of_closing(&self, wanted: bool) -> Result<(), Failure> {
        let told = &mut self.state().tell_of_closing;
        if *told == wanted {
            let text = match wanted {
                true => "a close callback is registered already",
                false => "no close callback is registered",
            };
            return Err(Failure::invalid_state(Area::Node, text));
        }
        *told = wanted;
        Ok(())
    }

    /// The daemon goes: tell a client that wants to know. False if it does not.
    pub(super) async fn part(&self) -> bool {
        const CONNECTION_CLOSED: i32 = 362;
        /// virConnectCloseReason: the end of the file.
        const EOF: i32 = 1;
        let wanted = self.state().tell_of_closing;
        let message = packet::encode(Header::message(REMOTE, CONNECTION_CLOSED), &EOF);
        wanted && self.send(message).await.is_ok()
    }

    /// It reads so slowly that events were forgotten before they could be told. Its view of things is
    /// wrong, and libvirt has no word for that but the connection's end.
    pub(super) fn falls_behind(&self) {
        self.behind.notify_one();
    }

    pub(super) async fn is_behind(&self) {
        self.behind.notified().await;
    }

    /// It has to say who it is before anything else.
    pub(crate) fn wants_password(&self) -> bool {
        !matches!(self.state().progress, Progress::Admitted { .. })
    }

    /// It is known, and does more than look.
    pub(super) fn is_trusted(&self) -> bool {
        let state = self.state();
        let is_known = matches!(state.progress, Progress::Admitted { .. });
        is_known && state.caller.access > Access::Read
    }

    /// The question is put, and the answer to come.
    pub(crate) fn is_asked(&self) -> bool {
        matches!(self.state().progress, Progress::Asked(_))
    }

    pub(crate) fn begin_login(&self) -> Result<(), Failure> {
        let progress = &mut self.state().progress;
        match progress {
            Progress::Unknown => *progress = Progress::Begun,
            _ => return Err(out_of_turn()),
        }
        Ok(())
    }

    /// What to ask it.
    pub(crate) async fn first_of_login(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        {
            let progress = &mut self.state().progress;
            if !matches!(progress, Progress::Begun) {
                return Err(out_of_turn());
            }
            progress.take();
        }
        let (login, answer) = match self.manager.login(message) {
            Ok(begun) => begun,
            Err(error) => return Err(self.not_admitted(&error.to_string()).await),
        };
        self.state().progress = Progress::Asked(Box::new(login));
        Ok(answer)
    }

    /// It is let in, or nothing more comes of this connection.
    pub(crate) async fn last_of_login(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let Progress::Asked(login) = self.state().progress.take() else {
            return Err(out_of_turn());
        };
        let (user, answer) = match login.finish(message) {
            Ok(known) => known,
            Err(error) => return Err(self.not_admitted(&error.to_string()).await),
        };
        let login = Some(user.login);
        let caller = self.admission.admitted(user);
        tracing::debug!(caller = caller.name, "a client is let in");
        {
            let mut state = self.state();
            (state.caller, state.progress) = (caller, Progress::Admitted { login });
        }
        self.login.send_replace(Some(login));
        Ok(answer)
    }

    async fn not_admitted(&self, reason: &str) -> Failure {
        // Who tries many passwords waits as many times.
        tokio::time::sleep(WRONG_PASSWORD).await;
        self.admission.failed(&self.manager).await;
        Failure::authentication(reason)
    }

    /// Returns when its user is there no more, or it did not say in time who it is.
    pub(super) async fn login_ended(&self, timeout: Duration) {
        let mut known = self.login.subscribe();
        let login = async { known.wait_for(Option::is_some).await.ok().and_then(|login| *login) };
        match tokio::time::timeout(timeout, login).await {
            Ok(Some(Some(login))) => self.manager.login_ended(login).await,
            Ok(Some(None)) => std::future::pending().await,
            Ok(None) | Err(_) => {}
        }
    }

    pub(super) fn add_stream(
        &self,
        header: Header,
        incoming: mpsc::Sender<Incoming>,
    ) -> Result<(), Failure> {
        let streams = &mut self.state().streams;
        if streams.len() >= MAX_STREAMS {
            let text = format!("there are {MAX_STREAMS} streams on this connection already");
            return Err(Failure::invalid_state(Area::Node, &text));
        }
        streams.insert((header.procedure, header.serial), incoming);
        Ok(())
    }

    pub(super) fn stream(&self, key: StreamKey) -> Option<mpsc::Sender<Incoming>> {
        self.state().streams.get(&key).cloned()
    }

    /// It is over; `told`: but for the client's last word.
    pub(super) fn end_stream(&self, key: StreamKey, told: bool) {
        let mut state = self.state();
        state.streams.remove(&key);
        if told {
            if state.told.len() >= MAX_TOLD {
                state.told.pop_front();
            }
            state.told.push_back(key);
        }
    }

    /// Whether this is the last word of a stream that has been told whole.
    pub(super) fn last_word(&self, key: StreamKey) -> bool {
        let told = &mut self.state().told;
        let at = told.iter().position(|known| *known == key);
        at.and_then(|at| told.remove(at)).is_some()
    }

    /// With a number by which the client will know it.
    pub(super) fn add_callback(&self, callback: Callback) -> Result<i32, Failure> {
        let mut state = self.state();
        if state.callbacks.len() >= MAX_CALLBACKS {
            let text = format!("there are {MAX_CALLBACKS} callbacks on this connection already");
            return Err(Failure::invalid_state(Area::Node, &text));
        }
        let number = state.next_callback;
        state.next_callback = number.wrapping_add(1) & i32::MAX;
        state.callbacks.insert(number, callback);
        Ok(number)
    }

    pub(super) fn remove_callback(&self, number: i32) -> bool {
        self.state().callbacks.remove(&number).is_some()
    }

    pub(super) fn callbacks(&self) -> Vec<(i32, Callback)> {
        self.state().callbacks.iter().map(|(number, callback)| (*number, *callback)).collect()
    }

    /// True for the first who asks.
    pub(super) fn begin_telling(&self) -> bool {
        !std::mem::replace(&mut self.state().is_told, true)
    }

    /// Returns when the client has gone.
    pub(super) async fn gone(&self) {
        self.outgoing.closed().await;
    }
}
