//! What goes on at the other end of a guest's channels: who is there, and what its agent was asked
//! to hold on to.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xml::DomainDef;
use xml::device::chardev::ChannelState;

use super::actor::{Actor, Run};
use super::clean;
use super::handle::{Live, View};
use super::record::Record;
use crate::agent::{self, AgentTimeout};
use crate::error::Error;
use crate::events::EventKind;
use crate::journal::Origin;
use crate::translate;

/// More ids than a controller has ports are no truth.
const MOST: usize = 64;

/// How far freezing a guest's file systems has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Frozen {
    /// Its agent is being asked. Whoever finds this later thaws them: nobody knows that they hold.
    Asked,
    /// By somebody's wish, until they are thawed.
    Held,
}

impl Run {
    pub(super) fn take_channel(&mut self, alias: &str, open: bool) {
        let Some(channels) = &mut self.channels else { return };
        let known: &mut BTreeSet<String> = Arc::make_mut(channels);
        if !open {
            known.remove(alias);
        } else if known.len() < MOST {
            known.insert(alias.to_owned());
        }
    }
}

impl Actor {
    pub(super) fn tell_channel(&self, alias: &str, connected: bool, origin: Option<Origin>) {
        let Some(run) = &self.run else { return };
        let def = translate::with_aliases(&run.live.def);
        let channel = def.devices.channels.iter().find(|c| c.alias.as_deref() == Some(alias));
        let name = channel.and_then(|channel| channel.target.name.clone()).unwrap_or_default();
        let kind = if name == agent::CHANNEL {
            EventKind::AgentLifecycle { connected }
        } else {
            EventKind::ChannelLifecycle { device: clean(alias), channel: name, connected }
        };
        self.announce(kind, origin);
    }

    /// Before the agent is asked, and once it has answered.
    pub(super) async fn set_frozen(&mut self, frozen: Option<Frozen>) -> Result<(), Error> {
        self.running()?;
        self.note(|record| record.frozen = frozen).await;
        Ok(())
    }

    /// From the next question on, and for the daemon that comes after this one while the guest runs.
    pub(super) async fn set_agent_timeout(&mut self, timeout: AgentTimeout) -> Result<(), Error> {
        self.agent.set_timeout(timeout);
        let number = (timeout != AgentTimeout::Usual).then(|| timeout.number());
        self.note(|record| record.agent_timeout = number).await;
        Ok(())
    }

    /// Write something down of a guest that runs.
    async fn note(&mut self, note: impl FnOnce(&mut Record)) {
        let Some(run) = &mut self.run else { return };
        note(&mut run.record);
        run.live = Arc::new(Live {
            record: run.record.clone(),
            def: run.live.def.clone(),
            run_dir: run.live.run_dir.clone(),
            sandbox: run.live.sandbox.clone(),
        });
        self.keep_record().await;
    }

    /// A guest that begins anew has nothing frozen.
    pub(super) async fn forget_frozen(&mut self) {
        if self.run.as_ref().is_some_and(|run| run.record.frozen.is_some()) {
            // It runs: it has just reset.
            let _ = self.set_frozen(None).await;
        }
    }
}

impl View {
    /// Put into a live definition which of its channels the guest has open.
    pub(crate) fn show_channels(&self, def: &mut DomainDef) {
        let Some(open) = &self.channels else { return };
        for channel in def.devices.channels.iter_mut().filter(|channel| channel.is_virtio()) {
            let connected = channel.alias.as_ref().is_some_and(|alias| open.contains(alias));
            let state =
                if connected { ChannelState::Connected } else { ChannelState::Disconnected };
            channel.target.state = Some(state);
        }
    }
}
