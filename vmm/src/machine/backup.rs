//! Backups and dirty bitmaps of a machine that may run.

use vmm_protocol::backup::{BackupBegin, BackupStatus, BitmapChange, BitmapStatus};

use super::{Machine, MachineError};
use crate::backups::BackupError;
use crate::process::Files;

impl Machine {
    /// Begin a backup of this moment. `runs`: the guest does, and goes on after the few milliseconds
    /// that its disks need to finish what is in flight.
    ///
    /// # Errors
    /// When it cannot be had; nothing has changed then.
    pub fn begin_backup(
        &mut self,
        begin: BackupBegin,
        files: Files,
        runs: bool,
    ) -> Result<Result<(), BackupError>, MachineError> {
        if let Some(disk) = begin.disks.iter().find(|disk| self.has_block_job(Some(&disk.id))) {
            return Ok(Err(BackupError::BlockJob { id: disk.id.clone() }));
        }
        let prepared = match self.parts.backups.prepare(begin, files) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        self.drained(runs, |machine| machine.parts.backups.begin(prepared)).map(Ok)
    }

    /// Forget the backup, which may be under way.
    pub fn end_backup(&mut self) {
        self.parts.backups.end();
    }

    pub fn backup(&self) -> Option<BackupStatus> {
        self.parts.backups.status()
    }

    /// Change dirty bitmaps, all at one moment.
    ///
    /// # Errors
    /// When one of them cannot be changed so; none has changed then.
    pub fn change_bitmaps(
        &mut self,
        changes: &[BitmapChange],
        runs: bool,
    ) -> Result<Result<(), BackupError>, MachineError> {
        if let Err(error) = self.parts.backups.check(changes) {
            return Ok(Err(error));
        }
        self.drained(runs, |machine| machine.parts.backups.change(changes)).map(Ok)
    }

    /// Put the dirty bitmaps of all disks into their images, while nothing is in flight.
    pub fn store_bitmaps(&self) {
        self.parts.backups.store();
    }

    pub fn bitmaps(&self) -> Vec<BitmapStatus> {
        self.parts.backups.bitmaps()
    }

    /// Do something while no request is in flight.
    fn drained<T>(
        &mut self,
        runs: bool,
        act: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, MachineError> {
        if !runs {
            return Ok(act(self));
        }
        self.cpus.park()?;
        for component in &self.parts.components {
            component.pause();
        }
        let done = act(self);
        for component in &self.parts.components {
            component.resume();
        }
        // Whoever stopped by itself meanwhile is dealt with first.
        if !self.has_stop() {
            self.cpus.run();
        }
        Ok(done)
    }
}
