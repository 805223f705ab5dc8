//! Block jobs of running domains: begun, ended, and what becomes of the definition.
//!
//! ```text
//! opened → intent written down → VMM told → … → the VMM says that it has ended, asked or not
//!                                                 └─ live definition changed, intent forgotten
//! pivot:   stored definition changed → VMM told
//! ```
//! Before a pivot both images hold the same, after it only the new one does: so the stored definition
//! names that first. A daemon that comes after one that stopped anywhere in between asks the VMM, which
//! keeps word of jobs that have ended until somebody has heard it.

mod ended;
mod spec;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use spec::BlockJobSpec;
use tokio::sync::oneshot;
use uuid::Uuid;
pub use vmm_protocol::block_job::BlockJobKind;
use vmm_protocol::block_job::{BlockJob, BlockJobPhase, BlockJobStatus};
use vmm_protocol::control::{Reply, Request};
use xml::device::Device;
use xml::device::disk::Disk;

use super::actor::{Actor, Link, blocking};
use super::block_job_plan::{Plan, plan};
use super::media::position;
use super::{disk_chain, plug};
use crate::error::{Code, Error};
use crate::events::{BlockJobChange, Lifecycle};
use crate::saved::beside;
use crate::translate;

/// For a VMM to say what jobs it has.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// In the record: a job is under way, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockJobIntent {
    /// `vda`
    pub target: String,
    pub kind: BlockJobKind,
    /// The `<disk>` as it is once the job is completed.
    pub after: String,
    /// What is removed then.
    #[serde(default)]
    pub remove: Vec<PathBuf>,
    /// The stored definition names the new image since, in place of this `<disk>`.
    #[serde(default)]
    pub pivoting: Option<String>,
    /// Both sides are the same: it waits for its end.
    #[serde(default)]
    pub ready: bool,
    #[serde(default)]
    pub deletes: Option<Deletes>,
}

/// A block job is a part of the deletion of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deletes {
    pub snapshot: String,
    /// What goes into the image below it.
    pub image: PathBuf,
}

/// A block job as its domain's VMM tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockJobView {
    /// `vda`
    pub target: String,
    pub kind: BlockJobKind,
    /// Both sides are the same: it waits for its end.
    pub ready: bool,
    /// Bytes of the disk.
    pub done: u64,
    pub total: u64,
    /// Bytes in a second; 0: as many as can be.
    pub bandwidth: u64,
}

/// Told when the job has ended.
pub(crate) type Ended = oneshot::Sender<BlockJobChange>;

