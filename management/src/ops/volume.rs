//! Operations on volumes. What takes long is a job, whose end the caller waits for or not.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use image::copy::Target;

use crate::auth::{Access, Defines, Subject};
use crate::domain::actor::blocking;
use crate::domain::needs::Open;
use crate::error::{Code, Error};
use crate::events::PoolChange;
use crate::jobs::{Job, Progress};
use crate::manager::{Context, Operation};
use crate::storage::{
    Download, NewVolume, Pool, PoolRef, Resize, Share, Upload, VolumeRef, VolumeView,
    WipeAlgorithm, content, make, resize, resize_device, wipe,
};

fn about(volume: &VolumeRef) -> Subject<'_> {
    Subject::Other("volume", format!("{}/{}", volume.pool.0, volume.volume).into())
}

/// The volumes of a pool by name, as they were last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListVolumes {
    pub pool: PoolRef,
}

impl Operation for ListVolumes {
    type Output = Vec<VolumeView>;
    const NAME: &'static str = "volume.list";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        super::pool::about(&self.pool)
    }

    async fn run(self, cx: &Context) -> Result<Vec<VolumeView>, Error> {
        let pool = cx.node.pools.find(&self.pool)?;
        let view = pool.view();
        if !view.active {
            let name = view.name;
            let text = format!("pool {name:?} is not active; start it (pool-start {name})");
            return Err(Error::new(Code::InvalidState, text));
        }
        pool.catch_up().await;
        Ok(pool.volumes())
    }
}

/// A volume as it is now (virStorageVolGetInfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeVolume {
    pub volume: VolumeRef,
}

impl Operation for DescribeVolume {
    type Output = VolumeView;
    const NAME: &'static str = "volume.describe";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<VolumeView, Error> {
        let VolumeRef { pool, volume } = self.volume;
        cx.node.pools.find(&pool)?.run(move |state| state.volume(&volume)).await
    }
}

/// The volume of an active pool that lies at a path (virStorageVolLookupByPath, and ByKey: the key
/// of a file is its path).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindVolume {
    pub path: std::path::PathBuf,
}

impl Operation for FindVolume {
    type Output = VolumeView;
    const NAME: &'static str = "volume.find";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<VolumeView, Error> {
        if let Some(pool) = self.path.parent().and_then(|dir| cx.node.pools.of_dir(dir)) {
            pool.catch_up().await;
        }
        cx.node.pools.volume_at(&self.path).ok_or_else(|| {
            let path = self.path.display();
            Error::new(Code::NotFound, format!("no active pool has a volume at {path}"))
        })
    }
}

/// A volume that was made, or the job that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MadeVolume {
    Made(Box<VolumeView>),
    Making(Box<Job>),
}

/// Make a volume (virStorageVolCreateXML), or fill it from another one (virStorageVolCreateXMLFrom).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateVolume {
    pub pool: PoolRef,
    /// libvirt volume XML.
    pub xml: String,
    pub from: Option<VolumeRef>,
}

impl Operation for CreateVolume {
    type Output = MadeVolume;
    const NAME: &'static str = "volume.create";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Definition(Defines::VolumeOf(&self.pool.0), &self.xml)
    }

    async fn run(self, cx: &Context) -> Result<MadeVolume, Error> {
        let pool = cx.node.pools.find(&self.pool)?;
        let source = match self.from {
            None => None,
            Some(from) => Some(Source::open(cx, from).await?),
        };
        let view = source.as_ref().map(|source| &source.view);
        let new = NewVolume::read(&self.xml, view, &cx.node.pools)?;
        match source {
            None => create(cx, pool, new).await,
            Some(source) => copy(cx, pool, new, source, Share::Try).await,
        }
    }
}

/// How a clone gets its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloneMode {
    /// Shared blocks where the file system can, else a copy.
    #[default]
    Copy,
    /// Shared blocks, or not at all.
    Reflink,
    /// A qcow2 image on top, which the original must not change under.
    Overlay,
}

