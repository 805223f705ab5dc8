//! A twin of a guest that runs: its memory and its disks as they are at one moment.
//!
//! ```text
//! intent in the record ─▶ files opened ─▶ memory into a file of the host's memory ─▶ paused
//!        └─ till here, and on any failure: undone ─┐     ─▶ what it wrote meanwhile ─▶ disks shared or copied
//!                                                  └──▶ the guest runs on ◀┘ ─▶ files named
//! ```
//! Its memory is copied while it runs; it waits for what it wrote meanwhile, and for as much of its disks
//! as the file system cannot share. It keeps its own memory, with its huge pages; the twin has the copy, of which it takes what
//! it changes. Both start from the same state, and only the twin hears that it is another machine.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use broker::Sharing;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use vmm_protocol::control::Request;
use xml::DomainDef;

use super::actor::{Actor, blocking};
use super::save::{explain, passed_on};
use super::twin::{Opened, Original, Twin};
use super::{Paused, State};
use crate::error::{Code, Error};
use crate::jobs::Progress;
use crate::registry::Node;

/// Bytes of disks that are copied while a guest waits that ran: a fraction of a second.
const MOST_COPIED: u64 = 256 << 20;

/// What a twin is made from.
#[derive(Debug)]
pub(crate) struct Forked {
    pub twin: Twin,
    /// A saved state.
    pub memory: Arc<File>,
    pub platform: u16,
    /// The guest ran.
    pub running: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Fork {
    /// Of the twin.
    pub name: String,
    /// What comes of it.
    pub forked: Arc<OnceLock<Forked>>,
}

/// In the record: the guest is being cloned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForkIntent {
    /// Files that are not whole.
    pub partial: Vec<PathBuf>,
    /// The guest ran before, and does again afterwards.
    pub resume: bool,
}

impl Actor {
    pub(super) async fn fork(&mut self, fork: Fork, progress: Arc<Progress>) -> Result<(), Error> {
        let runs = self.may_be_saved()?;
        let run = self.running()?;
        let (platform, mut def) = (run.record.platform, run.live.def.clone());
        def.forget_run();
        let twin = self.plan_twin(def, &fork.name).await?;
        let partial = twin.files.iter().map(|file| file.partial().to_owned()).collect();
        let intent = ForkIntent { partial, resume: runs };
        self.set_forking(Some(intent.clone()))?;
        let done = self.take_moment(&twin, &intent, &progress).await;
        if done.is_err() && self.run.is_some() {
            // Nothing is copied for it any more.
            let _ = self.tell(Request::CancelSave).await;
        }
        let went_on = if intent.resume && self.run.is_some() && self.destroy.is_none() {
            self.tell(Request::Resume).await
        } else {
            Ok(())
        };
        let named = match (done, &went_on) {
            (Ok((memory, files)), Ok(())) => self.name_twin(twin, files).await.map(|twin| {
                let forked = Forked { twin, memory: Arc::new(memory), platform, running: runs };
                // Nobody else sets it.
                let _ = fork.forked.set(forked);
            }),
            (Err(error), _) => Err(error),
            (Ok(_), Err(_)) => Ok(()),
        };
        if named.is_err() || went_on.is_err() {
            self.remove_forked(&intent).await;
        }
        if self.run.is_some() && went_on.is_ok() {
            self.set_forking(None)?;
        }
        self.refresh().await;
        named.and(went_on)
    }

    async fn plan_twin(&self, def: DomainDef, name: &str) -> Result<Twin, Error> {
        let (node, uuid, name) = (self.node.clone(), self.uuid, name.to_owned());
        blocking(move || {
            let pools: Vec<_> = node.pools.views().into_iter().filter(|pool| pool.active).collect();
            let (seed, run_dir) = (node.seeds.path(uuid), node.run_dir(uuid));
            let of = Original { broker: &*node.broker, def: &def, seed: &seed, run_dir: &run_dir };
            Twin::plan_live(of, &name, &pools, |uuid| node.seeds.path(uuid))
        })
        .await
    }

