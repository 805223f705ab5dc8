//! Saving the machine between other things: the control socket is served meanwhile.

use std::fs::File;
use std::os::fd::OwnedFd;

use vmm_protocol::control::{
    ControlError, ControlErrorCode as Code, Request, RunState, StateReason,
};

use super::domain::Domain;
use super::refusals::failed;
use super::server::refuse;
use crate::state::{LiveCopy, Packing, Steps};

/// What is written between other things.
pub(super) enum Saving {
    /// Of a machine that stays as it is; or a dump.
    Whole(Box<dyn Steps>),
    /// Memory, of a guest that runs.
    Memory(Box<LiveCopy>),
}

impl Saving {
    pub(super) fn progress(&self) -> (u64, u64) {
        match self {
            Self::Whole(steps) => steps.progress(),
            Self::Memory(copy) => copy.progress(),
        }
    }
}

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
        self.check_save()?;
        self.forget_copy();
        let begun = self.machine.save(File::from(file), packing).map_err(failed)?;
        self.write_whole(Box::new(begun));
        Ok(())
    }

    fn write_whole(&mut self, begun: Box<dyn Steps>) {
        self.saving = Some(Saving::Whole(begun));
        (self.saved, self.dumping) = (false, false);
    }

    fn check_save(&self) -> Result<(), ControlError> {
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
        Ok(())
    }

    /// Its memory first, while it runs.
    pub(super) fn begin_copy(&mut self, file: Option<OwnedFd>) -> Result<(), ControlError> {
        let text = "CopyMemory comes with a file to write to";
        let file = file.ok_or_else(|| refuse(Code::Malformed, text))?;
        self.allow_while_saving(&Request::CopyMemory)?;
        if self.state != RunState::Running {
            return Err(self.not_now("copy the memory of"));
        }
        if !self.machine.logs_all_writes() {
            let text = "the host's kernel serves a device of the guest (vhost-vsock), and does not \
                        tell what it writes to memory";
            return Err(refuse(Code::State, text));
        }
        self.forget_copy();
        // One log is enough: what was counted so far tells the rate.
        self.end_measuring();
        let copy = self.machine.copy_memory(File::from(file)).map_err(failed)?;
        self.saving = Some(Saving::Memory(Box::new(copy)));
        self.dumping = false;
        Ok(())
    }

    /// The rest of a copy, of the guest that waits now.
    pub(super) fn begin_rest(&mut self) -> Result<(), ControlError> {
        self.allow_while_saving(&Request::SaveRest)?;
        self.check_save()?;
        let text = "no memory was copied: CopyMemory comes first";
        let copy = self.copied.take().ok_or_else(|| refuse(Code::State, text))?;
        let rest = self.machine.save_rest(copy).map_err(|error| {
            self.machine.forget_writes();
            failed(error)
        })?;
        self.write_whole(Box::new(rest));
        Ok(())
    }

    /// A part of a copy. True when what is left is for a guest that waits.
    fn go_on_copying(&mut self, copy: &mut LiveCopy) -> Result<bool, ControlError> {
        if !matches!(self.state, RunState::Running | RunState::Paused) {
            return Err(self.not_now("copy the memory of"));
        }
        let at_end = copy.step().map_err(|error| failed(error.into()))?;
        Ok(at_end && !self.machine.next_pass(copy).map_err(failed)?)
    }

    /// A copy whose rest nobody wants.
    fn forget_copy(&mut self) {
        if self.copied.take().is_some() {
            self.machine.forget_writes();
        }
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
        self.saving = Some(Saving::Whole(Box::new(begun?)));
        self.dumping = true;
        Ok(())
    }

    /// What becomes of a save, once it has come to its end.
    pub(super) fn go_on_saving(&mut self) -> Option<Result<(), ControlError>> {
        if self.cancelled {
            self.cancelled = false;
            return Some(Err(refuse(Code::State, "the save was cancelled")));
        }
        match self.saving.take()? {
            Saving::Memory(mut copy) => match self.go_on_copying(&mut copy) {
                Ok(false) => {
                    self.saving = Some(Saving::Memory(copy));
                    None
                }
                Ok(true) => {
                    self.copied = Some(*copy);
                    Some(Ok(()))
                }
                Err(error) => {
                    self.machine.forget_writes();
                    Some(Err(error))
                }
            },
            Saving::Whole(mut steps) => match steps.step() {
                Ok(false) => {
                    self.saving = Some(Saving::Whole(steps));
                    None
                }
                Ok(true) if self.dumping => Some(Ok(())),
                Ok(true) => {
                    // Whoever asked looks now at how the images are.
                    self.machine.store_bitmaps();
                    self.saved = true;
                    self.enter(RunState::Paused, StateReason::Saving);
                    Some(Ok(()))
                }
                Err(error) => Some(Err(failed(error.into()))),
            },
        }
    }

    pub(super) fn cancel_save(&mut self) {
        self.forget_copy();
        let given_up = self.saving.take();
        if matches!(given_up, Some(Saving::Memory(_))) {
            self.machine.forget_writes();
        }
        self.cancelled |= given_up.is_some();
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
        let other = matches!(
            request,
            Request::Save
                | Request::SavePacked
                | Request::CopyMemory
                | Request::SaveRest
                | Request::Dump
        );
        if allowed || !self.is_saving() || (self.dumping && !other) {
            return Ok(());
        }
        Err(refuse(Code::Busy, "the guest is being saved or dumped; wait for it, or cancel that"))
    }
}
