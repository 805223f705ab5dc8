//! A paused machine as data, and back.

use std::fs::File;

use super::{Machine, MachineError};
use crate::state::{self, ImageError, Saved};

impl Machine {
    /// Write the paused machine to `file`. It can go on afterwards as if nothing had been.
    pub fn save(&self, file: &File) -> Result<(), MachineError> {
        let mut devices = Vec::with_capacity(self.parts.components.len());
        for component in &self.parts.components {
            let id = component.id().to_owned();
            let state = component
                .save()
                .map_err(|source| MachineError::State { id: id.clone(), source })?;
            devices.push((id, state));
        }
        let mut chips = self.vm.save_chips()?;
        if let Some(clock) = self.stopped_clock {
            chips.clock = clock;
        }
        let saved = Saved { shape: self.shape.clone(), vcpus: self.cpus.save()?, chips, devices };
        Ok(state::write(file, &saved, self.vm.ram())?)
    }

    /// Take on a saved state, RAM apart, on a machine that was just built. It is paused afterwards.
    pub(crate) fn restore(&mut self, saved: &Saved) -> Result<(), MachineError> {
        self.cpus.adopt(&saved.vcpus)?;
        for component in &self.parts.components {
            component.pause();
        }
        // Devices last: what they raise again must not be overwritten by the chips' state.
        self.cpus.restore(&saved.vcpus)?;
        self.vm.reset_chips(&saved.chips)?;
        if saved.devices.len() != self.parts.components.len() {
            let what = "the number of its devices is wrong";
            return Err(ImageError::Damaged { what }.into());
        }
        for (component, (id, state)) in self.parts.components.iter().zip(&saved.devices) {
            if component.id() != id {
                let (saved, here) = (id.clone(), component.id().to_owned());
                return Err(ImageError::Mismatch { what: "a device", saved, here }.into());
            }
            component
                .restore(state)
                .map_err(|source| MachineError::State { id: id.clone(), source })?;
        }
        self.stopped_clock = Some(saved.chips.clock);
        Ok(())
    }
}
