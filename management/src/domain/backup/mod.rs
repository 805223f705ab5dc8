//! Backups of a running domain, and checkpoints also of one that is off.
//!
//! ```text
//! XML ─▶ plan: disks, files, since when ─▶ files open ─▶ checkpoint written down ─▶ VMM: this moment
//!                                                                                      │
//!            job: looks at the VMM until it is done, fails, or is aborted ◀────────────┘
//! ```
//! What was asked for is written down before the VMM is told: a daemon that comes later looks on. Scratch
//! files have no name once they are open, so none is ever left behind.

mod chain;
mod checkpoint;
mod offline;
mod plan;
mod record;
mod watch;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use broker::{Broker, SavedAct};
use vmm_protocol::backup::{BackupBegin, BackupDisk, BackupTarget, BitmapChange, BitmapStatus};
use vmm_protocol::config::{Fd, ImageFormat};
use vmm_protocol::control::{MAX_FILES, Reply, Request};
use xml::backup::{BackupServer, BackupTransport};
use xml::{BackupDef, CheckpointDef, DomainDef};

use self::offline::Images;
use self::plan::{Plan, PlannedDisk};
use self::record::BackupRecord;
use super::actor::{Actor, Link, blocking, vmm_error};
use crate::checkpoints::Checkpoint;
use crate::error::{Code, Error};
use crate::translate;

pub(crate) use checkpoint::{CheckpointChange, checkpoint_xml, describe};
pub use checkpoint::{CheckpointView, Children};
pub(crate) use watch::{backup_xml, watch};

/// What is to be backed up.
#[derive(Debug)]
pub(crate) struct NewBackup {
    pub def: BackupDef,
    /// Made at the same moment.
    pub checkpoint: Option<CheckpointDef>,
    /// Targets are there already.
    pub reuse: bool,
}

impl Actor {
    pub(super) async fn begin_backup(&mut self, backup: NewBackup) -> Result<(), Error> {
        let def = translate::with_aliases(&self.running()?.live.def);
        if BackupRecord::read(&self.node.run_dir(self.uuid)).is_some() {
            let text = format!("domain {:?} is being backed up already", self.name);
            return Err(Error::new(Code::Busy, text));
        }
        let chain = self.chain().await?;
        let now = jiff::Timestamp::now().as_second();
        let mut plan = Plan::of(backup.def, &def, &chain, now)?;
        plan.reuse = backup.reuse;
        let mut longer = None;
        let mut bitmaps = Vec::new();
        if let Some(wanted) = backup.checkpoint {
            let new = chain::new(wanted, &def, &chain, now)?;
            bitmaps = chain::begin(&new, &def, &chain, &self.bitmaps().await?)?;
            longer = Some([chain.clone(), vec![new]].concat());
        }
        let node = self.node.clone();
        let opened = blocking(move || Files::open(&*node.broker, plan)).await?;
        if let Some(chain) = &longer
            && let Err(error) = self.keep_chain(chain.clone()).await
        {
            self.undo(opened.made).await;
            return Err(error);
        }
        let record = BackupRecord { xml: opened.plan.def.to_xml(), made: opened.made.clone() };
        if let Err(error) = record.write(&self.node.run_dir(self.uuid)) {
            self.undo(opened.made).await;
            return Err(error);
        }
        let Files { disks, listener, files, made, .. } = opened;
        let begin = BackupBegin { disks, listener, bitmaps };
        let told = self.tell_with(Request::BackupBegin(Box::new(begin)), files).await;
        // Of one that does not answer nobody knows whether it has done it.
        if let Err(error) = &told
            && !matches!(error.code, Code::Timeout | Code::VmmUnreachable)
        {
            if longer.is_some() {
                self.keep_chain(chain).await?;
            }
            self.undo(made).await;
            BackupRecord::remove(&self.node.run_dir(self.uuid));
        }
        told
    }

    /// Files of a backup that came to nothing.
    async fn undo(&self, made: Vec<PathBuf>) {
        let node = self.node.clone();
        let undone = blocking(move || {
            remove(&*node.broker, &made);
            Ok(())
        });
        let _ = undone.await;
    }

