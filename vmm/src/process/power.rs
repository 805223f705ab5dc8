//! The buttons of a machine: pause and resume, reset, power.

use vmm_protocol::control::{ControlError, EventKind, RunState, StateReason};

use super::domain::Domain;
use super::refusals::failed;

impl Domain {
    pub(super) fn pause(&mut self) -> Result<(), ControlError> {
        match self.state {
            RunState::Paused => return Ok(()),
            RunState::Running => {}
            RunState::Stopped | RunState::Crashed => return Err(self.not_now("pause")),
        }
        self.machine.pause().map_err(failed)?;
        self.enter(RunState::Paused, StateReason::User);
        self.events.push(EventKind::Paused);
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<(), ControlError> {
        match self.state {
            RunState::Running => return Ok(()),
            RunState::Paused => {}
            RunState::Stopped | RunState::Crashed => return Err(self.not_now("resume")),
        }
        if let Some(stop) = self.machine.take_stop() {
            self.enter(RunState::Running, StateReason::Unpaused);
            self.events.push(EventKind::Resumed);
            self.on_stop(stop);
            return Ok(());
        }
        self.machine.resume().map_err(failed)?;
        self.saved = false;
        let first = self.reason == StateReason::StartingUp;
        let reason = match (first, self.restored) {
            (true, true) => StateReason::Restored,
            (true, false) => StateReason::Booted,
            (false, _) => StateReason::Unpaused,
        };
        self.enter(RunState::Running, reason);
        self.events.push(EventKind::Resumed);
        Ok(())
    }

    /// Also the way back for a guest that was preserved; one that is paused stays so.
    pub(super) fn reset_button(&mut self) -> Result<(), ControlError> {
        let paused = self.state == RunState::Paused;
        let gone = self.machine.reset().map_err(failed)?;
        self.saved = false;
        self.resets.forget();
        self.events.push(EventKind::Reset);
        self.tell_removed(gone);
        self.tell_vcpus();
        if paused {
            self.machine.pause().map_err(failed)?;
            if self.reason == StateReason::IoError {
                self.enter(RunState::Paused, StateReason::User);
            }
            return Ok(());
        }
        self.machine.unpark();
        self.enter(RunState::Running, StateReason::Booted);
        Ok(())
    }

    pub(super) fn power_button(&mut self) -> Result<(), ControlError> {
        if self.state != RunState::Running {
            return Err(self.not_now("press the power button of"));
        }
        self.machine.power_button();
        self.events.push(EventKind::PowerButton);
        Ok(())
    }
}
