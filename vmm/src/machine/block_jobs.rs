//! Block jobs of the machine's disks: begun, and brought to one of their ends.
//!
//! ```text
//! pull, commit:         copying ─▶ copied: the link below is changed, and the chain is shorter
//! active commit, copy:  copying ─▶ ready ─ pivot ─▶ the guest uses the copy, in files or on a server
//! all:                  cancelled, or an image fails ─▶ the disk is made of what it was made of
//! ```
//! Whatever the moment at which the process ends: the chain on disk is whole. A link changes in one
//! write, after everything that it leaves out is durable where it leads.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use devices::backend::{Disk, DiskAsImage};
use image::mirror::{Copier, Mirror, Wanted};
use image::qcow2::relink;
use image::{Image, ImageError, Reference};
use vmm_protocol::block_job::{Backing, BlockJob, BlockJobPhase, BlockJobStatus, BlockWork};
use vmm_protocol::control::SwapLayer;

use super::{Machine, MachineError, SwapError};
use crate::build::{BuildError, Images, Layer, Prepared};
use crate::process::{Files, chain};

#[derive(Debug, thiserror::Error)]
pub enum BlockJobError {
    #[error("there is no disk {id:?} that is made of image files")]
    NoDisk { id: String },
    #[error("disk {id:?} has a block job; wait for its end, or abort it")]
    Busy { id: String },
    #[error("disk {id:?} has no block job")]
    NoJob { id: String },
    #[error("the block job of disk {id:?} is not ready: its copy is not the same yet")]
    NotReady { id: String },
    #[error("the block job of disk {id:?} has not ended")]
    NotEnded { id: String },
    #[error("a block job of disk {id:?} cannot be so: {reason}")]
    Impossible { id: String, reason: &'static str },
    #[error("disk {id:?} cannot be copied")]
    Image { id: String, source: io::Error },
    #[error("what lies below an image of disk {id:?} cannot be changed")]
    Link { id: String, source: ImageError },
    #[error(transparent)]
    Swap(#[from] SwapError),
}

impl From<MachineError> for BlockJobError {
    fn from(error: MachineError) -> Self {
        Self::Swap(error.into())
    }
}

impl From<BuildError> for BlockJobError {
    fn from(error: BuildError) -> Self {
        Self::Swap(error.into())
    }
}

/// All jobs of a machine, by their disks.
pub(super) type Jobs = BTreeMap<String, Job>;

pub(super) struct Job {
    status: BlockJobStatus,
    /// None: it has ended.
    live: Option<Live>,
}

struct Live {
    mirror: Option<Arc<Mirror>>,
    /// What the guest's requests go to when the job is gone; none: they were never led elsewhere.
    source: Option<Arc<dyn Image>>,
    plan: Plan,
}

/// What is done when all is copied.
enum Plan {
    Pull {
        after: Vec<Layer>,
        backing: Option<Reference>,
    },
    Commit {
        into: Arc<dyn Image>,
        overlay: Layer,
        after: Vec<Layer>,
        backing: Reference,
    },
    Pivot {
        target: Arc<dyn Image>,
        after: Vec<Layer>,
    },
    /// The same, to a server.
    Move {
        target: Arc<dyn Image>,
        disk: Arc<dyn Disk>,
    },
}

/// What comes with a job.
enum New {
    Files(Vec<Layer>),
    Server(Arc<dyn Disk>),
}

struct Begun {
    copier: Copier,
    mirror: Option<Arc<Mirror>>,
    source: Option<Arc<dyn Image>>,
    plan: Plan,
}

impl Machine {
    /// Begin a block job. Descriptors are numbers of `files`.
    ///
    /// # Errors
    /// When the disk has one already, or cannot have this one; nothing has changed then.
    pub fn start_block_job(
        &mut self,
        job: BlockJob,
        mut files: Files,
    ) -> Result<(), BlockJobError> {
        let BlockJob { id, bandwidth, work } = job;
        if self.jobs.get(&id).is_some_and(|job| job.live.is_some()) {
            return Err(BlockJobError::Busy { id });
        }
        if self.parts.backups.reads(&id) {
            return Err(SwapError::BackedUp { id }.into());
        }
        let images = self.parts.images.get(&id);
        let there =
            images.ok_or_else(|| BlockJobError::NoDisk { id: id.clone() })?.layers().to_vec();
        let new = match &work {
            BlockWork::CopyToServer { server } => {
                let (vm, parts) = (&self.vm, &mut self.parts);
                New::Server(self.ground.server(&id, server, &mut files, vm, parts)?)
            }
            _ => New::Files(self.new_layers(&id, &work, &there, &mut files)?),
        };
        let kind = work.kind();
        let disks = [id.clone()];
        let begun = self.while_still(disks.iter().map(|id| &**id), |machine| match new {
            New::Files(new) => machine.begin(&id, work, there, new),
            New::Server(server) => machine.begin_to_server(&id, server),
        });
        if begun.is_err() {
            self.forget_server(&id);
        }
        let Begun { copier, mirror, source, plan } = begun?;
        let (done, total) = copier.progress();
        let phase = BlockJobPhase::Running;
        let status = BlockJobStatus { id: id.clone(), kind, phase, done, total, bandwidth };
        self.jobs.insert(id.clone(), Job { status, live: Some(Live { mirror, source, plan }) });
        self.parts.block_jobs.start(&id, copier, bandwidth);
        Ok(())
    }

    /// The images that came with a job, in the order in which it names them.
    fn new_layers(
        &mut self,
        id: &str,
        work: &BlockWork,
        there: &[Layer],
        files: &mut Files,
    ) -> Result<Vec<Layer>, BlockJobError> {
        let wanted: Vec<SwapLayer> = match work {
            BlockWork::Pull { .. } | BlockWork::CopyToServer { .. } => Vec::new(),
            BlockWork::Commit { into, overlay, .. } => {
                let all = [Some(into), overlay.as_ref()].into_iter().flatten();
                all.cloned().map(SwapLayer::New).collect()
            }
            BlockWork::ActiveCommit { into, .. } => vec![SwapLayer::New(into.clone())],
            BlockWork::Copy { target, .. } => target.clone(),
        };
        Ok(self.layers(id, &wanted, there, files)?)
    }

    /// With the disk still: open what is copied to, and lead the guest's writes past the job.
    fn begin(
        &mut self,
        id: &str,
        work: BlockWork,
        there: Vec<Layer>,
        mut new: Vec<Layer>,
    ) -> Result<Begun, BlockJobError> {
        let no = |reason| BlockJobError::Impossible { id: id.to_owned(), reason };
        let inbox = self.inbox.clone();
        let hear = move || inbox.ring();
        let images = self.parts.images.get_mut(id).ok_or_else(|| no("it is gone"))?;
        if images.is_read_only() {
            return Err(no("the guest only reads the disk"));
        }
        let place = |layer: u16, least: usize| {
            let layer = usize::from(layer);
            let good = (least..there.len()).contains(&layer);
            good.then_some(layer).ok_or_else(|| no("it has no such image"))
        };
        match work {
            BlockWork::Pull { base, backing } => {
                if !there.first().is_some_and(Layer::may_be_linked) || there.len() < 2 {
                    return Err(no("nothing lies below the image that the guest uses"));
                }
                let base = base.map(|base| place(base, 1)).transpose()?;
                let end = base.unwrap_or(there.len());
                let source = images.source()?;
                let mirror = Arc::new(Mirror::new(source.clone(), None, hear));
                let wanted = Wanted { depths: 1..depth(end), blank: base.is_none() };
                let copier =
                    Copier::new(source.clone(), source.clone(), Some(mirror.clone()), wanted);
                images.lead_past(mirror.clone())?;
                let after = there.iter().take(1).chain(there.iter().skip(end)).cloned().collect();
                let plan = Plan::Pull { after, backing: backing.map(reference) };
                Ok(Begun { copier, mirror: Some(mirror), source: Some(source), plan })
            }
            BlockWork::Commit { top, base, overlay, backing, .. } => {
                let (top, base) = (place(top, 1)?, place(base, 2)?);
                if top >= base {
                    return Err(no("the base does not lie below the top"));
                }
                let written = new.remove(0);
                let above = match (overlay, top) {
                    (None, 1) => there[0].clone(),
                    (Some(_), 2..) => new.remove(0),
                    _ => return Err(no("the image above the top is the guest's, or is given")),
                };
                if !above.may_be_linked() {
                    return Err(no("the image above the top has no link that could be changed"));
                }
                let from = images.chain(&there[top..], true)?;
                let into = committed(images, written, &there, base, from.size())?;
                let wanted = Wanted { depths: 0..depth(base - top), blank: false };
                let copier = Copier::new(from, into.0.clone(), None, wanted);
                let after = there[..top].iter().chain(&there[base..]).cloned().collect();
                let backing = reference(backing);
                let plan = Plan::Commit { into: into.0, overlay: above, after, backing };
                Ok(Begun { copier, mirror: None, source: None, plan })
            }
            BlockWork::ActiveCommit { base, .. } => {
                let base = place(base, 1)?;
                let source = images.source()?;
                let written = new.remove(0);
                let into = committed(images, written, &there, base, source.size())?;
                let (target, lowest) = into;
                let wanted = Wanted { depths: 0..depth(base), blank: false };
                let after = [lowest].into_iter().chain(there[base + 1..].iter().cloned()).collect();
                let plan = Plan::Pivot { target: target.clone(), after };
                mirrored(images, source, target, plan, wanted, hear)
            }
            BlockWork::Copy { shallow, blank, .. } => {
                let source = images.source()?;
                let target = images.chain(&new, false)?;
                if target.size() != source.size() {
                    return Err(no("the target has another size than the disk"));
                }
                let depths = 0..if shallow { 1 } else { u32::MAX };
                let plan = Plan::Pivot { target: target.clone(), after: new };
                mirrored(images, source, target, plan, Wanted { depths, blank }, hear)
            }
            BlockWork::CopyToServer { .. } => Err(no("a server is no file")),
        }
    }

    /// The same for a copy of all onto `server`.
    fn begin_to_server(&mut self, id: &str, server: Arc<dyn Disk>) -> Result<Begun, BlockJobError> {
        let no = |reason| BlockJobError::Impossible { id: id.to_owned(), reason };
        let inbox = self.inbox.clone();
        let images = self.parts.images.get_mut(id).ok_or_else(|| no("it is gone"))?;
        if images.is_read_only() {
            return Err(no("the guest only reads the disk"));
        }
        let source = images.source()?;
        let target = DiskAsImage::new(server.clone());
        let target = target.map_err(|source| BlockJobError::Image { id: id.to_owned(), source })?;
        if target.size() != source.size() {
            return Err(no("the server's export has another size than the disk"));
        }
        let target: Arc<dyn Image> = Arc::new(target);
        let plan = Plan::Move { target: target.clone(), disk: server };
        let wanted = Wanted { depths: 0..u32::MAX, blank: false };
        mirrored(images, source, target, plan, wanted, move || inbox.ring())
    }

    /// Nobody wants connections to a server on which the disk is not.
    fn forget_server(&mut self, id: &str) {
        if self.parts.images.get(id).is_some_and(|images| !images.layers().is_empty()) {
            self.parts.connectors.remove(id);
            self.parts.connected.remove(id);
        }
    }

    /// What has ended on its own is brought to its end; those that changed come back.
    pub fn advance_block_jobs(&mut self) -> Vec<BlockJobStatus> {
        let mut ended = self.parts.block_jobs.take_ended();
        // Copies that were ready, and have fallen behind.
        for (id, job) in &self.jobs {
            let mirror = job.live.as_ref().and_then(|live| live.mirror.as_ref());
            let behind = mirror.is_some_and(|mirror| mirror.is_broken());
            if behind && job.status.phase == BlockJobPhase::Ready {
                let error = mirror.and_then(|mirror| mirror.take_failure());
                let error = error.unwrap_or_else(|| io::Error::other("the copy fell behind"));
                ended.push((id.clone(), Err(error)));
            }
        }
        ended.into_iter().filter_map(|(id, result)| self.advance(&id, result)).collect()
    }

    fn advance(&mut self, id: &str, result: io::Result<()>) -> Option<BlockJobStatus> {
        let job = self.jobs.get_mut(id)?;
        let pivots = matches!(job.live.as_ref()?.plan, Plan::Pivot { .. } | Plan::Move { .. });
        match result {
            Ok(()) if pivots => {
                job.status.phase = BlockJobPhase::Ready;
                (job.status.done, job.status.total) = (job.status.total, job.status.total);
                Some(job.status.clone())
            }
            Ok(()) => {
                let phase = match self.finish(id) {
                    Ok(()) => BlockJobPhase::Completed,
                    Err(error) => self.give_up(id, chain(&error)),
                };
                self.ended(id, phase)
            }
            Err(error) => {
                let source = BlockJobError::Image { id: id.to_owned(), source: error };
                let phase = self.give_up(id, chain(&source));
                self.ended(id, phase)
            }
        }
    }

    fn give_up(&mut self, id: &str, error: String) -> BlockJobPhase {
        tracing::warn!(disk = id, error, "a block job failed");
        if let Err(error) = self.lead_back(id) {
            tracing::error!(
                disk = id,
                error = chain(&error),
                "a failed block job stays in the way"
            );
        }
        BlockJobPhase::Failed { error }
    }

    fn ended(&mut self, id: &str, phase: BlockJobPhase) -> Option<BlockJobStatus> {
        self.read_progress(id);
        self.parts.block_jobs.stop(id);
        let job = self.jobs.get_mut(id)?;
        if phase == BlockJobPhase::Completed {
            job.status.done = job.status.total;
        }
        job.status.phase = phase;
        job.live = None;
        let status = job.status.clone();
        self.forget_server(id);
        Some(status)
    }

    /// End the block job of disk `id`: what became of it comes back.
    ///
    /// # Errors
    /// When it has none, or is to pivot and is not ready; it goes on then.
    pub fn end_block_job(
        &mut self,
        id: &str,
        pivot: bool,
    ) -> Result<BlockJobStatus, BlockJobError> {
        let none = || BlockJobError::NoJob { id: id.to_owned() };
        let job = self.jobs.get(id).filter(|job| job.live.is_some()).ok_or_else(none)?;
        if pivot && job.status.phase != BlockJobPhase::Ready {
            return Err(BlockJobError::NotReady { id: id.to_owned() });
        }
        let phase = if pivot {
            self.finish(id)?;
            BlockJobPhase::Completed
        } else {
            self.read_progress(id);
            self.parts.block_jobs.stop(id);
            self.lead_back(id)?;
            BlockJobPhase::Cancelled
        };
        self.ended(id, phase).ok_or_else(none)
    }

    /// The disk is made of what it was made of, without the job.
    fn lead_back(&mut self, id: &str) -> Result<(), BlockJobError> {
        let disks = [id.to_owned()];
        let live = self.jobs.get(id).and_then(|job| job.live.as_ref());
        let Some(source) = live.and_then(|live| live.source.clone()) else { return Ok(()) };
        self.while_still(disks.iter().map(|id| &**id), |machine| {
            if let Some(images) = machine.parts.images.get_mut(id) {
                images.lead_back(source)?;
            }
            Ok(())
        })
    }

    /// All is copied: the disk is made of what it is to be made of.
    fn finish(&mut self, id: &str) -> Result<(), BlockJobError> {
        let disks = [id.to_owned()];
        self.while_still(disks.iter().map(|id| &**id), |machine| {
            let gone = || BlockJobError::NoJob { id: id.to_owned() };
            let live = machine.jobs.get(id).and_then(|job| job.live.as_ref()).ok_or_else(gone)?;
            let images = machine.parts.images.get_mut(id).ok_or_else(gone)?;
            let io = |source| BlockJobError::Image { id: id.to_owned(), source };
            let link = |source| BlockJobError::Link { id: id.to_owned(), source };
            let prepared = match &live.plan {
                Plan::Pull { after, backing } => {
                    let top = after.first().ok_or_else(gone)?;
                    images.flush().map_err(io)?;
                    linked(top, backing.as_ref(), || images.prepare(after.clone()))
                        .map_err(link)??
                }
                Plan::Commit { into, overlay, after, backing } => {
                    into.flush().map_err(io)?;
                    images.flush().map_err(io)?;
                    linked(overlay, Some(backing), || images.prepare(after.clone()))
                        .map_err(link)??
                }
                Plan::Pivot { target, after } => {
                    target.flush().map_err(io)?;
                    let mirror = live.mirror.as_ref();
                    if let Some(error) = mirror.and_then(|mirror| mirror.take_failure()) {
                        return Err(io(error));
                    }
                    images.prepare_open(target.clone(), after.clone())?
                }
                Plan::Move { target, disk } => {
                    target.flush().map_err(io)?;
                    let mirror = live.mirror.as_ref();
                    if let Some(error) = mirror.and_then(|mirror| mirror.take_failure()) {
                        return Err(io(error));
                    }
                    Images::prepare_server(disk.clone())
                }
            };
            images.put(prepared);
            images.tell_writing();
            Ok(())
        })
    }

    /// Whether a disk has a block job that has not ended.
    pub fn has_block_job(&self, id: Option<&str>) -> bool {
        let mut jobs = self.jobs.iter().filter(|(_, job)| job.live.is_some());
        jobs.any(|(disk, _)| id.is_none_or(|id| id == disk))
    }

    fn read_progress(&mut self, id: &str) {
        let progress = self.parts.block_jobs.progress(id);
        if let (Some(job), Some(((done, total), bandwidth))) = (self.jobs.get_mut(id), progress)
            && job.status.phase == BlockJobPhase::Running
        {
            let status = &mut job.status;
            (status.done, status.total, status.bandwidth) = (done, total, bandwidth);
        }
    }

    pub fn block_jobs(&mut self) -> Vec<BlockJobStatus> {
        let all: Vec<String> = self.jobs.keys().cloned().collect();
        all.iter().for_each(|id| self.read_progress(id));
        self.jobs.values().map(|job| job.status.clone()).collect()
    }

    /// # Errors
    /// When the disk has no job.
    pub fn limit_block_job(&mut self, id: &str, bandwidth: u64) -> Result<(), BlockJobError> {
        let job = self.jobs.get_mut(id).filter(|job| job.live.is_some());
        let job = job.ok_or_else(|| BlockJobError::NoJob { id: id.to_owned() })?;
        job.status.bandwidth = bandwidth;
        self.parts.block_jobs.limit(id, bandwidth);
        Ok(())
    }

    /// # Errors
    /// When the disk has no job, or one that has not ended.
    pub fn dismiss_block_job(&mut self, id: &str) -> Result<(), BlockJobError> {
        if self.has_block_job(Some(id)) {
            return Err(BlockJobError::NotEnded { id: id.to_owned() });
        }
        let dismissed = self.jobs.remove(id).map(drop);
        dismissed.ok_or_else(|| BlockJobError::NoJob { id: id.to_owned() })
    }

    /// Disk `id` goes, and whatever was done with it.
    pub(super) fn forget_block_job(&mut self, id: &str) {
        self.parts.block_jobs.stop(id);
        if let Some(job) = self.jobs.get_mut(id)
            && job.live.take().is_some()
        {
            job.status.phase = BlockJobPhase::Cancelled;
        }
    }
}

/// The base of a commit, open for writing, with what lies below it; and its files.
fn committed(
    images: &Images,
    given: Layer,
    there: &[Layer],
    base: usize,
    size: u64,
) -> Result<(Arc<dyn Image>, Layer), BuildError> {
    // A base that was the guest's own image once is open for writing already.
    let own = &there[base];
    let lowest = if own.is_writable() { own.clone() } else { given };
    lowest.tell_writing(true);
    let below = there[base + 1..].iter().cloned();
    let chain: Vec<Layer> = [lowest.clone()].into_iter().chain(below).collect();
    let into = images.chain(&chain, false)?;
    if into.size() < size {
        images.grow(&*into, size)?;
    }
    Ok((into, lowest))
}

fn mirrored(
    images: &mut Images,
    source: Arc<dyn Image>,
    target: Arc<dyn Image>,
    plan: Plan,
    wanted: Wanted,
    hear: impl Fn() + Send + Sync + 'static,
) -> Result<Begun, BlockJobError> {
    let mirror = Arc::new(Mirror::new(source.clone(), Some(target.clone()), hear));
    let copier = Copier::new(source.clone(), target, Some(mirror.clone()), wanted);
    images.lead_past(mirror.clone())?;
    Ok(Begun { copier, mirror: Some(mirror), source: Some(source), plan })
}

/// Change what lies below `layer`, and back again if what follows from it cannot be.
fn linked(
    layer: &Layer,
    backing: Option<&Reference>,
    then: impl FnOnce() -> Result<Prepared, BuildError>,
) -> Result<Result<Prepared, BuildError>, ImageError> {
    let before = layer.describe()?.backing;
    relink(layer.file(), backing)?;
    let result = then();
    if result.is_err() {
        relink(layer.file(), before.as_ref())?;
    }
    Ok(result)
}

fn reference(backing: Backing) -> Reference {
    Reference { name: backing.name, format: Some(backing.format) }
}

/// A chain has 200 images at most.
fn depth(layers: usize) -> u32 {
    u32::try_from(layers).unwrap_or(u32::MAX)
}
