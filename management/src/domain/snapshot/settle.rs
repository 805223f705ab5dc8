//! What an earlier daemon began and did not end, and what went wrong: finished if it was decided,
//! else undone.

use std::path::PathBuf;

use broker::{Broker, BrokerError, Sharing};
use vmm_protocol::control::Request;

use crate::domain::actor::{Actor, blocking};
use crate::domain::{Paused, State};
use crate::error::Error;
use crate::jobs::Progress;
use crate::snapshots::{CreateWork, Work};

impl Actor {
    /// Once the domain is known to be off, or its VMM answers.
    pub(in crate::domain) async fn settle_snapshots(&mut self) {
        let settled = match self.snapshots().work {
            None => return,
            Some(Work::Create(work)) => self.settle_create(work).await,
            Some(Work::Revert(work)) => self.settle_revert(work).await,
            // That takes a while: it is a job, of whoever deletes it or of a daemon that begins.
            Some(Work::Delete(work)) if self.is_beneath_guest(&work) => return,
            Some(Work::Delete(work)) => {
                let progress = std::sync::Arc::new(Progress::new(0));
                self.finish_delete(work, progress).await
            }
        };
        if let Err(error) = settled {
            tracing::error!(
                domain = self.name,
                error = %error.chain(),
                "a change of its snapshots is neither finished nor undone"
            );
        }
    }

    async fn settle_create(&mut self, work: CreateWork) -> Result<(), Error> {
        if self.is_switched(&work).await? {
            tracing::info!(domain = self.name, snapshot = work.name, "was made");
            self.finish_switch(&work).await?;
            self.wake(&work).await;
            return self.finish_create().await;
        }
        tracing::warn!(domain = self.name, snapshot = work.name, "came to nothing");
        self.delete_inside(&work.internal, &work.name).await?;
        self.wake(&work).await;
        let (node, files) = (self.node.clone(), work.files.clone());
        blocking(move || files.iter().try_for_each(|file| Ok(node.broker.remove_saved(file)?)))
            .await?;
        let mut set = self.snapshots();
        set.snapshots.retain(|snapshot| snapshot.name() != work.name);
        set.work = None;
        self.put_snapshots(set).await
    }

    /// A guest that waited for its snapshot goes on, and nothing is copied for it any more.
    async fn wake(&mut self, work: &CreateWork) {
        if self.run.is_some() {
            let _ = self.tell(Request::CancelSave).await;
        }
        if !work.resume || !matches!(self.state(), State::Paused(Paused::User | Paused::Save)) {
            return;
        }
        if let Err(error) = self.tell(Request::Resume).await {
            tracing::error!(domain = self.name, error = %error.chain(), "cannot be resumed");
        }
        self.refresh().await;
    }

    /// Whether the disks are in their overlays: by the stored definition, by the locks that a VMM has
    /// on them, or by what was written to them.
    async fn is_switched(&self, work: &CreateWork) -> Result<bool, Error> {
        let generation = self.definition.as_ref().map(|definition| definition.stored.generation);
        if generation.is_some_and(|generation| generation >= work.generation) {
            return Ok(true);
        }
        if !work.swapping {
            return Ok(false);
        }
        let (node, runs) = (self.node.clone(), self.run.is_some());
        let overlays: Vec<PathBuf> = work.switches.iter().map(|it| it.to.clone()).collect();
        let blank = work.blank.clone();
        blocking(move || {
            if runs {
                return Ok(overlays.iter().any(|path| is_held(&*node.broker, path)));
            }
            let written = |(path, len): &(PathBuf, u64)| {
                let found = node.broker.stat(path).ok().flatten();
                found.is_some_and(|found| found.size != *len)
            };
            // Of those that were there before, nobody knows.
            Ok(blank.is_empty() || blank.iter().any(written))
        })
        .await
    }

    /// Have the definitions say what is so.
    async fn finish_switch(&mut self, work: &CreateWork) -> Result<(), Error> {
        let switches = work.switches.clone();
        let names = |def: &xml::DomainDef| {
            let disks = def.devices.disks.iter().filter_map(|disk| disk.source.as_ref());
            let mut files = disks.filter_map(|source| source.file.as_ref());
            files.any(|file| switches.iter().any(|switch| switch.to == *file))
        };
        if let Some(run) = &self.run
            && !names(&run.live.def)
        {
            let switches = switches.clone();
            self.change_live(|def| crate::snapshots::switch(def, &switches)).await;
        }
        if work.generation == u64::MAX {
            return Ok(());
        }
        let Some(definition) = self.definition.clone() else { return Ok(()) };
        if definition.stored.generation >= work.generation || names(&definition.def) {
            return Ok(());
        }
        let mut def = definition.def.clone();
        crate::snapshots::switch(&mut def, &switches);
        self.put(super::create::renewed(&definition.stored, &def), def).await
    }
}

/// Somebody has the image open for writing.
fn is_held(broker: &dyn Broker, path: &std::path::Path) -> bool {
    let opened = broker.open_image(path, false, false, Sharing::Exclusive);
    matches!(opened, Err(BrokerError::Locked { .. }))
}
