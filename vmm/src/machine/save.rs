//! A paused machine as data, and back.

use std::fs::File;

use super::{Machine, MachineError};
use crate::state::{DumpWriter, ImageError, Packing, Saved, Writer};

impl Machine {
    /// Begin to write the paused machine to `file`. It can go on afterwards as if nothing had been,
    /// but not before.
    pub fn save(&self, file: File, packing: Packing) -> Result<Writer, MachineError> {
        self.sync_disks()?;
        Ok(Writer::begin(file, &self.state()?, self.vm.ram().clone(), packing)?)
    }

    /// All of the paused machine but RAM.
    pub(super) fn state(&self) -> Result<Saved, MachineError> {
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
        let shape = self.ground.shape();
        Ok(Saved { shape, vcpus: self.cpus.save()?, chips, devices })
    }

    /// A saved guest believes that its disks hold what it wrote: also where the host loses power
    /// afterwards, and whoever copies their files while it is paused finds it there.
    pub(super) fn sync_disks(&self) -> Result<(), MachineError> {
        for (id, disk) in &self.parts.written {
            let synced = disk.sync();
            synced.map_err(|source| MachineError::Sync { id: id.clone(), source })?;
        }
        Ok(())
    }

    /// Begin to write an ELF core. The vCPUs are parked while their registers are read.
    pub fn dump(&self, file: File) -> Result<DumpWriter, MachineError> {
        Ok(DumpWriter::begin(file, &self.cpus.save()?, self.vm.ram().clone())?)
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
        // By name: devices that came while the guest ran were saved last.
        for component in &self.parts.components {
            let id = component.id();
            let Some((_, state)) = saved.devices.iter().find(|(saved, _)| saved == id) else {
                let (saved, here) = ("none".to_owned(), id.to_owned());
                return Err(ImageError::Mismatch { what: "a device", saved, here }.into());
            };
            component
                .restore(state)
                .map_err(|source| MachineError::State { id: id.to_owned(), source })?;
        }
        self.stopped_clock = Some(saved.chips.clock);
        self.restored = true;
        Ok(())
    }
}