/// Make a copy of a volume in its pool (vol-clone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneVolume {
    pub volume: VolumeRef,
    pub name: String,
    pub mode: CloneMode,
}

impl Operation for CloneVolume {
    type Output = MadeVolume;
    const NAME: &'static str = "volume.clone";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<MadeVolume, Error> {
        let pool = cx.node.pools.find(&self.volume.pool)?;
        let share = match self.mode {
            CloneMode::Copy => Share::Try,
            CloneMode::Reflink => Share::Must,
            CloneMode::Overlay => {
                let volume = self.volume.volume;
                let view = pool.run(move |state| state.volume(&volume)).await?;
                return create(cx, pool, NewVolume::above(&view, &self.name)?).await;
            }
        };
        let source = Source::open(cx, self.volume).await?;
        let new = NewVolume::like(&source.view, &self.name)?;
        copy(cx, pool, new, source, share).await
    }
}

/// A volume that is read, and that nobody writes to as long as its file is open.
struct Source {
    view: VolumeView,
    file: OwnedFd,
}

impl Source {
    async fn open(cx: &Context, volume: VolumeRef) -> Result<Self, Error> {
        let VolumeRef { pool, volume } = volume;
        let pool = cx.node.pools.find(&pool)?;
        let name = volume.clone();
        let view = pool.run(move |state| state.idle_volume(&name)).await?;
        if let Some(reason) = &view.damaged {
            let text = format!("volume {volume:?} cannot be read: {reason}");
            return Err(Error::new(Code::ResourceMissing, text));
        }
        let (broker, dir) = (cx.node.broker.clone(), pool.view().path);
        let opened = blocking(move || Ok(broker.pool_open(&dir, &volume, false, false)?)).await;
        let file = named(cx, opened, &view).await?;
        Ok(Self { view, file })
    }
}

async fn release(pool: &Pool, volume: String, change: Option<PoolChange>, anew: bool) {
    let name = volume.clone();
    if let Err(error) = pool.release(volume, change, anew).await {
        tracing::warn!(volume = name, error = %error.chain(), "cannot be looked at");
    }
}

async fn create(cx: &Context, pool: Arc<Pool>, new: NewVolume) -> Result<MadeVolume, Error> {
    if pool.now().def.group().is_some() {
        let made = pool.run(move |state| state.make_device(&new)).await?;
        return Ok(MadeVolume::Made(Box::new(made)));
    }
    if new.allocation == 0 {
        let made = pool.run(move |state| make(state, &new)).await?;
        return Ok(MadeVolume::Made(Box::new(made)));
    }
    let total = new.allocation;
    fill(cx, pool, new, "volume-create", total, |file, new, progress| {
        content::allocate(file, new, progress)
    })
    .await
}

async fn copy(
    cx: &Context,
    pool: Arc<Pool>,
    new: NewVolume,
    source: Source,
    share: Share,
) -> Result<MadeVolume, Error> {
    let Source { view, file } = source;
    let (pools, total) = (cx.node.pools.clone(), view.capacity);
    let device = pool.now().def.group().is_some();
    let before = if device { Target::Filled } else { Target::Blank };
    fill(cx, pool, new, "volume-clone", total, move |target, new, progress| {
        content::fill(&pools, (&view, file), target, new, before, share, progress)
    })
    .await
}

