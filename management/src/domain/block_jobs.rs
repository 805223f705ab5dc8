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

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;
pub use vmm_protocol::block_job::BlockJobKind;
use vmm_protocol::block_job::{BlockJob, BlockJobPhase, BlockJobStatus};
use vmm_protocol::control::{Reply, Request};
use xml::device::Device;
use xml::device::disk::{Disk, Location, NetworkProtocol};

use super::actor::{Actor, Link, blocking};
use super::block_job_plan::{Plan, plan};
use super::disk_chain::{self, ChainNode};
use super::media::position;
use super::{clean, plug};
use crate::error::{Code, Error};
use crate::events::{BlockJobChange, EventKind, Lifecycle};
use crate::journal::Origin;
use crate::saved::beside;
use crate::translate;

/// For a VMM to say what jobs it has.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// What is to be done to a disk. Images are named by their paths, or as in `vda[3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockJobSpec {
    /// What lies between the guest's image and `base`, or all below it, goes into that.
    Pull {
        base: Option<String>,
        /// The image names `base` as the images between do, relative to themselves.
        relative: bool,
    },
    /// What `top` and those below it have goes into `base`.
    Commit {
        /// None: the lowest; or with `shallow` the one below `top`.
        base: Option<String>,
        /// None: the guest's image.
        top: Option<String>,
        shallow: bool,
        /// The caller knows that it is the guest's image, and that it has to pivot.
        active: bool,
        /// Images that are no part of the disk afterwards are removed.
        delete: bool,
        /// The image above `top` names `base` as those between do, relative to themselves.
        relative: bool,
    },
    /// All goes into a copy.
    Copy {
        path: PathBuf,
        /// None: that of the disk.
        format: Option<String>,
        /// Only what the guest's image has: the copy lies on what that lies on.
        shallow: bool,
        /// It is there already, of the right size.
        reuse: bool,
    },
    /// All goes onto a server, as this disk says, which has room for as much and no more.
    CopyToServer(Box<Disk>),
}

impl BlockJobSpec {
    /// The file that is made for it.
    fn makes(&self) -> Option<&Path> {
        match self {
            Self::Copy { path, reuse: false, .. } => Some(path),
            _ => None,
        }
    }

