//! [`Machine`]: what state a guest is in, and what happens to it.
//!
//! ```text
//!            ┌── pause ──▶ paused ── resume ──┐
//! start ─▶ running ◀──────────────────────────┘
//!   ▲        │ power off, crash: what the definition says of them
//!   └ reset ─┼─▶ stopped, crashed (preserve)
//!            └─▶ the process ends (destroy)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vmm_protocol::block_job::BlockJobStatus;
use vmm_protocol::config::{Action, ConsolePort, Lifecycle, MachineConfig, PciKind};
use vmm_protocol::control::{DirtyRate, Event, EventKind, Message, RunState, StateReason, Status};
use vmm_protocol::exit::{CrashReport, ExitReason, ExitRecord, status};
use vmm_protocol::wire;

use super::behaviour::{Behaviour, Deed};

/// What a daemon that comes late is told; a guest of a test has not done more.
const MOST_EVENTS: usize = 4096;
/// Of what the guest said last, bytes.
const MOST_OUTPUT: usize = 64 << 10;

pub(super) struct Machine {
    pub(super) config: MachineConfig,
    behaviour: Behaviour,
    started: Instant,
    pub(super) save_cancelled: AtomicBool,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub(super) state: (RunState, StateReason),
    pub(super) lifecycle: Lifecycle,
    pub(super) live_record: String,
    events: Vec<Event>,
    last_event: u64,
    subscribers: Vec<UnixStream>,
    /// Who sits at the console, by their numbers: a later one takes it over.
    pub(super) console: Option<(u64, UnixStream)>,
    pub(super) consoles: u64,
    pub(super) output: String,
    boots: u32,
    /// Bytes that the balloon leaves it.
    pub(super) memory: u64,
    pub(super) vcpus: u16,
    pub(super) dirty_rate: Option<DirtyRate>,
    /// By disk.
    pub(super) thresholds: BTreeMap<String, u64>,
    /// Ids of channels that the guest has open.
    channels: Vec<String>,
    /// Devices that came while it runs, and those that went.
    pub(super) plugged: BTreeSet<String>,
    pub(super) unplugged: BTreeSet<String>,
    /// It goes on from a file, and has not run yet.
    restored: bool,
    /// Where its memory was copied while it ran.
    pub(super) copied: Option<File>,
    /// Its state is in a file, and it has not run since.
    pub(super) saved: bool,
    pub(super) block_jobs: Vec<BlockJobStatus>,
    /// What disks were made of while it runs, and what else came, with the locks on it.
    pub(super) images: BTreeMap<String, OwnedFd>,
    pub(super) kept: Vec<OwnedFd>,
}

/// What a balloon leaves the guest at first.
fn balloon(config: &MachineConfig) -> Option<u64> {
    config.pci.iter().find_map(|device| match &device.kind {
        PciKind::Balloon(balloon) => Some(balloon.current),
        _ => None,
    })
}

impl Machine {
    pub(super) fn new(config: MachineConfig) -> Self {
        let reason = match (config.start_paused, &config.restore) {
            (true, _) => (RunState::Paused, StateReason::StartingUp),
            (false, Some(_)) => (RunState::Running, StateReason::Restored),
            (false, None) => (RunState::Running, StateReason::Booted),
        };
        let inner = Inner {
            state: reason,
            lifecycle: config.lifecycle,
            live_record: config.process.live_record.clone(),
            events: Vec::new(),
            last_event: 0,
            subscribers: Vec::new(),
            console: None,
            consoles: 0,
            output: String::new(),
            boots: 0,
            memory: balloon(&config).unwrap_or(config.memory.size),
            vcpus: config.cpus.present.unwrap_or(config.cpus.count),
            dirty_rate: None,
            thresholds: BTreeMap::new(),
            channels: Vec::new(),
            plugged: BTreeSet::new(),
            unplugged: BTreeSet::new(),
            restored: config.restore.is_some() && config.start_paused,
            copied: None,
            saved: false,
            block_jobs: Vec::new(),
            images: BTreeMap::new(),
            kept: Vec::new(),
        };
        Self {
            behaviour: Behaviour::of(&config.process.live_record),
            config,
            started: Instant::now(),
            save_cancelled: AtomicBool::new(false),
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        let inner = self.inner();
        let (state, reason) = inner.state;
        Status {
            state,
            reason,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            channels: Some(inner.channels.clone()),
        }
    }

    pub(super) fn last_event(&self) -> u64 {
        self.inner().last_event
    }

    /// Tell those who listen, and remember it for those who come later.
    pub(super) fn event(&self, kind: EventKind) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let mut inner = self.inner();
        inner.last_event += 1;
        let event =
            Event { seq: inner.last_event, time: u64::try_from(time).unwrap_or(u64::MAX), kind };
        let message = Message::Event(event.clone());
        inner.subscribers.retain_mut(|subscriber| wire::send(subscriber, &message).is_ok());
        if inner.events.len() < MOST_EVENTS {
            inner.events.push(event);
        }
    }

