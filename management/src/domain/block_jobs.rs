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

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker::{Broker, SavedAct, Sharing};
use image::qcow2::CreateOptions;
use image::{FileStorage, Format, Inspected, NewImage, Reference};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
pub use vmm_protocol::block_job::BlockJobKind;
use vmm_protocol::block_job::{Backing, BlockJob, BlockJobPhase, BlockJobStatus, BlockWork};
use vmm_protocol::config::{Fd, Layer};
use vmm_protocol::control::{Reply, Request, SwapLayer};
use xml::device::Device;
use xml::device::disk::{Disk, DiskFormat, Location};

use super::actor::{Actor, Link, blocking};
use super::disk_chain::{self, ChainNode};
use super::launch::{Launch, Opener, Table};
use super::media::position;
use super::{clean, plug};
use crate::error::{Code, Error};
use crate::events::{BlockJobChange, EventKind, Lifecycle};
use crate::journal::Origin;
use crate::translate::{self, formats};

/// For a VMM to say what jobs it has.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// What is to be done to a disk. Images are named by their paths, or as in `vda[3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockJobSpec {
    /// What lies between the guest's image and `base`, or all below it, goes into that.
    Pull { base: Option<String> },
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
}

impl BlockJobSpec {
    /// A copy to where a `<disk>` says, which need not have a target: it has that of the disk that is
    /// copied.
    ///
    /// # Errors
    /// When it makes no sense, or is no file.
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
            _ => Err(wrong("it is no file, and nothing else is copied to")),
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

/// What a job is made of: for the VMM, and for afterwards.
struct Plan {
    work: BlockWork,
    after: Vec<ChainNode>,
    remove: Vec<PathBuf>,
    files: Vec<OwnedFd>,
    /// A file that was made for it.
    made: Option<PathBuf>,
    /// Images that others may have, too, and that are changed or removed.
    written: Vec<PathBuf>,
}

impl Actor {
    pub(super) async fn start_block_job(
        &mut self,
        name: &str,
        spec: BlockJobSpec,
        bandwidth: u64,
        ended: Ended,
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
        let plan = blocking(move || plan(&*node.broker, &launch, &of, spec)).await?;
        let Plan { work, after, remove, files, made, written } = plan;
        let (node, domain) = (self.node.clone(), self.name.clone());
        let look = move || written.iter().try_for_each(|path| node.may_write_below(path, &domain));
        blocking(look).await?;
        let mut shown = disk.clone();
        disk_chain::show(&mut shown, &after);
        let intent = BlockJobIntent {
            target: disk.target.dev.clone(),
            kind: work.kind(),
            after: Device::Disk(Box::new(shown)).to_xml(),
            remove,
            pivoting: None,
        };
        self.intend_block_job(&alias, Some(intent))?;
        let job = BlockJob { id: alias.clone(), bandwidth, work };
        match self.tell_with(Request::StartBlockJob(Box::new(job)), files).await {
            Ok(()) => {
                self.block_jobs.insert(alias, ended);
                self.keep_record().await;
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
            self.store_pivot(&alias, &intent).await?;
        }
        match self.tell(Request::EndBlockJob { id: alias.clone(), pivot }).await {
            Ok(()) => {}
            Err(error) => {
                if pivot && !matches!(error.code, Code::Timeout | Code::VmmUnreachable) {
                    self.take_back_pivot(&alias).await;
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
    pub(super) async fn on_block_job(&mut self, status: BlockJobStatus, origin: Option<Origin>) {
        let intent = self.run.as_ref().and_then(|run| run.record.block_jobs.get(&status.id));
        let Some(intent) = intent.cloned() else { return };
        match status.phase {
            BlockJobPhase::Running => {}
            BlockJobPhase::Ready => self.tell_block_job(&intent, BlockJobChange::Ready, origin),
            phase => self.block_job_ended(&status.id, &phase, origin).await,
        }
    }

    fn tell_block_job(
        &self,
        intent: &BlockJobIntent,
        change: BlockJobChange,
        origin: Option<Origin>,
    ) {
        let run = self.run.as_ref();
        let live = run.and_then(|run| {
            position(&run.live.def, &intent.target).map(|at| &run.live.def.devices.disks[at])
        });
        let path = live.and_then(|disk| disk_chain::nodes(disk)[0].path().cloned());
        let kind = EventKind::BlockJob {
            disk: clean(&intent.target),
            path: path.map(|path| path.display().to_string()),
            kind: intent.kind,
            change,
        };
        self.announce(kind, origin);
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
        // libvirt tells of a job by the image that the disk had when it began.
        self.tell_block_job(&intent, change.clone(), origin);
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
            Ok(_) => self.keep_record().await,
            Err(error) => {
                tracing::error!(domain = self.name, error = %error.chain(), "what a block job made of a disk cannot be read");
            }
        }
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

    async fn remove_images(&self, paths: Vec<PathBuf>) {
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
        let known = self.run.as_ref().map(|run| run.record.block_jobs.clone()).unwrap_or_default();
        if known.is_empty() {
            return;
        }
        let Ok(jobs) = self.ask_block_jobs().await else { return };
        for (alias, intent) in known {
            match jobs.iter().find(|job| job.id == alias) {
                Some(job) => {
                    // A pivot that was meant and did not come: it is asked for again by whoever wants it.
                    if intent.pivoting.is_some() && !job.phase.has_ended() {
                        self.take_back_pivot(&alias).await;
                    }
                    self.block_job_ended(&alias, &job.phase, None).await;
                    if !job.phase.has_ended() && !self.block_jobs.contains_key(&alias) {
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

fn read(disk: &str) -> Result<Disk, Error> {
    match Device::parse_stored(disk).map(|parsed| parsed.value) {
        Ok(Device::Disk(disk)) => Ok(*disk),
        _ => Err(Error::new(Code::Internal, "the record of a block job cannot be read")),
    }
}

/// Open what the job needs, and say what becomes of the disk. Blocks.
fn plan(
    broker: &dyn Broker,
    launch: &Launch,
    disk: &Disk,
    spec: BlockJobSpec,
) -> Result<Plan, Error> {
    let mut table = Table::of_request();
    let mut opener = Opener { broker, table: &mut table, launch, cgroup: None };
    let mut nodes = disk_chain::nodes(disk);
    if nodes[0].path().is_none() {
        // A volume, by the name of its file.
        let path = opener.place(disk)?;
        nodes[0] = ChainNode::new(&path, nodes[0].format, nodes[0].source.index);
    }
    let mut work = Worker { opener: &mut opener, disk, nodes: &nodes };
    let (work, after, remove, made) = match spec {
        BlockJobSpec::Pull { base } => work.pull(base.as_deref())?,
        BlockJobSpec::Commit { base, top, shallow, active, delete } => {
            let (base, top) = (base.as_deref(), top.as_deref());
            work.commit(base, top, shallow, active, delete)?
        }
        BlockJobSpec::Copy { path, format, shallow, reuse } => {
            work.copy(&path, format.as_deref(), shallow, reuse)?
        }
    };
    let written = written(&work, &nodes).into_iter().chain(remove.clone()).collect();
    Ok(Plan { work, after, remove, files: table.into_files(), made, written })
}

/// Images below the guest's that the job writes to.
fn written(work: &BlockWork, nodes: &[ChainNode]) -> Vec<PathBuf> {
    let numbers = match work {
        BlockWork::Pull { .. } | BlockWork::Copy { .. } => Vec::new(),
        BlockWork::ActiveCommit { base, .. } => vec![*base],
        BlockWork::Commit { top, base, .. } => vec![*base, top.saturating_sub(1)],
    };
    let below = numbers.into_iter().filter(|number| *number > 0);
    below.filter_map(|number| nodes.get(usize::from(number))?.path().cloned()).collect()
}

type Planned = (BlockWork, Vec<ChainNode>, Vec<PathBuf>, Option<PathBuf>);

struct Worker<'a, 'b> {
    opener: &'a mut Opener<'b>,
    disk: &'a Disk,
    nodes: &'a [ChainNode],
}

impl Worker<'_, '_> {
    fn refused(&self, why: &str) -> Error {
        Error::new(Code::InvalidArgument, format!("disk {}: {why}", self.disk.target.dev))
    }

    fn is_direct(&self) -> bool {
        use vmm_protocol::config::Cache;
        let cache = self.disk.driver.as_ref().and_then(|driver| driver.cache);
        let mode = translate::machine_devices::cache(cache);
        matches!(mode, Cache::None | Cache::Directsync)
    }

    fn pull(&mut self, base: Option<&str>) -> Result<Planned, Error> {
        if self.nodes.len() < 2 {
            return Err(self.refused("nothing lies below its image"));
        }
        let base = base.map(|base| disk_chain::find(self.disk, self.nodes, base)).transpose()?;
        if base == Some(0) {
            return Err(self.refused("the base is the image that the guest uses"));
        }
        let backing = base.map(|base| backing(&self.nodes[base])).transpose()?;
        let end = base.unwrap_or(self.nodes.len());
        let after = self.nodes[..1].iter().chain(&self.nodes[end..]).cloned().collect();
        let work = BlockWork::Pull { base: base.map(layer_number), backing };
        Ok((work, after, Vec::new(), None))
    }

    fn commit(
        &mut self,
        base: Option<&str>,
        top: Option<&str>,
        shallow: bool,
        active: bool,
        delete: bool,
    ) -> Result<Planned, Error> {
        let find = |name: &str| disk_chain::find(self.disk, self.nodes, name);
        let top = top.map(find).transpose()?.unwrap_or(0);
        let base = match base {
            Some(base) => find(base)?,
            None if shallow => top + 1,
            None => self.nodes.len() - 1,
        };
        if top >= base || base >= self.nodes.len() {
            return Err(self.refused("the base does not lie below the top"));
        }
        if top == 0 && !active {
            return Err(self.refused(
                "the top is the image that the guest uses; say active, and pivot when the job is ready",
            ));
        }
        if top > 0 && active {
            return Err(
                self.refused("the top is not the image that the guest uses: leave active out")
            );
        }
        let into = self.open_again(base)?;
        let left_out = &self.nodes[top..base];
        let remove = if delete {
            left_out.iter().filter_map(|it| it.path().cloned()).collect()
        } else {
            Vec::new()
        };
        let after = self.nodes[..top].iter().chain(&self.nodes[base..]).cloned().collect();
        let number = layer_number(base);
        if top == 0 {
            return Ok((BlockWork::ActiveCommit { base: number, into }, after, remove, None));
        }
        let overlay = if top > 1 { Some(self.open_again(top - 1)?) } else { None };
        let backing = backing(&self.nodes[base])?;
        let work =
            BlockWork::Commit { top: layer_number(top), base: number, into, overlay, backing };
        Ok((work, after, remove, None))
    }

    /// An image of the disk, to be written to: the VMM has it already.
    fn open_again(&mut self, node: usize) -> Result<Layer, Error> {
        let ChainNode { format, .. } = self.nodes[node];
        let path = self.nodes[node].path().cloned();
        let path = path.ok_or_else(|| self.refused("an image of it is no file"))?;
        let direct = self.is_direct();
        let file = self.opener.disk_image(self.disk, &path, false, direct, Sharing::Again)?;
        self.layer(file, format)
    }

    fn layer(&mut self, file: OwnedFd, format: DiskFormat) -> Result<Layer, Error> {
        let known = formats::of_xml(format).and_then(formats::to_config);
        let format =
            known.ok_or_else(|| self.refused(&format!("nothing is written in format {format}")))?;
        let file: Fd = self.opener.table.add(file);
        Ok(Layer { format, file, data_file: None, extents: Vec::new() })
    }

    fn copy(
        &mut self,
        path: &Path,
        format: Option<&str>,
        shallow: bool,
        reuse: bool,
    ) -> Result<Planned, Error> {
        if !path.is_absolute() {
            return Err(self.refused(&format!("{} is no absolute path", path.display())));
        }
        let format = match format {
            Some(name) => {
                name.parse::<Format>().map_err(|error| self.refused(&error.to_string()))?
            }
            None => formats::of_xml(self.nodes[0].format).unwrap_or(Format::Raw),
        };
        let in_xml = formats::to_xml(format);
        let in_xml =
            in_xml.ok_or_else(|| self.refused(&format!("no disk can be in format {format}")))?;
        let shallow = shallow && self.nodes.len() > 1;
        if shallow && format != Format::Qcow2 {
            return Err(self.refused("a shallow copy has something below it: only qcow2 can"));
        }
        let made = (!reuse).then(|| path.to_owned());
        if !reuse {
            self.create(path, format, shallow)?;
        }
        let opened = self.opener.image(path, false, self.is_direct(), Sharing::Exclusive);
        let layer = match opened.and_then(|file| self.layer(file, in_xml)) {
            Ok(layer) => layer,
            Err(error) => {
                if !reuse {
                    // Nobody has it yet; one that stays is said to be there the next time.
                    let _ = self.opener.broker.remove_saved(path);
                }
                return Err(error);
            }
        };
        let mut target = vec![SwapLayer::New(layer)];
        let mut after = vec![ChainNode::new(path, in_xml, None)];
        if shallow {
            target.extend((1..self.nodes.len()).map(|node| SwapLayer::Kept(layer_number(node))));
            after.extend(self.nodes[1..].iter().cloned());
        }
        let work = BlockWork::Copy { target, shallow, blank: !reuse };
        Ok((work, after, Vec::new(), made))
    }

    /// A new image as large as the disk.
    fn create(&mut self, path: &Path, format: Format, shallow: bool) -> Result<(), Error> {
        let size = self.size()?;
        let new = match format {
            Format::Raw => NewImage::Raw,
            Format::Qcow2 => {
                let mut options = CreateOptions::new(size);
                if shallow {
                    let Backing { name, format } = backing(&self.nodes[1])?;
                    options.backing = Some(Reference { name, format: Some(format) });
                }
                NewImage::Qcow2(options)
            }
            other => return Err(self.refused(&format!("no copy is made in format {other}"))),
        };
        let act = SavedAct::Create { path: path.to_owned(), in_new_dir: false };
        let file = self.opener.broker.saved_file(act)?;
        let made = FileStorage::new(File::from(file))
            .map_err(|source| image::ImageError::Io { act: "cannot use the image", source })
            .and_then(|storage| new.create(&storage, size));
        made.map_err(|error| {
            let _ = self.opener.broker.remove_saved(path);
            let text = format!("cannot make image {}: {}", path.display(), error.in_full());
            Error::new(Code::HostFailure, text)
        })
    }

    /// Bytes of the disk.
    fn size(&mut self) -> Result<u64, Error> {
        let path = self.nodes[0].path().cloned();
        let path = path.ok_or_else(|| self.refused("its image is no file"))?;
        let file = self.opener.disk_image(self.disk, &path, true, false, Sharing::Again)?;
        let format = formats::of_xml(self.nodes[0].format).unwrap_or(Format::Raw);
        if format == Format::Raw {
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0));
            return end.map_err(|errno| {
                let text = format!("cannot look at image {}", path.display());
                Error::new(Code::HostFailure, text).with_source(std::io::Error::from(errno))
            });
        }
        let answer = self.opener.broker.inspect(format.name(), file.as_fd())?;
        match serde_json::from_slice(&answer) {
            Ok(Inspected::Image(description)) => Ok(description.size),
            Ok(Inspected::Refused(reason)) => Err(self.refused(&reason)),
            Err(error) => {
                Err(Error::new(Code::Internal, "a header was read to no sense").with_source(error))
            }
        }
    }
}

/// A chain has 200 images at most.
fn layer_number(node: usize) -> u16 {
    u16::try_from(node).unwrap_or(u16::MAX)
}

fn backing(node: &ChainNode) -> Result<Backing, Error> {
    let name = node.path().and_then(|path| path.to_str());
    let name = name.ok_or_else(|| {
        Error::new(Code::Unsupported, "the name of an image of the disk cannot stand in another")
    })?;
    let format = formats::of_xml(node.format).unwrap_or(Format::Raw);
    Ok(Backing { name: name.to_owned(), format: format.name().to_owned() })
}
