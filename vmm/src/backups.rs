//! [`Backups`]: the dirty bitmaps of all disks, and the backup that there is.
//!
//! ```text
//! (none) ─ begin ─▶ running ─ all is copied ─▶ done   ┐
//!                      └ scratch file or target fails ─▶ failed ├─ end ─▶ (none)
//! ```
//! Bitmaps of a qcow2 image are taken out of it when the disk is opened, and stored when the machine
//! is shut down or the disk leaves it. A process that dies before leaves them marked as in use.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use devices::backend::Disk;
use devices::backup::nbd::{Export, Marked};
use devices::backup::{Dirty, Keeper, Moment, Outcome, Target, Tracked, Tracking, Work};
use image::qcow2::{CreateOptions, OpenOptions, Qcow2};
use image::{FileStorage, Image, ImageError, Raw, Storage};
use vmm_protocol::backup::{
    BackupBegin, BackupDisk, BackupPhase, BackupStatus, BackupTarget, BitmapChange, BitmapStatus,
};
use vmm_protocol::config::ImageFormat;
use vmm_protocol::control::EventKind;

use crate::notices::Notices;
use crate::process::{FileError, Files};

/// Bytes of bitmaps in memory that one disk may have.
const MOST_BITMAP_BYTES: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("there is no disk {id:?} that could be backed up")]
    NoDisk { id: String },
    #[error("disk {id:?} lies on a server: it cannot be backed up from here")]
    Remote { id: String },
    #[error("disk {disk:?} has no dirty bitmap {bitmap:?}")]
    NoBitmap { disk: String, bitmap: String },
    #[error("disk {disk:?} has a dirty bitmap {bitmap:?} already")]
    Taken { disk: String, bitmap: String },
    #[error(
        "dirty bitmap {bitmap:?} of disk {disk:?} is inconsistent: the guest's process died, or \
         another program wrote to the image; make a full backup"
    )]
    Inconsistent { disk: String, bitmap: String },
    #[error("dirty bitmaps {into:?} and {from:?} of disk {disk:?} differ in granularity")]
    Granularity { disk: String, into: String, from: String },
    #[error("dirty bitmap {bitmap:?} of disk {disk:?} cannot be had: {reason}")]
    Bitmap { disk: String, bitmap: String, reason: &'static str },
    #[error("a backup is under way, or comes to its end")]
    Busy,
    #[error("disk {id:?} has a block job; wait for its end, or abort it")]
    BlockJob { id: String },
    #[error("a backup needs a place to listen at or a target for each disk, and one disk at least")]
    Contradiction,
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the scratch file of disk {id:?} cannot be used")]
    Scratch { id: String, source: io::Error },
    #[error("the target of disk {id:?} cannot be used")]
    Target { id: String, source: ImageError },
    #[error("the target of disk {id:?} {reason}")]
    BadTarget { id: String, reason: &'static str },
}

pub struct Backups {
    disks: BTreeMap<String, Watched>,
    keeper: Keeper,
    current: Option<Current>,
    /// How the current one ended.
    outcome: Arc<Mutex<Option<Outcome>>>,
    notices: Arc<Notices>,
}

struct Watched {
    tracking: Arc<Tracking>,
    disk: Arc<dyn Disk>,
    /// What of the image's own bitmaps could not be read is left as it is.
    unreadable: bool,
}

struct Current {
    disks: Vec<String>,
}

/// A backup that can begin.
pub(crate) struct Prepared {
    begin: BackupBegin,
    disks: Vec<PreparedDisk>,
    listener: Option<std::os::fd::OwnedFd>,
}

struct PreparedDisk {
    plan: BackupDisk,
    moment: Arc<Moment>,
    target: Option<Arc<dyn Image>>,
}

impl Backups {
    /// # Errors
    /// When there can be no thread for them, which `prepare` confines.
    pub(crate) fn new(
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        notices: &Arc<Notices>,
    ) -> io::Result<Self> {
        let outcome = Arc::new(Mutex::new(None));
        let (kept, teller) = (outcome.clone(), notices.clone());
        let told = Box::new(move |ended| end(&kept, &teller, ended));
        let keeper = Keeper::new("backup", prepare, told)?;
        let notices = notices.clone();
        Ok(Self { disks: BTreeMap::new(), keeper, current: None, outcome, notices })
    }

    /// Disk `id`, so that its writes are noticed.
    pub(crate) fn watch(&mut self, id: &str, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        let tracking = Arc::<Tracking>::default();
        let image = disk.image();
        let stored = image.as_ref().and_then(|image| image.as_qcow2()).map(Qcow2::bitmaps);
        let mut watched =
            Watched { tracking: tracking.clone(), disk: disk.clone(), unreadable: false };
        match stored {
            Some(Ok(bitmaps)) => {
                for bitmap in bitmaps {
                    tracking.add_bitmap(Dirty::stored(bitmap));
                }
            }
            Some(Err(error)) => {
                tracing::warn!(disk = id, %error, "the image's dirty bitmaps cannot be read");
                watched.unreadable = true;
            }
            None => {}
        }
        self.disks.insert(id.to_owned(), watched);
        Arc::new(Tracked::new(disk, tracking))
    }

    /// A backup reads what disk `id` is made of now.
    pub(crate) fn reads(&self, id: &str) -> bool {
        self.disks.get(id).is_some_and(|watched| watched.tracking.has_moment())
    }

    /// Disk `id` is gone, and idle.
    pub(crate) fn forget(&mut self, id: &str) {
        if let Some(watched) = self.disks.remove(id) {
            store(id, &watched);
        }
    }

    /// Put the bitmaps of all disks, which are idle, into their images.
    pub(crate) fn store(&self) {
        for (id, watched) in &self.disks {
            store(id, watched);
        }
    }

    fn disk(&self, id: &str) -> Result<&Watched, BackupError> {
        self.disks.get(id).ok_or_else(|| BackupError::NoDisk { id: id.to_owned() })
    }

    fn bitmap(&self, disk: &str, bitmap: &str) -> Result<Arc<Dirty>, BackupError> {
        let found = self.disk(disk)?.tracking.bitmap(bitmap);
        found.ok_or_else(|| BackupError::NoBitmap { disk: disk.into(), bitmap: bitmap.into() })
    }

    /// What must not fail later.
    ///
    /// # Errors
    /// When one of the changes cannot be carried out.
    pub(crate) fn check(&self, changes: &[BitmapChange]) -> Result<(), BackupError> {
        let mut added: Vec<(&str, &str)> = Vec::new();
        for change in changes {
            let disk = change.disk();
            let known = |bitmap: &str| match self.bitmap(disk, bitmap) {
                Err(BackupError::NoBitmap { .. }) if added.contains(&(disk, bitmap)) => Ok(()),
                other => other.map(drop),
            };
            match change {
                BitmapChange::Add { bitmap, granularity, persistent, .. } => {
                    if known(bitmap).is_ok() {
                        let (disk, bitmap) = (disk.to_owned(), bitmap.clone());
                        return Err(BackupError::Taken { disk, bitmap });
                    }
                    self.check_new(disk, bitmap, *granularity, *persistent)?;
                    added.push((disk, bitmap));
                }
                BitmapChange::Remove { .. } => drop(self.disk(disk)?),
                BitmapChange::Enable { bitmap, .. } => known(bitmap)?,
                BitmapChange::Merge { into, from, .. } => {
                    let (one, other) = (self.bitmap(disk, into)?, self.bitmap(disk, from)?);
                    self.check_merge(disk, &one, &other)?;
                }
            }
        }
        Ok(())
    }

    fn check_new(
        &self,
        disk: &str,
        bitmap: &str,
        granularity: u64,
        persistent: bool,
    ) -> Result<(), BackupError> {
        let watched = self.disk(disk)?;
        let refuse = |reason| {
            let (disk, bitmap) = (disk.to_owned(), bitmap.to_owned());
            Err(BackupError::Bitmap { disk, bitmap, reason })
        };
        if !granularity.is_power_of_two() || !(9..=31).contains(&granularity.ilog2()) {
            return refuse("its granularity is 512 to 2^31, a power of two");
        }
        if bitmap.is_empty() || bitmap.len() > 1023 {
            return refuse("its name has 1 to 1023 bytes");
        }
        let bytes = watched.disk.info().size.div_ceil(granularity) / 8;
        let have: usize = watched.tracking.bitmaps().iter().map(|it| it.words().len() * 8).sum();
        if bytes as usize + have > MOST_BITMAP_BYTES {
            return refuse("the disk's bitmaps would need more than 256 MiB; delete others");
        }
        let image = watched.disk.image();
        if persistent && image.as_ref().and_then(|image| image.as_qcow2()).is_none() {
            return refuse("the disk's image is no qcow2, which could keep it");
        }
        Ok(())
    }

    fn check_merge(&self, disk: &str, into: &Dirty, from: &Dirty) -> Result<(), BackupError> {
        for bitmap in [into, from] {
            if bitmap.is_inconsistent() {
                let (disk, bitmap) = (disk.to_owned(), bitmap.name().to_owned());
                return Err(BackupError::Inconsistent { disk, bitmap });
            }
        }
        if into.granularity() == from.granularity() {
            return Ok(());
        }
        let (into, from) = (into.name().to_owned(), from.name().to_owned());
        Err(BackupError::Granularity { disk: disk.to_owned(), into, from })
    }

    /// Carry out what was [checked](Self::check), while nothing is in flight.
    pub(crate) fn change(&self, changes: &[BitmapChange]) {
        for change in changes {
            let Ok(Watched { tracking, disk, .. }) = self.disk(change.disk()) else { continue };
            match change {
                BitmapChange::Add { bitmap, granularity, persistent, .. } => {
                    let size = disk.info().size;
                    tracking.add_bitmap(Dirty::new(
                        bitmap.clone(),
                        size,
                        *granularity,
                        *persistent,
                    ));
                }
                BitmapChange::Remove { bitmap, .. } => tracking.remove_bitmap(bitmap),
                BitmapChange::Enable { bitmap, enabled, .. } => {
                    if let Some(bitmap) = tracking.bitmap(bitmap) {
                        bitmap.enable(*enabled);
                    }
                }
                BitmapChange::Merge { into, from, .. } => {
                    if let (Some(into), Some(from)) = (tracking.bitmap(into), tracking.bitmap(from))
                        && !into.merge(&from)
                    {
                        tracing::error!(into = into.name(), "a bitmap could not be merged");
                    }
                }
            }
        }
    }

    pub(crate) fn bitmaps(&self) -> Vec<BitmapStatus> {
        let of = |(id, watched): (&String, &Watched)| {
            let id = id.clone();
            watched.tracking.bitmaps().into_iter().map(move |bitmap| BitmapStatus {
                disk: id.clone(),
                name: bitmap.name().to_owned(),
                granularity: bitmap.granularity(),
                enabled: bitmap.is_enabled(),
                persistent: bitmap.is_persistent(),
                inconsistent: bitmap.is_inconsistent(),
                dirty: bitmap.count(),
            })
        };
        self.disks.iter().flat_map(of).collect()
    }

    /// Everything of a backup but its moment.
    ///
    /// # Errors
    /// When it cannot be had; nothing has changed then.
    pub(crate) fn prepare(
        &self,
        begin: BackupBegin,
        mut files: Files,
    ) -> Result<Prepared, BackupError> {
        if self.current.is_some() || self.keeper.is_busy() {
            return Err(BackupError::Busy);
        }
        let pull = begin.listener.is_some();
        let targets = begin.disks.iter().filter(|disk| disk.target.is_some()).count();
        if begin.disks.is_empty() || targets != if pull { 0 } else { begin.disks.len() } {
            return Err(BackupError::Contradiction);
        }
        self.check(&begin.bitmaps)?;
        let listener = begin.listener.map(|listener| files.take(listener)).transpose()?;
        let mut disks = Vec::new();
        for plan in &begin.disks {
            disks.push(self.prepare_disk(plan.clone(), &mut files)?);
        }
        Ok(Prepared { begin, disks, listener })
    }

    fn prepare_disk(
        &self,
        plan: BackupDisk,
        files: &mut Files,
    ) -> Result<PreparedDisk, BackupError> {
        let id = &plan.id;
        let watched = self.disk(id)?;
        if watched.tracking.has_moment() {
            return Err(BackupError::Busy);
        }
        let image = watched.disk.image();
        let image = image.ok_or_else(|| BackupError::Remote { id: id.clone() })?;
        let mut first: Option<Arc<Dirty>> = None;
        for name in &plan.since {
            let bitmap = self.bitmap(id, name)?;
            self.check_merge(id, first.as_ref().unwrap_or(&bitmap), &bitmap)?;
            first.get_or_insert(bitmap);
        }
        let scratch = FileStorage::new(files.take_file(plan.scratch)?)
            .map_err(|source| BackupError::Scratch { id: id.clone(), source })?;
        let target = match &plan.target {
            Some(target) => Some(open_target(id, target, &*image, first.as_deref(), files)?),
            None => None,
        };
        let (outcome, notices) = (self.outcome.clone(), self.notices.clone());
        let on_loss =
            Box::new(move |text: &str| end(&outcome, &notices, Outcome::Failed(text.to_owned())));
        let moment = Arc::new(Moment::new(image, Arc::new(scratch), on_loss));
        Ok(PreparedDisk { plan, moment, target })
    }

    /// The moment is now: nothing is in flight.
    pub(crate) fn begin(&mut self, prepared: Prepared) {
        let Prepared { begin, disks, listener } = prepared;
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let marked: Vec<_> = disks.iter().map(|disk| self.marked(&disk.plan)).collect();
        self.change(&begin.bitmaps);
        for disk in &disks {
            if let Ok(watched) = self.disk(&disk.plan.id) {
                watched.tracking.set_moment(Some(disk.moment.clone()));
            }
        }
        let ids = disks.iter().map(|disk| disk.plan.id.clone()).collect();
        self.current = Some(Current { disks: ids });
        let all = disks.into_iter().zip(marked);
        let work = match listener {
            Some(listener) => Work::Serve { listener, exports: all.map(export).collect() },
            None => {
                let target = |(disk, marked): (PreparedDisk, Option<Arc<Marked>>)| {
                    let PreparedDisk { moment, target, .. } = disk;
                    target.map(|image| Target { moment, marked, image })
                };
                Work::Copy(all.filter_map(target).collect())
            }
        };
        if !self.keeper.begin(work) {
            let text = "an earlier backup has not come to its end".to_owned();
            end(&self.outcome, &self.notices, Outcome::Failed(text));
        }
    }

    /// What any of the bitmaps has marked.
    fn marked(&self, plan: &BackupDisk) -> Option<Arc<Marked>> {
        let mut all: Option<(Vec<u64>, u64)> = None;
        for name in &plan.since {
            let Ok(bitmap) = self.bitmap(&plan.id, name) else { continue };
            let (words, _) = all.get_or_insert_with(|| (Vec::new(), bitmap.granularity()));
            let marked = bitmap.words();
            words.resize(words.len().max(marked.len()), 0);
            for (word, marked) in words.iter_mut().zip(marked) {
                *word |= marked;
            }
        }
        all.map(|(words, granularity)| Arc::new(Marked::new(words, granularity)))
    }

    /// Forget the backup: the guest writes as ever.
    pub(crate) fn end(&mut self) {
        let Some(current) = self.current.take() else { return };
        for id in &current.disks {
            if let Some(watched) = self.disks.get(id) {
                watched.tracking.set_moment(None);
            }
        }
        self.keeper.stop();
    }

    pub(crate) fn status(&self) -> Option<BackupStatus> {
        self.current.as_ref()?;
        let (done, total) = self.keeper.progress();
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let phase = match outcome {
            None => BackupPhase::Running,
            Some(Outcome::Done) => BackupPhase::Done,
            Some(Outcome::Failed(text)) => BackupPhase::Failed(text),
        };
        Some(BackupStatus { done, total, phase })
    }
}

/// The first word about how a backup ended is the one that counts.
fn end(outcome: &Mutex<Option<Outcome>>, notices: &Notices, ended: Outcome) {
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
    if outcome.is_some() {
        return;
    }
    let error = match &ended {
        Outcome::Done => None,
        Outcome::Failed(text) => Some(text.clone()),
    };
    *outcome = Some(ended);
    notices.post(EventKind::BackupEnded { error });
}

fn export((disk, marked): (PreparedDisk, Option<Arc<Marked>>)) -> Export {
    let PreparedDisk { plan, moment, .. } = disk;
    Export {
        description: format!("disk {} at one moment", plan.id),
        name: plan.export,
        moment,
        marked: plan.exported_bitmap.zip(marked),
    }
}

fn open_target(
    id: &str,
    target: &BackupTarget,
    source: &dyn Image,
    marked: Option<&Dirty>,
    files: &mut Files,
) -> Result<Arc<dyn Image>, BackupError> {
    let failed = |source| BackupError::Target { id: id.to_owned(), source };
    let refuse = |reason| Err(BackupError::BadTarget { id: id.to_owned(), reason });
    let file: File = files.take_file(target.file)?;
    let host = |source| failed(ImageError::Io { act: "cannot look at the file", source });
    let file: Arc<dyn Storage> = Arc::new(FileStorage::new(file).map_err(host)?);
    let image: Arc<dyn Image> = match target.format {
        ImageFormat::Raw => {
            let raw = Raw::open(file, false).map_err(host)?;
            if raw.size() < source.size() {
                raw.resize(source.size()).map_err(host)?;
            }
            Arc::new(raw)
        }
        ImageFormat::Qcow2 => {
            if file.size().map_err(host)? == 0 {
                let size = source.size();
                image::qcow2::create(&*file, &CreateOptions::new(size)).map_err(failed)?;
            }
            let described = image::qcow2::describe(&*file).map_err(failed)?;
            // What lies below is not opened: whole clusters are written, or it would be needed.
            let cluster = described.cluster_size.unwrap_or(0);
            if described.backing.is_some() && marked.is_none_or(|it| cluster > it.granularity()) {
                return refuse(
                    "has a backing image: it can only take an incremental backup, and \
                               its clusters must not be larger than the bitmap's granularity",
                );
            }
            Arc::new(Qcow2::open(file, OpenOptions::default()).map_err(failed)?)
        }
        _ => return refuse("is neither raw nor qcow2"),
    };
    if image.size() < source.size() {
        return refuse("is smaller than the disk");
    }
    Ok(image)
}

fn store(id: &str, watched: &Watched) {
    let image = watched.disk.image();
    let Some(qcow2) = image.as_ref().and_then(|image| image.as_qcow2()) else { return };
    if watched.unreadable || qcow2.read_only() {
        return;
    }
    let bitmaps = watched.tracking.bitmaps();
    let kept: Vec<_> =
        bitmaps.iter().filter(|it| it.is_persistent()).map(|it| it.to_stored()).collect();
    // A guest that was saved holds the image to be as it was then. What is there is marked as in use
    // if anything was written since.
    if qcow2.bitmaps().is_ok_and(|there| there == kept) {
        return;
    }
    if let Err(error) = qcow2.store_bitmaps(&kept) {
        tracing::error!(disk = id, error = error.in_full(), "dirty bitmaps are lost");
    }
}