    /// A copy to where a `<disk>` says, which need not have a target: it has that of the disk that is
    /// copied.
    ///
    /// # Errors
    /// When it makes no sense, or is neither a file nor on a server that disks can be on.
    pub fn copy_to(xml: &str, shallow: bool, reuse: bool) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(Code::InvalidArgument, format!("the destination of the copy: {why}"))
        };
        let whole = match xml.rfind("</disk>") {
            Some(end) if !xml.contains("<target") => {
                format!("{}<target dev='vda'/>{}", &xml[..end], &xml[end..])
            }
            _ => xml.to_owned(),
        };
        let device = Device::parse(&whole).map_err(|errors| wrong(&errors.to_string()))?;
        let Device::Disk(disk) = device.value else { return Err(wrong("it is no <disk>")) };
        let format = disk.driver.as_ref().and_then(|driver| driver.format);
        let format = format.map(|format| format.to_string());
        match disk.location() {
            Location::File(path) | Location::Block(path) => {
                Ok(Self::Copy { path: path.to_owned(), format, shallow, reuse })
            }
            Location::Network { protocol: NetworkProtocol::Nbd, .. } => {
                if shallow {
                    return Err(wrong("a server has all of a disk: no copy there is shallow"));
                }
                if format.as_deref().is_some_and(|format| format != "raw") {
                    return Err(wrong("what an NBD server has is of format raw"));
                }
                Ok(Self::CopyToServer(disk))
            }
            _ => Err(wrong("it is no file and on no NBD server, and nothing else is copied to")),
        }
    }
}

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

    /// The VMM says what became of a job. Whoever ended it has heard it before, unless that was
    /// another daemon.
    pub(super) async fn on_block_job(&mut self, said: BlockJobStatus, origin: Option<Origin>) {
        let intent = self.run.as_ref().and_then(|run| run.record.block_jobs.get(&said.id));
        let Some(intent) = intent.cloned() else { return };
        if said.phase == BlockJobPhase::Running {
            return;
        }
        // It may be late, and speak of an earlier job of this disk: what the guest uses, the VMM knows.
        let now = match self.ask_block_jobs().await {
            Ok(jobs) => jobs.into_iter().find(|job| job.id == said.id),
            Err(error) => {
                // It is asked again when it is met again.
                tracing::warn!(domain = self.name, error = %error.chain(), "the end of a block job is not known");
                None
            }
        };
        match now.map(|job| job.phase) {
            None | Some(BlockJobPhase::Running) => {}
            Some(BlockJobPhase::Ready) if said.phase == BlockJobPhase::Ready => {
                self.block_job_is_ready(&said.id).await;
                self.tell_block_job(&intent, BlockJobChange::Ready, origin);
            }
            Some(BlockJobPhase::Ready) => {}
            Some(phase) => self.block_job_ended(&said.id, &phase, origin).await,
        }
    }

    async fn block_job_is_ready(&mut self, alias: &str) {
        let intent = self.run.as_mut().and_then(|run| run.record.block_jobs.get_mut(alias));
        if let Some(intent) = intent.filter(|intent| !intent.ready) {
            intent.ready = true;
            self.show_block_jobs().await;
        }
    }

    /// The live definition shows what disks are copied to.
    async fn show_block_jobs(&mut self) {
        if let Some(run) = &self.run {
            let def = run.live.def.clone();
            self.show_live(def).await;
        }
    }

    fn tell_block_job(
        &self,
        intent: &BlockJobIntent,
        change: BlockJobChange,
        origin: Option<Origin>,
    ) {
        self.announce(self.block_job_event(intent, change), origin);
    }

    fn block_job_event(&self, intent: &BlockJobIntent, change: BlockJobChange) -> EventKind {
        let run = self.run.as_ref();
        let live = run.and_then(|run| {
            position(&run.live.def, &intent.target).map(|at| &run.live.def.devices.disks[at])
        });
        let path = live.and_then(|disk| disk_chain::nodes(disk)[0].path().cloned());
        EventKind::BlockJob {
            disk: clean(&intent.target),
            path: path.map(|path| path.display().to_string()),
            kind: intent.kind,
            change,
        }
    }

    async fn block_job_ended(
        &mut self,
        alias: &str,
        phase: &BlockJobPhase,
        origin: Option<Origin>,
    ) {
        let intent = self.run.as_ref().and_then(|run| run.record.block_jobs.get(alias).cloned());
        let Some(intent) = intent else { return };
        let change = match phase {
            BlockJobPhase::Running | BlockJobPhase::Ready => return,
            BlockJobPhase::Completed => BlockJobChange::Completed,
            BlockJobPhase::Cancelled => BlockJobChange::Cancelled,
            BlockJobPhase::Failed { error } => BlockJobChange::Failed { error: clean(error) },
        };
        let completed = change == BlockJobChange::Completed;
        if !completed {
            self.take_back_pivot(alias).await;
        }
        self.note_merged_or_say(&intent, completed).await;
        // libvirt tells of a job by the image that the disk had when it began.
        let told = self.block_job_event(&intent, change.clone());
        if let Some(run) = &mut self.run {
            run.record.block_jobs.remove(alias);
        }
        match read(&intent.after) {
            Ok(after) if completed => {
                let nodes = disk_chain::nodes(&after);
                let target = &intent.target;
                self.change_live(|def| {
                    let Some(at) = position(def, target) else { return };
                    let disk = &mut def.devices.disks[at];
                    // That which the domain was started from has no aliases.
                    match disk.alias {
                        Some(_) => disk_chain::show(disk, &nodes),
                        None => disk_chain::start_with(disk, &nodes),
                    }
                })
                .await;
                self.forget_stored_chain(target, &nodes).await;
            }
            Ok(_) => self.show_block_jobs().await,
            Err(error) => {
                tracing::error!(domain = self.name, error = %error.chain(), "what a block job made of a disk cannot be read");
            }
        }
        // Whoever hears of it finds the disk as it is now.
        self.announce(told, origin);
        if let Err(error) = self.tell(Request::DismissBlockJob { id: alias.to_owned() }).await {
            tracing::warn!(domain = self.name, error = %error.chain(), "the VMM keeps word of a block job");
        }
        if completed {
            self.remove_images(intent.remove).await;
        }
        if let Some(ended) = self.block_jobs.remove(alias) {
            // Whoever watches it may be gone.
            let _ = ended.send(change);
        }
    }

    /// A stored definition that says what lies below its image says what was.
    async fn forget_stored_chain(&mut self, target: &str, nodes: &[ChainNode]) {
        let Some(old) = self.definition.clone() else { return };
        let Some(at) = position(&old.def, target) else { return };
        let disk = &old.def.devices.disks[at];
        let own = disk_chain::nodes(disk);
        let same = own.first().and_then(ChainNode::path) == nodes.first().and_then(ChainNode::path);
        if !same || own.len() < 2 {
            return;
        }
        let mut def = old.def.clone();
        def.devices.disks[at].backing_store = None;
        if let Err(error) = self.put(plug::next(&old.stored, &def), def).await {
            tracing::error!(domain = self.name, error = %error.chain(), "the definition names images that are no part of its disk");
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

    /// Jobs that were there when the connection was lost, or another daemon stopped.
    pub(super) async fn settle_block_jobs(&mut self) {
        if let Some(partial) = self.run.as_ref().and_then(|run| run.record.making.clone()) {
            self.remove_images(vec![partial]).await;
            if let Err(error) = self.set_making(None) {
                tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
            }
        }
        let known = self.run.as_ref().map(|run| run.record.block_jobs.clone()).unwrap_or_default();
        if known.is_empty() {
            return;
        }
        let Ok(jobs) = self.ask_block_jobs().await else { return };
        for (alias, intent) in known {
            match jobs.iter().find(|job| job.id == alias) {
                Some(job) => {
                    // A pivot that was meant and did not come: it is asked for again by whoever wants it.
                    if !job.phase.has_ended() {
                        self.take_back_pivot(&alias).await;
                        self.note_merged_or_say(&intent, false).await;
                    }
                    if job.phase == BlockJobPhase::Ready {
                        self.block_job_is_ready(&alias).await;
                    }
                    self.block_job_ended(&alias, &job.phase, None).await;
                    // The deletion of a snapshot looks after its own.
                    let watched = self.block_jobs.contains_key(&alias) || intent.deletes.is_some();
                    if !job.phase.has_ended() && !watched {
                        self.watch_block_job(&alias, &intent);
                    }
                }
                // It never began.
                None => {
                    if let Err(error) = self.intend_block_job(&alias, None) {
                        tracing::warn!(domain = self.name, error = %error.chain(), "cannot update the record");
                    }
                }
            }
        }
    }

    /// It is a job of this daemon, too.
    fn watch_block_job(&mut self, alias: &str, intent: &BlockJobIntent) {
        let Ok(handle) = self.node.find(&super::DomainRef::Uuid(self.uuid)) else { return };
        let (ended, hear) = oneshot::channel();
        let watched = super::block_job_watch::watch(
            &self.node.jobs,
            handle,
            &intent.target,
            intent.kind,
            hear,
        );
        match watched {
            Ok(_) => drop(self.block_jobs.insert(alias.to_owned(), ended)),
            Err(error) => tracing::warn!(error = %error.chain(), "a block job goes on unwatched"),
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