    /// From now on, beginning with those after `after`.
    pub(super) fn subscribe(&self, mut stream: UnixStream, after: u64) {
        let mut inner = self.inner();
        for event in inner.events.iter().filter(|event| event.seq > after) {
            if wire::send(&mut stream, &Message::Event(event.clone())).is_err() {
                return;
            }
        }
        inner.subscribers.push(stream);
    }

    pub(super) fn boot(&self) {
        self.inner().boots += 1;
        let (boots, name) = (self.inner().boots, &self.config.identity.name);
        self.print(&format!("{name}: boot {boots}\n"));
    }

    /// What the guest says at its console.
    pub(super) fn print(&self, text: &str) {
        let mut inner = self.inner();
        inner.output.push_str(text);
        if let Some(excess) = inner.output.len().checked_sub(MOST_OUTPUT) {
            let at = (excess..inner.output.len()).find(|at| inner.output.is_char_boundary(*at));
            inner.output.drain(..at.unwrap_or(excess));
        }
        let gone = match &mut inner.console {
            Some((_, console)) => console.write_all(text.as_bytes()).is_err(),
            None => false,
        };
        if gone {
            inner.console = None;
        }
    }

    pub(super) fn channel(&self, id: &str) -> Option<&ConsolePort> {
        let ports = self.config.pci.iter().filter_map(|device| match &device.kind {
            PciKind::Console(console) => Some(&console.ports),
            _ => None,
        });
        ports.flatten().find(|port| port.id == id)
    }

    /// The guest's agent is there, if the definition has a channel for it.
    pub(super) fn open_agent(self: Arc<Self>) {
        let ports = self.config.pci.iter().filter_map(|device| match &device.kind {
            PciKind::Console(console) => Some(console.ports.iter()),
            _ => None,
        });
        let agents: Vec<_> =
            ports.flatten().filter(|port| port.agent).map(|port| port.id.clone()).collect();
        for id in agents {
            self.inner().channels.push(id.clone());
            self.event(EventKind::ChannelChanged { id, open: true });
        }
    }

    /// What the definition has it do after a while.
    pub(super) fn do_of_itself(self: Arc<Self>) {
        let Some((after, deed)) = self.behaviour.then() else { return };
        std::thread::spawn(move || {
            std::thread::sleep(after);
            match deed {
                Deed::Crash => self.crash(),
                Deed::PowerOff => self.power_off(),
                Deed::Reset => self.reset(),
            }
        });
    }

    pub(super) fn pause(&self) {
        self.inner().state = (RunState::Paused, StateReason::User);
        self.event(EventKind::Paused);
    }

    pub(super) fn resume(&self) {
        {
            let mut inner = self.inner();
            let restored = std::mem::take(&mut inner.restored);
            let reason = if restored { StateReason::Restored } else { StateReason::Unpaused };
            inner.state = (RunState::Running, reason);
            inner.saved = false;
        }
        self.event(EventKind::Resumed);
    }

    pub(super) fn power_button(&self) {
        if !self.behaviour.ignores_power_button() {
            self.power_off();
        }
    }

    pub(super) fn power_off(&self) {
        let action = self.inner().lifecycle.on_poweroff;
        match action {
            Action::Destroy => self.end(ExitReason::Shutdown),
            Action::Restart => self.reset(),
            Action::Preserve => self.inner().state = (RunState::Stopped, StateReason::Shutdown),
        }
    }

    pub(super) fn reset(&self) {
        {
            let mut inner = self.inner();
            inner.state = (RunState::Running, StateReason::Booted);
            inner.saved = false;
        }
        self.event(EventKind::Reset);
        self.boot();
    }

    pub(super) fn crash(&self) {
        let cause = "the definition has it crash".to_owned();
        let report = CrashReport { cause, vcpu: Some(0), registers: None };
        let action = self.inner().lifecycle.on_crash;
        if action == Action::Preserve {
            self.inner().state = (RunState::Crashed, StateReason::Panicked);
        }
        self.event(EventKind::Crashed(report.clone()));
        match action {
            Action::Destroy => self.end(ExitReason::Crashed(report)),
            Action::Restart => self.reset(),
            Action::Preserve => {}
        }
    }

    /// The process ends, with its last word where the daemon looks for it.
    pub(super) fn end(&self, reason: ExitReason) -> ! {
        self.event(EventKind::Exiting(reason.clone()));
        let code = status(&reason);
        let record = ExitRecord { reason, time: 0, last_event: self.last_event() };
        if let Ok(file) = super::reopen_to_write(self.config.process.exit_record) {
            // Whoever reads it makes do without.
            let _ = serde_json::to_writer(file, &record);
        }
        std::process::exit(code.into())
    }
}
