//! Writing a guest's memory and registers into a file, for those who want to know what it did.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use broker::SavedAct;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vmm_protocol::control::Request;

use super::State;
use super::actor::{Actor, blocking};
use super::save::explain;
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::saved::beside;

/// What a guest does while it is dumped, and afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpMode {
    /// It waits, and goes on as it was.
    Paused,
    /// It runs on: its memory is not all of one moment.
    Live,
    /// It waits, and its power is cut.
    Crash,
    /// It waits, and is reset.
    Reset,
}

#[derive(Debug, Clone)]
pub(crate) struct Dump {
    pub file: PathBuf,
    pub mode: DumpMode,
}

/// In the record: a dump is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DumpIntent {
    pub partial: PathBuf,
    /// The guest ran before, and does again afterwards.
    pub resume: bool,
}

impl Actor {
    pub(super) async fn dump(&mut self, dump: Dump, progress: Arc<Progress>) -> Result<(), Error> {
        self.running()?;
        let runs = match self.state() {
            State::Unknown => return Err(self.unreachable()),
            State::Running(_) | State::ShuttingDown => true,
            _ => false,
        };
        if self.node.broker.is_there(&dump.file)? {
            let text = format!("{} is there already; name another file", dump.file.display());
            return Err(Error::new(Code::Exists, text));
        }
        let resume = runs && dump.mode != DumpMode::Live;
        let intent = DumpIntent { partial: beside(&dump.file, Uuid::new_v4()), resume };
        self.set_dumping(Some(intent.clone()))?;
        let dumped = self.write_dump(&intent, &dump, &progress).await;
        if dumped.is_err() {
            self.remove_dump(&intent).await;
        }
        let went_on = match dump.mode {
            _ if self.destroy.is_some() => Ok(()),
            DumpMode::Crash if dumped.is_ok() => self.cut_power(false).await,
            DumpMode::Reset if dumped.is_ok() => self.tell(Request::Reset).await,
            _ => Ok(()),
        };
        if intent.resume && self.run.is_some() && self.destroy.is_none() {
            self.tell(Request::Resume).await?;
        }
        self.set_dumping(None)?;
        self.refresh().await;
        dumped.and(went_on)
    }

    async fn write_dump(
        &mut self,
        intent: &DumpIntent,
        dump: &Dump,
        progress: &Progress,
    ) -> Result<(), Error> {
        let (node, path) = (self.node.clone(), intent.partial.clone());
        let made = blocking(move || {
            let act = SavedAct::Create { path, in_new_dir: false };
            Ok(File::from(node.broker.saved_file(act)?))
        });
        let file = made.await?;
        if intent.resume {
            self.tell(Request::Pause).await?;
        }
        let written = self.have_written(Request::Dump, vec![file.into()], progress).await;
        written.map_err(|error| explain(error, &dump.file))?;
        let (node, from, to) = (self.node.clone(), intent.partial.clone(), dump.file.clone());
        blocking(move || Ok(node.broker.rename_saved(&from, &to)?)).await
    }

    fn set_dumping(&mut self, intent: Option<DumpIntent>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        run.record.dumping = intent;
        run.record.write(&dir).map_err(|source| {
            let text = format!("cannot write the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// What is not complete is of no use.
    pub(super) async fn remove_dump(&self, intent: &DumpIntent) {
        let (node, partial) = (self.node.clone(), intent.partial.clone());
        if let Err(error) = blocking(move || Ok(node.broker.remove_saved(&partial)?)).await {
            tracing::error!(domain = self.name, error = %error.chain(), "a partial file is left");
        }
    }

    /// An earlier daemon died while it dumped this domain.
    pub(super) async fn settle_dump(&mut self) {
        let Some(intent) = self.run.as_ref().and_then(|run| run.record.dumping.clone()) else {
            return;
        };
        let _ = self.tell(Request::CancelSave).await;
        self.remove_dump(&intent).await;
        if intent.resume
            && let Err(error) = self.tell(Request::Resume).await
        {
            tracing::error!(domain = self.name, error = %error.chain(), "cannot be resumed");
            return;
        }
        if let Err(error) = self.set_dumping(None) {
            tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
        }
        self.refresh().await;
    }
}
