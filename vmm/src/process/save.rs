//! Saving the machine between other things: the control socket is served meanwhile.

use std::fs::File;
use std::os::fd::OwnedFd;

use vmm_protocol::control::{
    ControlError, ControlErrorCode as Code, Request, RunState, StateReason,
};

use super::domain::Domain;
use super::refusals::failed;
use super::server::refuse;
use crate::state::Packing;

impl Domain {
    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    pub(super) fn begin_save(
        &mut self,
        file: Option<OwnedFd>,
        packing: Packing,
    ) -> Result<(), ControlError> {
        let file =
            file.ok_or_else(|| refuse(Code::Malformed, "Save comes with a file to write to"))?;
        self.allow_while_saving(&Request::Save)?;
        if self.state != RunState::Paused {
            return Err(self.not_now("save"));
        }
        if self.machine.has_block_job(None) {
            let text = "a disk has a block job; wait for its end, or abort it";
            return Err(refuse(Code::State, text));
        }
        if self.machine.has_stop() {
            let text = "the guest has just asked to stop: resume it, to see what becomes of it";
            return Err(refuse(Code::State, text));
        }
        let begun = self.machine.save(File::from(file), packing).map_err(failed)?;
        self.saving = Some(Box::new(begun));
        (self.saved, self.dumping) = (false, false);
        Ok(())
    }

    /// In whatever state the guest is: of one that crashed it is wanted most.
    pub(super) fn begin_dump(&mut self, file: Option<OwnedFd>) -> Result<(), ControlError> {
        let file =
            file.ok_or_else(|| refuse(Code::Malformed, "Dump comes with a file to write to"))?;
        self.allow_while_saving(&Request::Dump)?;
        let runs = self.state == RunState::Running;
        if runs {
            self.machine.park().map_err(failed)?;
        }
        let begun = self.machine.dump(File::from(file)).map_err(failed);
        if runs && !self.machine.has_stop() {
            self.machine.unpark();
        }
        self.saving = Some(Box::new(begun?));
        self.dumping = true;
        Ok(())
    }

    /// What becomes of a save, once it has come to its end.
    pub(super) fn go_on_saving(&mut self) -> Option<Result<(), ControlError>> {
        if self.cancelled {
            self.cancelled = false;
            return Some(Err(refuse(Code::State, "the save was cancelled")));
        }
        let result = match self.saving.as_mut()?.step() {
            Ok(false) => return None,
            Ok(true) if self.dumping => Ok(()),
            Ok(true) => {
                // Whoever asked looks now at how the images are.
                self.machine.store_bitmaps();
                self.saved = true;
                self.enter(RunState::Paused, StateReason::Saving);
                Ok(())
            }
            Err(error) => Err(failed(error.into())),
        };
        self.saving = None;
        Some(result)
    }

    pub(super) fn cancel_save(&mut self) {
        self.cancelled |= self.saving.take().is_some();
    }

    /// What is in the file by now must stay true.
    pub(super) fn allow_while_saving(&self, request: &Request) -> Result<(), ControlError> {
        let allowed = matches!(
            request,
            Request::Status
                | Request::Statistics
                | Request::Pause
                | Request::Destroy
                | Request::SetLiveRecord { .. }
                | Request::SetLifecycle { .. }
                | Request::SaveProgress
                | Request::CancelSave
                | Request::BackupStatus
                | Request::BackupEnd
                | Request::ListBitmaps
        );
        let other = matches!(request, Request::Save | Request::SavePacked | Request::Dump);
        if allowed || !self.is_saving() || (self.dumping && !other) {
            return Ok(());
        }
        Err(refuse(Code::Busy, "the guest is being saved or dumped; wait for it, or cancel that"))
    }
}
