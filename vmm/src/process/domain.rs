//! [`Domain`]: the machine with its policy: states and lifecycle actions.

mod requests;

use std::time::{Duration, Instant};

use vmm_protocol::config::{Action, Identity, Lifecycle, WatchdogAction};
use vmm_protocol::control::{
    ControlError, ControlErrorCode as Code, EventKind, RunState, StateReason,
};
use vmm_protocol::exit::{CrashReport, ExitReason};

pub(super) use requests::Attach;

use super::dirty_rate::Measured;
use super::pacing::Pacing;
use super::ring::EventRing;
use super::save::Saving;
use super::server::refuse;
use crate::machine::{Machine, MachineError};
use crate::state::LiveCopy;
use crate::vcpu::Stop;

/// For a guest's agent to end the guest, before its power button is pressed. Less than what systemd
/// leaves a guest.
const AGENT_PATIENCE: Duration = Duration::from_secs(20);

/// Why the loop ends.
pub(super) type Ended = ExitReason;

pub(super) struct Domain {
    pub(super) machine: Machine,
    identity: Identity,
    lifecycle: Lifecycle,
    live_record: String,
    /// Of this process, as the host counts.
    pid: u32,
    sandbox: Vec<(String, String)>,
    started: Instant,
    /// It came from a saved state.
    pub(super) restored: bool,
    pub(super) state: RunState,
    pub(super) reason: StateReason,
    pub(super) events: EventRing,
    pub(super) resets: Pacing,
    /// How many vCPUs the last event told of.
    vcpus: u16,
    /// The state is being saved: nothing about the machine changes meanwhile.
    pub(super) saving: Option<Saving>,
    /// Memory was copied but for little, and its writes are logged on.
    pub(super) copied: Option<LiveCopy>,
    /// It is a dump: the guest may run.
    pub(super) dumping: bool,
    /// A save was given up, and whoever wanted it does not know yet.
    pub(super) cancelled: bool,
    /// The state was saved, and the guest has not run since.
    pub(super) saved: bool,
    /// How much memory the guest writes to.
    pub(super) measured: Option<Measured>,
    /// When the power button is pressed, unless the guest has ended by then.
    press_at: Option<Instant>,
    ended: Option<ExitReason>,
}

impl Domain {
    pub(super) fn new(
        machine: Machine,
        identity: Identity,
        lifecycle: Lifecycle,
        live_record: String,
        pid: u32,
        sandbox: Vec<(String, String)>,
    ) -> Self {
        Self {
            vcpus: machine.vcpus(),
            machine,
            identity,
            lifecycle,
            live_record,
            pid,
            sandbox,
            started: Instant::now(),
            restored: false,
            state: RunState::Paused,
            reason: StateReason::StartingUp,
            events: EventRing::default(),
            resets: Pacing::default(),
            saving: None,
            copied: None,
            dumping: false,
            cancelled: false,
            saved: false,
            measured: None,
            press_at: None,
            ended: None,
        }
    }

    /// Let the guest run for the first time, unless it is to wait.
    pub(super) fn start(&mut self, paused: bool, restored: bool) -> Result<(), MachineError> {
        self.restored = restored;
        if !paused {
            self.machine.resume()?;
            let reason = if restored { StateReason::Restored } else { StateReason::Booted };
            self.enter(RunState::Running, reason);
        }
        self.events.push(EventKind::Started);
        Ok(())
    }

    pub(super) fn events(&self) -> &EventRing {
        &self.events
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended.clone()
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = [self.resets.due(), self.press_at].into_iter().flatten().min();
        let due = due.filter(|_| self.state == RunState::Running);
        // It ends also while the guest waits.
        let measured = self.measured.as_ref().and_then(Measured::until);
        [due, measured].into_iter().flatten().min()
    }

    pub(super) fn destroy(&mut self) {
        self.end(if self.saved { ExitReason::Saved } else { ExitReason::Destroyed });
    }

    /// The last thing to do with the machine: what the guest wrote reaches disks and consoles.
    pub(super) fn shut_down(&mut self) -> Result<(), MachineError> {
        self.machine.shut_down()
    }

    /// A guest that can is asked to power off before whoever announced it ends this process: its agent
    /// first, and by the power button when that did not help.
    pub(super) fn host_powers_off(&mut self) {
        if self.state == RunState::Running && self.machine.ask_agent_to_power_off() {
            tracing::info!("the host powers off: the guest agent is asked to end the guest");
            self.press_at = Some(Instant::now() + AGENT_PATIENCE);
        } else if self.power_button().is_err() {
            self.destroy();
        }
    }

    fn end(&mut self, reason: ExitReason) {
        if self.ended.is_none() {
            self.events.push(EventKind::Exiting(reason.clone()));
            self.ended = Some(reason);
        }
    }

    pub(super) fn enter(&mut self, state: RunState, reason: StateReason) {
        (self.state, self.reason) = (state, reason);
    }

