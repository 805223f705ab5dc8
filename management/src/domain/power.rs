//! Commands that a running domain's VMM carries out.

use std::os::fd::OwnedFd;
use std::time::Duration;

use vmm_protocol::config::Lifecycle;
use vmm_protocol::control::Request;

use super::actor::{Actor, Link, Run, vmm_error};
use super::{Paused, Running, State};
use crate::error::{Code, Error};

impl Actor {
    pub(super) fn running(&self) -> Result<&Run, Error> {
        self.run.as_ref().ok_or_else(|| {
            Error::new(Code::InvalidState, format!("domain {:?} is not running", self.name))
        })
    }

    fn wrong_state(&self, what: &str) -> Error {
        let text = format!("domain {:?} is {}: {what}", self.name, self.state().name());
        Error::new(Code::InvalidState, text)
    }

    /// Ask the VMM for something; a destroy that comes meanwhile goes first.
    pub(super) async fn tell(&mut self, request: Request) -> Result<(), Error> {
        self.tell_with(request, Vec::new()).await
    }

    /// With files beside the request.
    pub(super) async fn tell_with(
        &mut self,
        request: Request,
        files: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let within = Duration::from_secs(self.node.config.domains.command_timeout);
        let run = self.running()?;
        let Link::Up { vmm, .. } = &run.link else { return Err(self.unreachable()) };
        let vmm = vmm.clone();
        let told = tokio::select! {
            biased;
            destroy = self.destroys.recv() => {
                self.destroy = destroy;
                let text = format!("domain {:?} was destroyed meanwhile", self.name);
                return Err(Error::new(Code::InvalidState, text));
            }
            told = vmm.tell_with(request, files, within) => told,
        };
        told.map_err(|error| vmm_error(&self.name, error))
    }

    pub(super) fn unreachable(&self) -> Error {
        let pid = self.run.as_ref().and_then(|run| run.record.process).map(|process| process.pid);
        let process = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
        let text = format!(
            "the VMM of domain {:?}{process} lives and does not answer; the guest may run on, and \
             destroy works",
            self.name
        );
        Error::new(Code::VmmUnreachable, text)
    }

    pub(super) fn enter(&mut self, state: State) {
        if let Some(run) = &mut self.run {
            run.state = state;
        }
    }

    pub(super) async fn shutdown(&mut self) -> Result<(), Error> {
        self.prepare_to_ask("shut down").await?;
        self.tell(Request::PowerButton).await?;
        self.asked_to_shutdown()
    }

    /// A guest that hears what it is asked, and is done with what it was asked before.
    pub(super) async fn prepare_to_ask(&mut self, what: &str) -> Result<(), Error> {
        self.running()?;
        match self.state() {
            State::Running(_) | State::ShuttingDown => {}
            State::Unknown => return Err(self.unreachable()),
            State::Paused(_) => {
                return Err(self.wrong_state(&format!("resume it, so that it can {what}")));
            }
            _ => return Err(self.wrong_state(&format!("it cannot {what}; destroy it"))),
        }
        if self.run.as_ref().is_some_and(|run| run.record.rebooting) {
            self.end_reboot().await?;
        }
        Ok(())
    }

    /// Unless it has ended, or stopped, meanwhile.
    pub(super) fn asked_to_shutdown(&mut self) -> Result<(), Error> {
        if matches!(self.state(), State::Running(_)) {
            self.enter(State::ShuttingDown);
        }
        Ok(())
    }

    /// As libvirt: ask for a shutdown, and turn the power-off that follows into a reset. The VMM does
    /// both, so it also works without a daemon.
    pub(super) async fn reboot(&mut self) -> Result<(), Error> {
        self.running()?;
        match self.state() {
            State::Running(_) | State::ShuttingDown => {}
            State::Unknown => return Err(self.unreachable()),
            State::Paused(_) => return Err(self.wrong_state("resume it, so that it can reboot")),
            _ => return Err(self.wrong_state("it cannot reboot; reset or destroy it")),
        }
        let mut lifecycle = self.lifecycle()?;
        lifecycle.on_poweroff = vmm_protocol::config::Action::Restart;
        self.set_rebooting(true);
        self.tell(Request::SetLifecycle { lifecycle }).await?;
        self.tell(Request::PowerButton).await
    }

    fn lifecycle(&self) -> Result<Lifecycle, Error> {
        Ok(crate::translate::lifecycle(&self.running()?.live.def))
    }

    /// Before the VMM is told, so that a daemon that comes later ends it.
    fn set_rebooting(&mut self, rebooting: bool) {
        let dir = self.node.run_dir(self.uuid);
        if let Some(run) = &mut self.run {
            run.record.rebooting = rebooting;
            if let Err(error) = run.record.write(&dir) {
                tracing::warn!(%error, dir = %dir.display(), "cannot update the domain's record");
            }
        }
    }

    pub(super) async fn end_reboot(&mut self) -> Result<(), Error> {
        let lifecycle = self.lifecycle()?;
        self.tell(Request::SetLifecycle { lifecycle }).await?;
        self.set_rebooting(false);
        Ok(())
    }

    pub(super) async fn reset(&mut self) -> Result<(), Error> {
        self.tell(Request::Reset).await?;
        self.refresh().await;
        Ok(())
    }

    pub(super) async fn inject_nmi(&mut self) -> Result<(), Error> {
        self.running()?;
        match self.state() {
            State::Running(_) | State::ShuttingDown => self.tell(Request::InjectNmi).await,
            State::Unknown => Err(self.unreachable()),
            _ => Err(self.wrong_state("an interrupt needs vCPUs that run")),
        }
    }

    pub(super) async fn suspend(&mut self) -> Result<(), Error> {
        self.running()?;
        match self.state() {
            State::Paused(_) => return Ok(()),
            State::Running(_) | State::ShuttingDown => {}
            State::Unknown => return Err(self.unreachable()),
            _ => return Err(self.wrong_state("it cannot be suspended")),
        }
        self.tell(Request::Pause).await?;
        self.enter(State::Paused(Paused::User));
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<(), Error> {
        self.running()?;
        match self.state() {
            State::Paused(Paused::ShuttingDown) => {
                return Err(self.wrong_state("it ended and is kept; reset or destroy it"));
            }
            State::Paused(_) => {}
            State::Unknown => return Err(self.unreachable()),
            _ => return Err(self.wrong_state("there is nothing to resume")),
        }
        self.tell(Request::Resume).await?;
        self.enter(State::Running(Running::Unpaused));
        Ok(())
    }
}
