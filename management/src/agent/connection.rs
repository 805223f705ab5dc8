//! [`Agent`]: the agent of a running domain, found and ready to be asked.

use std::time::Duration;

use broker::CONTROL_SOCKET;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use vmm_protocol::control::{ControlErrorCode, Request};
use xml::DomainDef;

use super::AgentError;
use super::queue::{AgentTimeout, Turn};
use super::session::{Ask, Session};
use crate::control::{VmmError, open_stream};
use crate::domain::State;
use crate::domain::handle::{Handle, View};
use crate::error::{Code, Error};
use crate::translate;

/// The name by which the agent finds its channel.
pub(crate) const CHANNEL: &str = "org.qemu.guest_agent.0";
/// What a definition needs for it.
const ADVICE: &str = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>\
                      </channel>";
/// For the VMM to hand the channel over.
const CONNECT: Duration = Duration::from_secs(5);

/// Nobody else talks to this agent while this exists.
#[derive(Debug)]
pub(crate) struct Agent {
    name: String,
    session: Session<UnixStream>,
    timeout: AgentTimeout,
    _turn: Turn,
}

impl Agent {
    /// Find the agent and have it listen.
    pub(crate) async fn meet(handle: &Handle) -> Result<Self, Error> {
        Self::meet_within(handle, handle.agent.timeout()).await
    }

    /// For what nobody asked for, or the guest cannot do without: whatever time its agent was given.
    pub(super) async fn meet_patiently(handle: &Handle) -> Result<Self, Error> {
        Self::meet_within(handle, AgentTimeout::Usual).await
    }

    async fn meet_within(handle: &Handle, timeout: AgentTimeout) -> Result<Self, Error> {
        let view = handle.view();
        let channel = ready_channel(&view)?;
        let turn = handle.agent.turn(&view.name).await?;
        // It may have ended, or begun anew, while others were served.
        let view = handle.view();
        let Some(live) = &view.live else { return Err(not_running(&view.name)) };
        let path = live.run_dir.join(CONTROL_SOCKET);
        let request = Request::Console { id: channel, replay: false, force: false };
        let stream = open_stream(&path, request, CONNECT).await;
        let stream = stream.map_err(|error| cannot_open(&view, error))?;
        let session = Session::open(stream, timeout).await.map_err(|error| error.of(&view.name))?;
        Ok(Self { name: view.name, session, timeout, _turn: turn })
    }

    /// Of its domain.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, ask: Ask<'_>) -> Result<T, Error> {
        self.try_ask(ask).await.map_err(|error| error.of(&self.name))
    }

    /// With an error that tells what it means.
    pub(crate) async fn try_ask<T: DeserializeOwned>(
        &mut self,
        ask: Ask<'_>,
    ) -> Result<T, AgentError> {
        self.session.ask(self.in_time(ask)).await
    }

    fn in_time<'a>(&self, ask: Ask<'a>) -> Ask<'a> {
        let within = self.timeout.over(ask.within);
        ask.within(within)
    }

    /// Ask for what is answered only when it fails.
    pub(crate) async fn tell(&mut self, ask: Ask<'_>) -> Result<(), Error> {
        self.session.tell(ask).await.map_err(|error| error.of(&self.name))
    }

    /// Pass a request on as it is, and its answer. It has a time of its own.
    pub(crate) async fn pass(
        &mut self,
        request: &RawValue,
        ask: Ask<'_>,
    ) -> Result<Box<RawValue>, Error> {
        self.session.pass(request, ask).await.map_err(|error| error.of(&self.name))
    }
}

/// Whether a guest agent has a channel, were there one.
pub(crate) fn has_channel(def: &DomainDef) -> bool {
    channel(def).is_some()
}

/// Whether somebody in the guest has the agent's channel open, as far as the VMM can tell.
pub(crate) fn is_connected(view: &View) -> bool {
    ready_channel(view).is_ok()
}

/// The alias of the agent's channel, when there is a reason to believe that it listens.
fn ready_channel(view: &View) -> Result<String, Error> {
    let name = &view.name;
    let wrong = |text: String| Error::new(Code::InvalidState, text);
    let Some(live) = &view.live else { return Err(not_running(name)) };
    let channel = channel(&live.def).ok_or_else(|| {
        wrong(format!(
            "domain {name:?} has no channel to a guest agent; add {ADVICE} to its devices and \
             start it anew"
        ))
    })?;
    match view.state {
        State::Running(_) | State::ShuttingDown => {}
        State::Paused(_) => {
            return Err(wrong(format!(
                "domain {name:?} is paused, and its guest agent with it; resume it first"
            )));
        }
        State::Unknown => {
            let text = format!("the VMM of domain {name:?} does not answer");
            return Err(Error::new(Code::VmmUnreachable, text));
        }
        State::Crashed | State::ShutOff(_) => return Err(not_running(name)),
    }
    if view.channels.as_ref().is_some_and(|open| !open.contains(&channel)) {
        return Err(wrong(format!(
            "the guest agent of domain {name:?} is not connected: nothing in the guest has opened \
             its channel; install and start qemu-guest-agent there"
        )));
    }
    Ok(channel)
}

fn channel(def: &DomainDef) -> Option<String> {
    let def = translate::with_aliases(def);
    let mut channels = def.devices.channels.iter();
    let agents = channels.find(|channel| {
        translate::machine_devices::provided(channel)
            && channel.target.name.as_deref() == Some(CHANNEL)
    });
    agents?.alias.clone()
}

fn not_running(name: &str) -> Error {
    Error::new(Code::InvalidState, format!("domain {name:?} is not running"))
}

fn cannot_open(view: &View, error: VmmError) -> Error {
    match error {
        VmmError::Refused(refused) if refused.code == ControlErrorCode::Busy => {
            let text = format!(
                "another program has the channel of the guest agent of domain {:?} open; end it, \
                 so that Manor can ask the agent",
                view.name
            );
            Error::new(Code::Busy, text)
        }
        error => AgentError::Channel(error).of(&view.name),
    }
}