/// Make a volume by a job that fills it.
async fn fill(
    cx: &Context,
    pool: Arc<Pool>,
    new: NewVolume,
    kind: &'static str,
    total: u64,
    work: impl FnOnce(&OwnedFd, &NewVolume, &Progress) -> Result<(), Error> + Send + 'static,
) -> Result<MadeVolume, Error> {
    let asked = new.clone();
    let making = pool.run(move |state| state.begin(&asked, "it is being made")).await?;
    let making = Arc::new(making);
    let object = format!("{}/{}", pool.view().name, new.name);
    let (jobs, made, place) = (cx.node.jobs.clone(), making.clone(), pool.clone());
    let started = blocking(move || {
        jobs.start(kind, object, total, move |progress| async move {
            let format = new.format;
            let (held, watched) = (made.clone(), progress.clone());
            let filled = blocking(move || work(&*held.file()?, &new, &watched)).await;
            // Too late to stop once it has its name.
            let filled = filled.and_then(|()| match progress.is_cancelled() {
                true => Err(Error::new(Code::InvalidState, "the job was cancelled")),
                false => Ok(()),
            });
            place
                .run(move |state| match filled {
                    Ok(()) => state.finish(&made, format).map(drop),
                    Err(error) => {
                        state.abandon(&made);
                        Err(error)
                    }
                })
                .await
        })
    });
    match started.await {
        Ok(job) => Ok(MadeVolume::Making(Box::new(job))),
        Err(error) => {
            pool.run(move |state| {
                state.abandon(&making);
                Ok(())
            })
            .await?;
            Err(error)
        }
    }
}

/// A volume that is to be written beside its pool's worker: nobody else has it open.
async fn open_alone(
    cx: &Context,
    volume: VolumeRef,
    work: &'static str,
) -> Result<(Arc<Pool>, VolumeView, OwnedFd), Error> {
    let pool = cx.node.pools.find(&volume.pool)?;
    let view = pool.hold(volume.volume, work).await?;
    let (node, broker) = (cx.node.clone(), cx.node.broker.clone());
    let (dir, name, path) = (pool.view().path, view.name.clone(), view.path.clone());
    let opened = blocking(move || {
        node.may_change(&format!("volume {name:?}"), &path)?;
        Ok(broker.pool_open(&dir, &name, true, false)?)
    });
    let opened = named(cx, opened.await, &view).await;
    match opened {
        Ok(file) => Ok((pool, view, file)),
        Err(error) => {
            release(&pool, view.name, None, false).await;
            Err(error)
        }
    }
}

/// A refusal of a volume that is in use says whose it is.
async fn named<T: Send + 'static>(
    cx: &Context,
    result: Result<T, Error>,
    view: &VolumeView,
) -> Result<T, Error> {
    let error = match result {
        Err(error) if error.code == Code::Locked => error,
        other => return other,
    };
    let (node, view) = (cx.node.clone(), view.clone());
    blocking(move || Err(node.in_use(error, &view))).await
}

/// Remove a volume that nobody would miss (virStorageVolDelete).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteVolume {
    pub volume: VolumeRef,
}

impl Operation for DeleteVolume {
    type Output = ();
    const NAME: &'static str = "volume.delete";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let VolumeRef { pool, volume } = self.volume;
        let pool = cx.node.pools.find(&pool)?;
        let name = volume.clone();
        let view = pool.run(move |state| state.volume(&name)).await?;
        let (node, path) = (cx.node.clone(), view.path.clone());
        let what = format!("volume {volume:?}");
        let open = blocking(move || node.may_remove(&what, &path)).await?;
        let read = open == Open::InDrives;
        let removed = pool.run(move |state| state.remove(&volume, read)).await;
        named(cx, removed, &view).await
    }
}

/// Give a volume another size (virStorageVolResize).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeVolume {
    pub volume: VolumeRef,
    /// Bytes; with `delta` by how many it grows.
    pub capacity: u64,
    pub delta: bool,
    pub allocate: bool,
    pub shrink: bool,
}

impl Operation for ResizeVolume {
    type Output = ();
    const NAME: &'static str = "volume.resize";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { volume, capacity, delta, allocate, shrink } = self;
        let (pool, view, file) = open_alone(cx, volume, "its size changes").await?;
        let capacity = match (delta, shrink) {
            (false, _) => Some(capacity),
            (true, false) => view.capacity.checked_add(capacity),
            (true, true) => view.capacity.checked_sub(capacity),
        };
        let pools = cx.node.pools.clone();
        let name = view.name.clone();
        let resized = match capacity {
            Some(capacity) => {
                let wanted = Resize { capacity, allocate, shrink };
                let group = pool.now().def.group().map(str::to_owned);
                blocking(move || match group {
                    Some(group) => resize_device(&pools, &group, &view, file, wanted),
                    None => resize(&pools, &view, file, wanted),
                })
                .await
            }
            None => Err(Error::new(Code::InvalidArgument, "that leads to no possible size")),
        };
        let change = resized.is_ok().then_some(PoolChange::VolumeResized);
        release(&pool, name, change, false).await;
        resized
    }
}