    pub(super) async fn chain(&self) -> Result<Vec<Checkpoint>, Error> {
        let (node, uuid) = (self.node.clone(), self.uuid);
        blocking(move || node.checkpoints.read(uuid)).await
    }

    pub(super) async fn keep_chain(&self, chain: Vec<Checkpoint>) -> Result<(), Error> {
        let (node, uuid) = (self.node.clone(), self.uuid);
        blocking(move || node.checkpoints.write(uuid, &chain)).await
    }

    pub(super) async fn bitmaps(&self) -> Result<Vec<BitmapStatus>, Error> {
        if self.run.is_none() {
            let (node, images) = (self.node.clone(), self.images_of_bitmaps()?);
            return blocking(move || images.list(&*node.broker)).await;
        }
        let Link::Up { vmm, .. } = &self.running()?.link else { return Err(self.unreachable()) };
        match vmm.ask(Request::ListBitmaps, watch::TOLD).await {
            Ok(Reply::Bitmaps(bitmaps)) => Ok(bitmaps),
            Ok(_) => Err(self.unreachable()),
            Err(error) => Err(vmm_error(&self.name, error)),
        }
    }

    /// By the VMM that has them, else in the images.
    pub(super) async fn change_bitmaps(&mut self, changes: Vec<BitmapChange>) -> Result<(), Error> {
        if self.run.is_some() {
            return self.tell(Request::ChangeBitmaps { changes }).await;
        }
        let (node, images) = (self.node.clone(), self.images_of_bitmaps()?);
        blocking(move || images.change(&*node.broker, &changes)).await
    }

    /// Of a domain that is off.
    fn images_of_bitmaps(&self) -> Result<Images, Error> {
        if self.managed_save {
            let text = format!(
                "domain {:?} has a saved state, which its disks belong to as they are; start it, or \
                 drop that state (managedsave-remove)",
                self.name
            );
            return Err(Error::new(Code::InvalidState, text));
        }
        let pools: Vec<_> = self.node.pools.views();
        let pools: Vec<_> = pools.into_iter().filter(|pool| pool.active).collect();
        Ok(Images::of(&self.recorded_def()?, &pools))
    }

    /// With the disks whose writes are recorded: as the domain runs, or is to start.
    fn recorded_def(&self) -> Result<DomainDef, Error> {
        match &self.run {
            Some(run) => Ok(translate::with_aliases(&run.live.def)),
            None => Ok(translate::with_aliases(&self.stored("it has no checkpoints")?.def)),
        }
    }

    /// The VMM is gone, and a backup with it: targets that hold nothing whole are removed.
    pub(super) async fn end_backup(&self) {
        let dir = self.node.run_dir(self.uuid);
        if let Some(record) = BackupRecord::read(&dir) {
            tracing::warn!(domain = self.name, "the guest ended, and its backup with it");
            self.undo(record.made).await;
            BackupRecord::remove(&dir);
        }
    }

    /// A backup that an earlier daemon began is watched on.
    pub(super) async fn settle_backup(&self) {
        let Some(Link::Up { vmm, .. }) = self.run.as_ref().map(|run| &run.link) else { return };
        let dir = self.node.run_dir(self.uuid);
        let Some(record) = BackupRecord::read(&dir) else { return };
        if matches!(vmm.ask(Request::BackupStatus, watch::TOLD).await, Ok(Reply::Backup(None))) {
            // It was written down, and the VMM was not told.
            self.undo(record.made).await;
            return BackupRecord::remove(&dir);
        }
        let (node, name, vmm) = (self.node.clone(), self.name.clone(), vmm.clone());
        if let Err(error) = watch(node, name, dir, vmm).await {
            tracing::error!(domain = self.name, error = %error.chain(), "a backup is not watched");
        }
    }
}

/// Everything that a plan names, open.
struct Files {
    plan: Plan,
    disks: Vec<BackupDisk>,
    listener: Option<Fd>,
    files: Vec<OwnedFd>,
    made: Vec<PathBuf>,
}

impl Files {
    fn open(broker: &dyn Broker, plan: Plan) -> Result<Self, Error> {
        let mut all =
            Self { plan, disks: Vec::new(), listener: None, files: Vec::new(), made: Vec::new() };
        let opened = all.open_all(broker);
        if opened.is_err() {
            remove(broker, &all.made);
        }
        opened.map(|()| all)
    }

