//! RAM of a guest that runs, as data: pass after pass, until so little is left that the guest may wait
//! for it.

use std::fs::File;

use memory::Pages;

use super::{Machine, MachineError};
use crate::state::{LiveCopy, Rest};

impl Machine {
    /// Whether every write to RAM is logged: not those of a device that the host's kernel serves.
    pub fn logs_all_writes(&self) -> bool {
        !self.vm.ram().is_handed_out()
    }

    /// Begin to copy RAM into `file` while the guest goes on.
    pub fn copy_memory(&mut self, file: File) -> Result<LiveCopy, MachineError> {
        // Most of what it wrote is on its disks already when it has to wait for that.
        self.sync_disks()?;
        let copy = LiveCopy::begin(file, self.vm.ram().clone())?;
        self.log_writes()?;
        Ok(copy)
    }

    /// A pass of a copy has come to its end. False when the rest of it is for a paused machine.
    pub fn next_pass(&mut self, copy: &mut LiveCopy) -> Result<bool, MachineError> {
        let written = self.while_all_still(Self::take_writes)?;
        Ok(copy.begin_pass(&written))
    }

    /// What is left of the copy, and all but RAM. The machine is paused, and can go on afterwards.
    pub fn save_rest(&mut self, copy: LiveCopy) -> Result<Rest, MachineError> {
        self.sync_disks()?;
        let written = self.take_writes()?;
        self.forget_writes();
        Ok(copy.rest(&self.state()?, &written)?)
    }

    /// Log writes from now on, to be counted.
    pub fn log_writes(&mut self) -> Result<(), MachineError> {
        self.while_all_still(|machine| {
            machine.vm.ram().log_writes(true);
            machine.vm.log_dirty_pages(true).map_err(MachineError::from)
        })
        .inspect_err(|_| self.forget_writes())
    }

    /// How many pages were written to since, and log no more. A device that the host's kernel serves is not
    /// heard.
    pub fn logged_writes(&mut self) -> Result<u64, MachineError> {
        let written = self.while_all_still(|machine| {
            let written = machine.take_writes();
            machine.forget_writes();
            written
        });
        Ok(written?.len())
    }

    /// Log writes no more.
    pub fn forget_writes(&self) {
        self.vm.ram().log_writes(false);
        if let Err(error) = self.vm.log_dirty_pages(false) {
            // The guest is slower, and otherwise as it was.
            tracing::warn!(%error, "writes to memory are logged on");
        }
    }

    fn take_writes(&self) -> Result<Pages, MachineError> {
        let mut pages = Pages::none(self.vm.ram().size());
        self.vm.take_dirty_pages(&mut pages)?;
        self.vm.ram().take_written(&mut pages);
        Ok(pages)
    }

    /// Do `work` while vCPUs are out of the guest and devices have nothing in flight.
    fn while_all_still<T>(
        &mut self,
        work: impl FnOnce(&Self) -> Result<T, MachineError>,
    ) -> Result<T, MachineError> {
        // A paused machine is as still as can be.
        if self.stopped_clock.is_some() {
            return work(self);
        }
        self.cpus.park()?;
        let components = &self.parts.components;
        components.iter().for_each(|component| component.pause());
        let result = work(self);
        components.iter().for_each(|component| component.resume());
        // Who stopped by itself meanwhile is dealt with by the bell that it rang.
        if !self.has_stop() {
            self.cpus.run();
        }
        result
    }
}