/// Overwrite a volume (virStorageVolWipePattern).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WipeVolume {
    pub volume: VolumeRef,
    pub algorithm: WipeAlgorithm,
}

impl Operation for WipeVolume {
    type Output = Job;
    const NAME: &'static str = "volume.wipe";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let algorithm = self.algorithm;
        let (pool, view, file) = open_alone(cx, self.volume, "it is being wiped").await?;
        if let Err(error) = NewVolume::like(&view, &view.name) {
            release(&pool, view.name, None, false).await;
            return Err(error);
        }
        let (object, name) = (format!("{}/{}", view.pool, view.name), view.name.clone());
        let (jobs, place, total) = (cx.node.jobs.clone(), pool.clone(), view.physical);
        let started = blocking(move || {
            jobs.start("volume-wipe", object, total, move |progress| async move {
                let name = view.name.clone();
                let wiped = blocking(move || wipe::wipe(&view, file, algorithm, &progress)).await;
                release(&place, name, Some(PoolChange::VolumeWiped), false).await;
                wiped
            })
        })
        .await;
        if started.is_err() {
            release(&pool, name, None, false).await;
        }
        started
    }
}

/// Read a volume's file (virStorageVolDownload).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadVolume {
    pub volume: VolumeRef,
    pub offset: u64,
    pub length: Option<u64>,
}

impl Operation for DownloadVolume {
    type Output = Download;
    const NAME: &'static str = "volume.download";
    // It is all that a guest keeps.
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<Download, Error> {
        let Source { view, file } = Source::open(cx, self.volume).await?;
        Download::new(view.name, &file, self.offset, self.length)
    }
}

/// Write a volume's file (virStorageVolUpload).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadVolume {
    pub volume: VolumeRef,
    pub offset: u64,
    /// Bytes to come, if that is known.
    pub length: Option<u64>,
}

impl Operation for UploadVolume {
    type Output = Upload;
    const NAME: &'static str = "volume.upload";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        about(&self.volume)
    }

    async fn run(self, cx: &Context) -> Result<Upload, Error> {
        let (pool, view, file) = open_alone(cx, self.volume, "it is being uploaded").await?;
        let (object, name) = (format!("{}/{}", view.pool, view.name), view.name.clone());
        let (jobs, place, total) = (cx.node.jobs.clone(), pool.clone(), self.length.unwrap_or(0));
        let offset = self.offset;
        let started = blocking(move || {
            let (tell, told) = std::sync::mpsc::channel();
            let job = jobs.start("volume-upload", object, total, move |progress| {
                let upload = Upload::new(view.name.clone(), &file, offset, progress);
                let ended = upload.map(|(upload, ended)| {
                    // The receiver waits below.
                    let _ = tell.send(upload);
                    ended
                });
                async move {
                    let ended = match ended {
                        Err(error) => Err(error),
                        Ok(ended) => ended.await.unwrap_or_else(|_| {
                            Err(Error::new(Code::InvalidState, "the upload broke off"))
                        }),
                    };
                    drop(file);
                    // Whoever brought these bytes may have brought an image of another format.
                    release(&place, view.name, Some(PoolChange::VolumeUploaded), true).await;
                    ended
                }
            })?;
            let upload = told.try_recv();
            let mut upload = upload.map_err(|_| Error::new(Code::HostFailure, "cannot upload"))?;
            upload.job = job.id;
            Ok(upload)
        })
        .await;
        if started.is_err() {
            release(&pool, name, None, false).await;
        }
        started
    }
}