    fn open_all(&mut self, broker: &dyn Broker) -> Result<(), Error> {
        if self.plan.disks.len() * 2 + 1 > MAX_FILES {
            let text = format!("a backup is of at most {} disks at once", (MAX_FILES - 1) / 2);
            return Err(Error::new(Code::Unsupported, text));
        }
        let pull = self.plan.def.is_pull();
        if let Some(server) = self.plan.def.server.clone() {
            let listener = listen(broker, &server)?;
            self.listener = Some(self.add(listener));
        }
        for disk in self.plan.disks.clone() {
            let given = pull && self.plan.reuse;
            let scratch = scratch(broker, &disk, given)?;
            let scratch = self.add(scratch);
            let target = if pull { None } else { Some(self.target(broker, &disk)?) };
            self.disks.push(BackupDisk {
                id: disk.alias,
                scratch,
                since: disk.since,
                export: disk.export,
                exported_bitmap: disk.exported_bitmap,
                target,
            });
        }
        Ok(())
    }

    fn add(&mut self, file: OwnedFd) -> Fd {
        self.files.push(file);
        // Fewer than MAX_FILES.
        Fd(i32::try_from(self.files.len() - 1).unwrap_or(i32::MAX))
    }

    fn target(&mut self, broker: &dyn Broker, disk: &PlannedDisk) -> Result<BackupTarget, Error> {
        let path = &disk.file;
        let opened = if self.plan.reuse || disk.block {
            broker.open_image(path, false, false, broker::Sharing::Exclusive)
        } else {
            let act = SavedAct::Create { path: path.clone(), in_new_dir: false };
            broker.saved_file(act).inspect(|_| self.made.push(path.clone()))
        };
        let file = opened.map_err(|error| unusable("target", disk, error))?;
        let format = if disk.qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw };
        Ok(BackupTarget { format, file: self.add(file) })
    }
}

fn unusable(what: &str, disk: &PlannedDisk, error: broker::BrokerError) -> Error {
    let text = format!("disk {}: the backup's {what} cannot be used", disk.target);
    Error::new(Code::ResourceMissing, text).with_source(error)
}

/// An empty file: of our own it has no name when it is open, and a given one keeps its name.
fn scratch(broker: &dyn Broker, disk: &PlannedDisk, given: bool) -> Result<OwnedFd, Error> {
    let path = disk.scratch.clone();
    if given {
        let file = broker.saved_file(SavedAct::Open { path });
        let file = file.map_err(|error| unusable("scratch file", disk, error))?;
        return rustix::fs::ftruncate(&file, 0).map(|()| file).map_err(|errno| {
            let text = format!("disk {}: the backup's scratch file cannot be emptied", disk.target);
            Error::new(Code::HostFailure, text).with_source(std::io::Error::from(errno))
        });
    }
    let act = SavedAct::Create { path: path.clone(), in_new_dir: false };
    let file = broker.saved_file(act).map_err(|error| unusable("scratch file", disk, error))?;
    broker.remove_saved(&path).map_err(|error| unusable("scratch file", disk, error))?;
    Ok(file)
}

fn listen(broker: &dyn Broker, server: &BackupServer) -> Result<OwnedFd, Error> {
    const NBD_PORT: u16 = 10809;
    if server.transport == Some(BackupTransport::Unix) {
        let path = server.socket.clone().unwrap_or_default();
        return Ok(broker.listen(&path)?);
    }
    let name = server.name.as_deref().unwrap_or_default();
    let address = if name == "localhost" { Ok([127, 0, 0, 1].into()) } else { name.parse() };
    let address = address.map_err(|_| {
        let text =
            format!("<server name={name:?}> is no address of this host: write it as numbers");
        Error::new(Code::InvalidXml, text)
    })?;
    let port = server.port.unwrap_or(NBD_PORT);
    Ok(broker.listen_tcp(address, port..=port)?.0)
}

fn remove(broker: &dyn Broker, made: &[PathBuf]) {
    for path in made {
        if let Err(error) = broker.remove_saved(path) {
            tracing::error!(path = %path.display(), %error, "a useless file is left");
        }
    }
}

/// For those who have only the node.
pub(super) type Shared = Arc<crate::registry::Node>;