    /// A vCPU stopped by itself, or a device has something to tell.
    pub(super) fn on_bell(&mut self) {
        self.machine.quiet_bell();
        for notice in self.machine.take_notices() {
            let bite = match &notice {
                EventKind::Watchdog { action, .. } => Some(*action),
                _ => None,
            };
            self.events.push(notice);
            if let Some(action) = bite {
                self.on_watchdog(action);
            }
        }
        let released = self.machine.take_out_released();
        self.tell_removed(released);
        if let Err(error) = self.machine.park_ejected() {
            return self.fail(&error);
        }
        self.tell_vcpus();
        for status in self.machine.advance_block_jobs() {
            self.events.push(EventKind::BlockJob(status));
        }
        self.on_disk_stop();
        // When somebody paused the machine in the same moment, it stops when it is resumed.
        if self.state != RunState::Running || !self.machine.has_stop() {
            return;
        }
        // All must be out of the guest before the inbox is read: what it says then is everything.
        if let Err(error) = self.machine.park() {
            return self.fail(&error);
        }
        match self.machine.take_stop() {
            Some(stop) => self.on_stop(stop),
            // Whoever stopped was dealt with along with an earlier one.
            None => self.machine.unpark(),
        }
    }

    /// A disk keeps a request that the host failed: the guest must not run on without its answer.
    fn on_disk_stop(&mut self) {
        if !self.machine.take_disk_stop() || self.state != RunState::Running {
            return;
        }
        tracing::warn!("the guest is paused: the host failed a request of a disk");
        match self.machine.pause() {
            Ok(()) => {
                self.enter(RunState::Paused, StateReason::IoError);
                self.events.push(EventKind::Paused);
            }
            Err(error) => self.fail(&error),
        }
    }

    pub(super) fn tell_removed(&mut self, ids: Vec<String>) {
        for id in ids {
            self.events.push(EventKind::DeviceRemoved { id });
        }
    }

    pub(super) fn tell_vcpus(&mut self) {
        let count = self.machine.vcpus();
        if count != self.vcpus {
            self.vcpus = count;
            self.events.push(EventKind::VcpusChanged { count });
        }
    }

    pub(super) fn on_stop(&mut self, stop: Stop) {
        let (action, reason, ended) = match stop {
            Stop::PowerOff => {
                tracing::info!("the guest powered off");
                (self.lifecycle.on_poweroff, StateReason::Shutdown, ExitReason::Shutdown)
            }
            Stop::Reset => {
                tracing::info!("the guest reset");
                (self.lifecycle.on_reboot, StateReason::Shutdown, ExitReason::Shutdown)
            }
            Stop::Crashed(report) => {
                log_crash(&report);
                self.events.push(EventKind::Crashed(report.clone()));
                (self.lifecycle.on_crash, StateReason::Panicked, ExitReason::Crashed(report))
            }
        };
        match action {
            Action::Destroy => self.end(ended),
            Action::Restart => match self.resets.admit(Instant::now()) {
                true => self.reset(),
                false => tracing::warn!("the guest resets all the time: the next one has to wait"),
            },
            Action::Preserve => {
                let crashed = matches!(ended, ExitReason::Crashed(_));
                self.enter(if crashed { RunState::Crashed } else { RunState::Stopped }, reason);
                if let Err(error) = self.machine.pause() {
                    self.fail(&error);
                }
            }
        }
    }

    /// The guest did not reload its watchdog in time.
    fn on_watchdog(&mut self, action: WatchdogAction) {
        if self.state != RunState::Running {
            return;
        }
        tracing::warn!(?action, "the guest's watchdog expired");
        let done = match action {
            WatchdogAction::None => Ok(()),
            WatchdogAction::Shutdown => {
                self.machine.power_button();
                self.events.push(EventKind::PowerButton);
                Ok(())
            }
            WatchdogAction::InjectNmi => self.machine.inject_nmi(),
            WatchdogAction::Pause => self.machine.pause().map(|()| {
                self.enter(RunState::Paused, StateReason::Watchdog);
                self.events.push(EventKind::Paused);
            }),
            WatchdogAction::Reset => self.machine.park().map(|()| self.on_stop(Stop::Reset)),
            WatchdogAction::Poweroff => self.machine.park().map(|()| self.on_stop(Stop::PowerOff)),
        };
        if let Err(error) = done {
            self.fail(&error);
        }
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        if self.measured.as_ref().and_then(Measured::until).is_some_and(|until| until <= now) {
            self.end_measuring();
        }
        if self.state == RunState::Running && self.press_at.take_if(|at| *at <= now).is_some() {
            tracing::info!("the guest agent did not end the guest: the power button is pressed");
            if self.power_button().is_err() {
                self.destroy();
            }
        }
        if self.state == RunState::Running && self.resets.take_due(now) {
            self.reset();
        }
    }

    fn reset(&mut self) {
        match self.machine.reset() {
            Ok(gone) => {
                self.events.push(EventKind::Reset);
                self.tell_removed(gone);
                self.tell_vcpus();
                self.machine.unpark();
                self.enter(RunState::Running, StateReason::Booted);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// The machine cannot go on, through no fault of the guest.
    fn fail(&mut self, error: &MachineError) {
        let message = super::chain(error);
        tracing::error!(message, "the machine failed");
        self.end(ExitReason::Failed { message });
    }

    pub(super) fn not_now(&self, what: &str) -> ControlError {
        let state = match self.state {
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::Stopped => "stopped",
            RunState::Crashed => "crashed",
        };
        refuse(Code::State, format!("cannot {what} a guest that is {state}"))
    }
}

fn log_crash(report: &CrashReport) {
    let registers = report.registers.as_deref().unwrap_or_default();
    tracing::error!(cause = report.cause, vcpu = report.vcpu, registers, "the guest crashed");
}