impl Actor {
    pub(super) async fn start_block_job(
        &mut self,
        name: &str,
        spec: BlockJobSpec,
        bandwidth: u64,
        ended: Ended,
        deletes: Option<Deletes>,
    ) -> Result<(), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        let disk = def.devices.disks[self.disk(&def, name)?].clone();
        let alias = disk.alias.clone().ok_or_else(|| self.no_disk(&def, name))?;
        let run = self.running()?;
        if run.record.block_jobs.contains_key(&alias) {
            let text =
                format!("disk {} has a block job; wait for its end, or abort it", disk.target.dev);
            return Err(Error::new(Code::Busy, text));
        }
        let (node, launch, of) = (self.node.clone(), self.launch(def.clone()), disk.clone());
        let partial = spec.makes().map(|path| beside(path, Uuid::new_v4()));
        if partial.is_some() {
            self.set_making(partial.clone())?;
        }
        let planned =
            blocking(move || plan(&*node.broker, &launch, &of, spec, partial.as_deref())).await;
        self.set_making(None)?;
        let plan = planned?;
        let Plan { work, after, remove, files, made, written } = plan;
        let (node, domain, is_deletion) = (self.node.clone(), self.name.clone(), deletes.is_some());
        let look = move || {
            let mut written = written.iter();
            written.try_for_each(|path| node.may_write_below(path, &domain, is_deletion))
        };
        blocking(look).await?;
        let mut shown = disk.clone();
        disk_chain::show(&mut shown, &after);
        let intent = BlockJobIntent {
            target: disk.target.dev.clone(),
            kind: work.kind(),
            after: Device::Disk(Box::new(shown)).to_xml(),
            remove,
            pivoting: None,
            ready: false,
            deletes,
        };
        self.intend_block_job(&alias, Some(intent))?;
        let job = BlockJob { id: alias.clone(), bandwidth, work };
        match self.tell_with(Request::StartBlockJob(Box::new(job)), files).await {
            Ok(()) => {
                self.block_jobs.insert(alias, ended);
                self.show_block_jobs().await;
                Ok(())
            }
            Err(error) => {
                // Where it is not known whether the VMM has begun, it is asked when it answers again.
                if !matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
                    self.intend_block_job(&alias, None)?;
                    if let Some(path) = made {
                        self.remove_images(vec![path]).await;
                    }
                }
                Err(error)
            }
        }
    }

    /// End a job: with `pivot` the guest uses the copy from now on, else the disk stays as it was.
    pub(super) async fn end_block_job(&mut self, name: &str, pivot: bool) -> Result<(), Error> {
        let (alias, intent) = self.block_job_of(name)?;
        if pivot && !matches!(intent.kind, BlockJobKind::ActiveCommit | BlockJobKind::Copy) {
            let text = format!(
                "the block job of disk {} ends by itself: there is nothing to pivot to",
                intent.target
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        if pivot {
            let status = self.ask_block_jobs().await?.into_iter().find(|job| job.id == alias);
            if status.is_none_or(|job| job.phase != BlockJobPhase::Ready) {
                let text = format!("the block job of disk {} is not ready", intent.target);
                return Err(Error::new(Code::InvalidState, text));
            }
            self.note_merged(&intent, true).await?;
            if let Err(error) = self.store_pivot(&alias, &intent).await {
                self.note_merged_or_say(&intent, false).await;
                return Err(error);
            }
        }
        match self.tell(Request::EndBlockJob { id: alias.clone(), pivot }).await {
            Ok(()) => {}
            Err(error) => {
                if pivot && !matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
                    self.take_back_pivot(&alias).await;
                    self.note_merged_or_say(&intent, false).await;
                }
                return Err(error);
            }
        }
        let phase = if pivot { BlockJobPhase::Completed } else { BlockJobPhase::Cancelled };
        self.block_job_ended(&alias, &phase, None).await;
        Ok(())
    }

    pub(super) async fn limit_block_job(
        &mut self,
        name: &str,
        bandwidth: u64,
    ) -> Result<(), Error> {
        let (id, _) = self.block_job_of(name)?;
        self.tell(Request::LimitBlockJob { id, bandwidth }).await
    }

    fn block_job_of(&self, name: &str) -> Result<(String, BlockJobIntent), Error> {
        let run = self.running()?;
        let def = translate::with_aliases(&run.live.def);
        let disk = &def.devices.disks[self.disk(&def, name)?];
        let found =
            disk.alias.as_ref().and_then(|alias| run.record.block_jobs.get_key_value(alias));
        let found = found.map(|(alias, intent)| (alias.clone(), intent.clone()));
        found.ok_or_else(|| {
            let text = format!("disk {} has no block job", disk.target.dev);
            Error::new(Code::InvalidState, text)
        })
    }

    async fn ask_block_jobs(&mut self) -> Result<Vec<BlockJobStatus>, Error> {
        let run = self.running()?;
        let Link::Up { vmm, .. } = &run.link else { return Err(self.unreachable()) };
        let vmm = vmm.clone();
        match vmm.ask(Request::BlockJobs, ANSWER).await {
            Ok(Reply::BlockJobs(jobs)) => Ok(jobs),
            Ok(_) => Err(Error::new(Code::VmmFailed, "the VMM answers something else")),
            Err(error) => Err(super::actor::vmm_error(&self.name, error)),
        }
    }

    /// Write down what the VMM is about to do, or that it is over.
    fn intend_block_job(
        &mut self,
        alias: &str,
        intent: Option<BlockJobIntent>,
    ) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = &mut self.run else { return Ok(()) };
        let before = run.record.block_jobs.clone();
        match intent {
            Some(intent) => run.record.block_jobs.insert(alias.to_owned(), intent),
            None => run.record.block_jobs.remove(alias),
        };
        run.record.write(&dir).map_err(|source| {
            run.record.block_jobs = before;
            let text = format!("cannot update the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    /// The stored definition's disk is made of what the guest is about to use, if it is this disk.
    async fn store_pivot(&mut self, alias: &str, intent: &BlockJobIntent) -> Result<(), Error> {
        let Some(old) = self.definition.clone() else { return Ok(()) };
        let run = self.running()?;
        let live = position(&run.live.def, &intent.target);
        let live = live.map(|at| run.live.def.devices.disks[at].clone());
        let at = position(&old.def, &intent.target);
        let (Some(at), Some(live)) = (at, live) else { return Ok(()) };
        let disk = &old.def.devices.disks[at];
        if disk_chain::nodes(disk)[0].path() != disk_chain::nodes(&live)[0].path() {
            return Ok(());
        }
        let before = Device::Disk(Box::new(disk.clone())).to_xml();
        let pivoting = BlockJobIntent { pivoting: Some(before), ..intent.clone() };
        let after = read(&pivoting.after)?;
        self.intend_block_job(alias, Some(pivoting))?;
        let mut def = old.def.clone();
        disk_chain::start_with(&mut def.devices.disks[at], &disk_chain::nodes(&after));
        self.put(plug::next(&old.stored, &def), def).await?;
        self.announce_lifecycle(Lifecycle::DefinedUpdated, None, None);
        Ok(())
    }

    /// The VMM did not pivot.
    async fn take_back_pivot(&mut self, alias: &str) {
        let intent = self.run.as_ref().and_then(|run| run.record.block_jobs.get(alias).cloned());
        let Some(BlockJobIntent { pivoting: Some(before), target, .. }) = intent.clone() else {
            return;
        };
        let done = async {
            let before = read(&before)?;
            if let Some(old) = self.definition.clone()
                && let Some(at) = position(&old.def, &target)
            {
                let mut def = old.def.clone();
                def.devices.disks[at] = before;
                self.put(plug::next(&old.stored, &def), def).await?;
            }
            let intent = intent.map(|intent| BlockJobIntent { pivoting: None, ..intent });
            self.intend_block_job(alias, intent)
        };
        if let Err(error) = done.await {
            tracing::error!(domain = self.name, error = %error.chain(), "the definition names a copy that the guest does not use");
        }
    }

    /// Write down what is about to be made, or that it is whole or gone.
    fn set_making(&mut self, partial: Option<PathBuf>) -> Result<(), Error> {
        let dir = self.node.run_dir(self.uuid);
        let Some(run) = self.run.as_mut().filter(|run| run.record.making != partial) else {
            return Ok(());
        };
        run.record.making = partial;
        run.record.write(&dir).map_err(|source| {
            let text = format!("cannot update the domain's record in {}", dir.display());
            Error::new(Code::HostFailure, text).with_source(source)
        })
    }

    pub(super) async fn remove_images(&self, paths: Vec<PathBuf>) {
        for path in paths {
            let (node, gone) = (self.node.clone(), path.clone());
            let removed = blocking(move || Ok(node.broker.remove_saved(&gone)?)).await;
            if let Err(error) = removed {
                let path = path.display();
                tracing::warn!(domain = self.name, error = %error.chain(), "{path} stays");
            }
        }
    }
}

/// The disk as it is to be, if that can be read.
pub(super) fn destination(job: &BlockJobIntent) -> Option<Disk> {
    read(&job.after).ok()
}

fn read(disk: &str) -> Result<Disk, Error> {
    match Device::parse_stored(disk).map(|parsed| parsed.value) {
        Ok(Device::Disk(disk)) => Ok(*disk),
        _ => Err(Error::new(Code::Internal, "the record of a block job cannot be read")),
    }
}