    /// Returns with the guest paused.
    async fn take_moment(
        &mut self,
        twin: &Twin,
        intent: &ForkIntent,
        progress: &Arc<Progress>,
    ) -> Result<(File, Vec<Opened>), Error> {
        let (node, files, runs) = (self.node.clone(), twin.files.clone(), intent.resume);
        let open = move || {
            let open = |file: &super::twin::Copy| file.open(&node, Sharing::Shared);
            let opened = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            if runs {
                check_cost(&opened)?;
            }
            Ok(opened)
        };
        let opened = blocking(open).await?;
        let memory =
            memfd_create("twin", MemfdFlags::CLOEXEC).map(File::from).map_err(|errno| {
                Error::new(Code::HostFailure, "no memory can be had for a twin")
                    .with_source(std::io::Error::from(errno))
            })?;
        let of_memory = |error| explain(error, "the twin's memory".as_ref());
        let copied =
            intent.resume && self.copy_memory(&memory, progress).await.map_err(of_memory)?;
        if intent.resume {
            self.tell(Request::Pause).await?;
            self.enter(State::Paused(Paused::Save));
            self.publish();
        }
        let written = match copied {
            true => self.have_written(Request::SaveRest, Vec::new(), progress).await,
            false => self.have_written(Request::Save, vec![passed_on(&memory)?], progress).await,
        };
        written.map_err(of_memory)?;
        let copying = progress.clone();
        let copied = blocking(move || {
            opened.iter().try_for_each(|file| file.copy(&copying))?;
            Ok(opened)
        });
        let opened = copied.await?;
        if progress.is_cancelled() {
            return Err(Error::new(Code::InvalidState, "the clone was cancelled"));
        }
        Ok((memory, opened))
    }

    /// The guest runs on meanwhile.
    async fn name_twin(&self, twin: Twin, files: Vec<Opened>) -> Result<Twin, Error> {
        let node = self.node.clone();
        blocking(move || {
            files.iter().try_for_each(Opened::sync)?;
            twin.name_files(&*node.broker)?;
            Ok(twin)
        })
        .await
    }

    fn set_forking(&mut self, intent: Option<ForkIntent>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        run.record.forking = intent;
        run.record.write(&dir).map_err(|source| {
            let text = format!("cannot write the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// What is not whole is of no use.
    pub(super) async fn remove_forked(&self, intent: &ForkIntent) {
        let (node, partial): (Arc<Node>, _) = (self.node.clone(), intent.partial.clone());
        let removed = blocking(move || {
            partial.iter().try_for_each(|path| Ok(node.broker.remove_saved(path)?))
        });
        if let Err(error) = removed.await {
            tracing::error!(domain = self.name, error = %error.chain(), "a partial file is left");
        }
    }

    /// An earlier daemon died while it cloned this domain.
    pub(super) async fn settle_fork(&mut self) {
        let Some(intent) = self.run.as_ref().and_then(|run| run.record.forking.clone()) else {
            return;
        };
        tracing::warn!(domain = self.name, "its clone was interrupted: the guest runs on");
        let _ = self.tell(Request::CancelSave).await;
        self.remove_forked(&intent).await;
        if intent.resume
            && let Err(error) = self.tell(Request::Resume).await
        {
            tracing::error!(domain = self.name, error = %error.chain(), "cannot be resumed");
            return;
        }
        if let Err(error) = self.set_forking(None) {
            tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
        }
        self.refresh().await;
    }
}

/// Refuse what would keep a guest waiting that runs.
fn check_cost(files: &[Opened]) -> Result<(), Error> {
    let mut left = MOST_COPIED;
    for file in files {
        file.settle()?;
        let cost = file.cost()?;
        left = left.checked_sub(cost).ok_or_else(|| {
            let text = format!(
                "{} has {} MiB that its file system cannot share (btrfs and xfs can): the guest would \
                 wait until they are copied; suspend it first if it may, or shut it down",
                file.what(),
                cost >> 20
            );
            Error::new(Code::Unsupported, text)
        })?;
    }
    Ok(())
}
