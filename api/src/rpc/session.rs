//! What is known of one client: who it is, what it opened, what it wants to hear of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use management::{Access, Caller, Manager, Operation};
use tokio::sync::mpsc;

use super::events::Callback;
use super::failure::{Area, Failure};
use super::protocol::packet::Header;
use super::stream::Incoming;

/// Packets that wait for the client to read. Beyond, whoever has something to say waits too.
pub(super) const QUEUE: usize = 16;
/// Streams and callbacks of one client.
const MAX_STREAMS: usize = 32;
pub(super) const MAX_CALLBACKS: usize = 256;

/// A stream is known by the procedure and the serial of the call that opened it.
pub(super) type StreamKey = (i32, u32);

pub(crate) struct Session {
    manager: Manager,
    state: Mutex<State>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

struct State {
    caller: Caller,
    /// The name that it opened, such as `qemu:///system`.
    opened: Option<String>,
    streams: BTreeMap<StreamKey, mpsc::Sender<Incoming>>,
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
        caller: Caller,
        outgoing: mpsc::Sender<Vec<u8>>,
    ) -> Arc<Self> {
        let state = State {
            caller,
            opened: None,
            streams: BTreeMap::new(),
            callbacks: BTreeMap::new(),
            next_callback: 0,
            is_told: false,
        };
        Arc::new(Self { manager, state: Mutex::new(state), outgoing })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Waits as long as the client does not read what was sent before.
    pub(super) async fn send(&self, packet: Vec<u8>) -> Result<(), Gone> {
        self.outgoing.send(packet).await.map_err(|_| Gone)
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

    pub(super) fn end_stream(&self, key: StreamKey) {
        self.state().streams.remove(&key);
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
