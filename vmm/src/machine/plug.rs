//! Devices that come and go while the guest runs.

use vmm_protocol::config::{DiskErrors, DiskLimits, Drive, PciDevice};

use super::Machine;
use crate::build::PlugError;
use crate::process::Files;

impl Machine {
    /// Put a device into a free slot, and tell the guest. Its descriptors are numbers of `files`;
    /// `limits` and `errors` are a disk's.
    ///
    /// # Errors
    /// When its place has no hotplug or is taken, or it cannot be built; nothing has changed then.
    pub fn attach(
        &mut self,
        device: PciDevice,
        files: Files,
        limits: Option<&DiskLimits>,
        errors: Option<&DiskErrors>,
    ) -> Result<(), PlugError> {
        let paused = self.stopped_clock.is_some();
        self.ground.plug(device, files, &self.vm, &mut self.parts, paused)?;
        self.govern(limits, errors);
        Ok(())
    }

    /// Put a drive on a SCSI host, and tell the guest. Descriptors as of [`attach`](Self::attach).
    ///
    /// # Errors
    /// When there is no such host, or it cannot be built; nothing has changed then.
    pub fn attach_drive(
        &mut self,
        host: &str,
        drive: Drive,
        files: Files,
        limits: Option<&DiskLimits>,
        errors: Option<&DiskErrors>,
    ) -> Result<(), PlugError> {
        self.ground.plug_drive(host, drive, files, &self.vm, &mut self.parts)?;
        self.govern(limits, errors);
        Ok(())
    }

    /// How fast a disk that has come may be, and what is done when the host fails it.
    fn govern(&mut self, limits: Option<&DiskLimits>, errors: Option<&DiskErrors>) {
        if let Some(limits) = limits {
            self.parts.limiters.limit(limits);
        }
        if let Some(errors) = errors {
            self.parts.faults.obey(errors);
        }
    }

    /// Ask the guest to let go of device `id`. It is taken out when the guest has done so, or starts
    /// over. A SCSI drive goes at once, as a disk does that is pulled: whether it is gone comes back.
    ///
    /// # Errors
    /// When there is no such device, or its place has no hotplug.
    pub fn detach(&mut self, id: &str) -> Result<bool, PlugError> {
        if self.ground.unplug_drive(id, &mut self.parts) {
            self.forget_block_job(id);
            return Ok(true);
        }
        self.ground.request_removal(id)?;
        self.leaving.insert(id.to_owned());
        Ok(false)
    }

    /// Take out what the guest has let go of since the last time, and say what that was.
    pub fn take_out_released(&mut self) -> Vec<String> {
        let released = self.released();
        self.take_out(released)
    }

    fn released(&self) -> Vec<String> {
        let slots = self.parts.notices.take_slots();
        let occupants = slots.iter().filter_map(|(bus, slot)| self.ground.occupant(*bus, *slot));
        occupants.map(str::to_owned).collect()
    }

    /// A guest that starts over has let go of everything. What it released just before goes too, or the
    /// word of it would be taken for one about what comes into that slot next.
    pub(super) fn unplug_leaving(&mut self) -> Vec<String> {
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.extend(self.released());
        self.take_out(leaving.into_iter().collect())
    }

    fn take_out(&mut self, ids: Vec<String>) -> Vec<String> {
        for id in &ids {
            self.forget_block_job(id);
            self.ground.unplug(id, &mut self.parts);
            self.leaving.remove(id);
        }
        ids
    }
}
