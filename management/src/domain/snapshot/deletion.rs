//! Snapshots are deleted one after the other, as a job. What a guest has open becomes one by block
//! jobs, which are watched from here: the domain's actor is free meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::SnapshotAct;
use super::beneath::UnderWay;
use super::delete::Step;
use crate::domain::block_job_watch;
use crate::domain::block_jobs::ANSWER;
use crate::domain::handle::{Act, Handle};
use crate::error::{Code, Error};
use crate::events::BlockJobChange;
use crate::jobs::{Job, Progress};
use crate::registry::Node;
use crate::snapshots::Work;
use crate::store::StoredSnapshots;

/// As long as an overlay takes into the image below it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the VMM is asked how far it is: soon for the first time, then less often.
const SOON: Duration = Duration::from_millis(20);
const LOOKED_EACH: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(crate) struct Delete {
    pub name: String,
    pub reach: Reach,
    /// Only forget them: what they hold stays.
    pub metadata_only: bool,
}

/// Which snapshots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    One,
    WithDescendants,
    DescendantsOnly,
}

impl Delete {
    pub(super) fn one(name: &str) -> Self {
        Self { name: name.to_owned(), reach: Reach::One, metadata_only: false }
    }

    /// Children before their parents.
    fn names(&self, set: &StoredSnapshots) -> Vec<String> {
        let mut names = match self.reach {
            Reach::One => Vec::new(),
            Reach::WithDescendants | Reach::DescendantsOnly => set.descendants(&self.name),
        };
        names.reverse();
        if self.reach != Reach::DescendantsOnly {
            names.push(self.name.clone());
        }
        names
    }
}

/// Begin the job that deletes them.
pub(crate) fn begin(node: &Arc<Node>, handle: Handle, delete: Delete) -> Result<Job, Error> {
    let (name, of) = (handle.view().name, node.clone());
    node.jobs.start("domain-snapshot-delete", name, 0, move |progress| async move {
        Deletion { node: of, handle, progress }.run(&delete).await
    })
}

struct Deletion {
    node: Arc<Node>,
    handle: Handle,
    progress: Arc<Progress>,
}

impl Deletion {
    async fn run(&self, delete: &Delete) -> Result<(), Error> {
        // What an earlier one left half done comes first.
        if let Some(Work::Delete(work)) = &self.node.snapshots.of(self.handle.uuid).work {
            self.one(&work.name, false).await?;
            if work.name == delete.name && delete.reach == Reach::One {
                return Ok(());
            }
        }
        for name in delete.names(&self.node.snapshots.of(self.handle.uuid)) {
            if self.progress.is_cancelled() {
                return Err(Error::new(Code::InvalidState, "the deletion was cancelled"));
            }
            self.one(&name, delete.metadata_only).await?;
        }
        Ok(())
    }

    async fn one(&self, name: &str, metadata_only: bool) -> Result<(), Error> {
        loop {
            let (under_way, mut hear) = oneshot::channel();
            let step = Step { name: name.to_owned(), metadata_only, under_way };
            let act = Act::Snapshot(SnapshotAct::Delete(step), self.progress.clone());
            self.handle.act(act, LONGEST).await?;
            let Ok(merge) = hear.try_recv() else { return Ok(()) };
            self.wait(merge, name).await?;
            if self.node.snapshots.of(self.handle.uuid).get(name).is_none() {
                // The guest has ended, and whatever came next on its domain deleted the rest.
                return Ok(());
            }
        }
    }

    /// Until the images are one, or the guest has ended: then the rest is done without it.
    async fn wait(&self, merge: UnderWay, name: &str) -> Result<(), Error> {
        let UnderWay { target, mut ended } = merge;
        let half = |why: &str| {
            let text = format!(
                "disk {target}: {why}; snapshot {name:?} is half deleted: what the guest uses is \
                 intact, delete it again when this is mended"
            );
            Error::new(Code::VmmFailed, text)
        };
        let mut pause = SOON;
        loop {
            match tokio::time::timeout(pause, &mut ended).await {
                Ok(Ok(BlockJobChange::Failed { error })) => return Err(half(&error)),
                Ok(Ok(BlockJobChange::Cancelled)) => {
                    self.progress.cancel();
                    return Err(half("its block job was ended"));
                }
                Ok(Ok(BlockJobChange::Completed | BlockJobChange::Ready) | Err(_)) => return Ok(()),
                Err(_) => pause = (pause * 2).min(LOOKED_EACH),
            }
            if self.progress.is_cancelled() {
                self.end(&target, false).await?;
                continue;
            }
            // One that does not answer now is asked again.
            let all = block_job_watch::list(&self.handle).await.unwrap_or_default();
            let Some(job) = all.iter().find(|job| job.target == target) else { continue };
            self.progress.set_total(job.total);
            // It is looked at above whether it is to go on.
            let _ = self.progress.at(job.done);
            if job.ready
                && let Err(error) = self.end(&target, true).await
            {
                // It may have failed by itself just now.
                if ended.try_recv().is_ok_and(|change| change == BlockJobChange::Completed) {
                    return Ok(());
                }
                let _ = self.end(&target, false).await;
                return Err(half(&error.message).with_source(error));
            }
        }
    }

    async fn end(&self, target: &str, pivot: bool) -> Result<(), Error> {
        self.handle.act(Act::EndBlockJob { disk: target.to_owned(), pivot }, ANSWER).await
    }
}
