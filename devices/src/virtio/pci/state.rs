//! Pause, reset, save and restore of a virtio PCI function.

use serde::{Deserialize, Serialize};

use super::VirtioPci;
use super::interrupts::InterruptState;
use super::registers::{Registers, status};
use crate::component::{Component, DeviceState, StateError};
use crate::io_thread::Stop;
use crate::pci::{ConfigState, MsixState};
use crate::sync::Lock;

const VERSION: u16 = 2;

#[derive(Serialize, Deserialize)]
struct Saved {
    config: ConfigState,
    msix: MsixState,
    interrupts: InterruptState,
    registers: Registers,
    /// Queue configuration is live: DRIVER_OK was set and no reset came since.
    active: bool,
    device: DeviceState,
    /// Chains by queue that the device took and whose requests the host failed: the driver waits for
    /// them, and they are tried again where the machine goes on.
    owed: Vec<(u16, Vec<u16>)>,
}

impl Saved {
    fn read(state: &DeviceState, kind: &'static str) -> Result<Self, StateError> {
        if state.version > 1 {
            return state.decode(kind, VERSION);
        }
        let (config, msix, interrupts, registers, active, device) = state.decode(kind, 1)?;
        Ok(Self { config, msix, interrupts, registers, active, device, owed: Vec::new() })
    }
}

impl Component for VirtioPci {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn pause(&self) {
        let mut live = self.live.hold();
        live.paused = true;
        self.stop(&mut live, Stop::Deliver);
    }

    fn resume(&self) {
        let mut live = self.live.hold();
        if !std::mem::take(&mut live.paused) || !live.active {
            return;
        }
        // A device that waits for its reset stays stopped.
        if self.interrupts.status() & status::NEEDS_RESET == 0 {
            self.start(&mut live);
        }
    }

    fn reset(&self) {
        let mut live = self.live.hold();
        self.driver_reset(&mut live);
        live.bar = None;
        live.paused = false;
        self.config.reset();
        self.msix.reset();
        self.interrupts.update_mode();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let live = self.live.hold();
        if !live.workers.is_empty() {
            let reason = "it is not paused".to_owned();
            return Err(StateError::Busy { kind: self.kind, reason });
        }
        let mut registers = live.registers.clone();
        let mut owed: Vec<_> = live.owed.clone().into_iter().collect();
        for (queue, progress, heads) in live.kept.owed() {
            registers.set_progress(queue, progress);
            owed.push((queue, heads));
        }
        let saved = Saved {
            config: self.config.save(),
            msix: self.msix.save(),
            interrupts: self.interrupts.save(),
            registers,
            active: live.active,
            device: live.device.save()?,
            owed,
        };
        DeviceState::encode(self.kind, VERSION, &saved)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved = Saved::read(state, self.kind)?;
        let mut live = self.live.hold();
        if !live.workers.is_empty() {
            let reason = "it is not paused".to_owned();
            return Err(StateError::Busy { kind: self.kind, reason });
        }
        let mismatch = |reason| StateError::Mismatch { kind: self.kind, reason };
        live.registers.restore(&saved.registers).map_err(mismatch)?;
        if saved.active && !live.registers.features_fit(self.offered) {
            return Err(mismatch("its driver uses features this device does not offer".to_owned()));
        }
        live.device.restore(&saved.device)?;
        self.config.restore(self.kind, &saved.config)?;
        self.msix.config_written(self.config.u16(self.msix_control));
        self.msix.restore(self.kind, &saved.msix)?;
        self.interrupts.restore(&saved.interrupts);
        live.owed = saved.owed.into_iter().collect();
        live.active = saved.active;
        live.paused = true;
        Ok(())
    }
}
