//! [`Qcow2`]: an open image; opening, reading, flushing.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::compressed::Unpacked;
use super::header::{Header, check_l1};
use super::lookup::{Geometry, Run, State};
use super::snapshot::{self, SnapshotRef};
use super::spec::*;
use super::tables::Tables;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;
use crate::view::{Extent, ExtentKind, Image, check_range};

pub struct Qcow2 {
    pub(super) file: Arc<dyn Storage>,
    /// Where guest data lies, if not in `file`.
    pub(super) data_file: Option<Arc<dyn Storage>>,
    pub(super) backing: Option<Arc<dyn Image>>,
    pub(super) geometry: Geometry,
    pub(super) compression: Compression,
    pub(super) read_only: bool,
    pub(super) size: AtomicU64,
    /// Held shared while data moves.
    pub(super) inflight: RwLock<()>,
    pub(super) tables: Mutex<Tables>,
    /// Told when a busy range is free again.
    pub(super) idle: Condvar,
    pub(super) unpacked: Mutex<Unpacked>,
    /// Dirty bitmaps in the file are true until the next write.
    pub(super) bitmaps_hold: AtomicBool,
}

/// What belongs to an image, and how it is used.
#[derive(Default)]
pub struct OpenOptions {
    pub read_only: bool,
    /// The image below, if the header names one.
    pub backing: Option<Arc<dyn Image>>,
    /// The data file, if the header names one.
    pub data_file: Option<Arc<dyn Storage>>,
    /// The disk as this snapshot has it, by its ID or else its name; for reading only.
    pub snapshot: Option<String>,
}

fn damaged(what: &str) -> ImageError {
    ImageError::damaged(Format::Qcow2, what)
}

impl Qcow2 {
    /// # Errors
    /// When the image is damaged, uses what we do not know, or cannot be written to as asked.
    pub fn open(file: Arc<dyn Storage>, options: OpenOptions) -> Result<Self, ImageError> {
        let mut header = Header::read(&*file)?;
        if let Some(method) = header.encryption_name() {
            return Err(ImageError::unsupported(Format::Qcow2, format!("{method} encryption")));
        }
        let OpenOptions { read_only, backing, data_file, snapshot } = options;
        if header.has(INCOMPATIBLE_DATA_FILE) != data_file.is_some() {
            let what = "the image has a data file, and another number of them was given";
            return Err(ImageError::Invalid(what.into()));
        }
        let mut l1 = (header.l1_offset, header.l1_size);
        let mut size = header.size;
        if let Some(wanted) = &snapshot {
            let table = snapshot::read_table(&*file, &header)?;
            let found = snapshot::find(&table, SnapshotRef::IdOrName(wanted))?;
            (l1, size) = ((found.l1_offset, found.l1_size), found.info.size);
            check_l1(l1.0, l1.1, &header)?;
        }
        let read_only = read_only || snapshot.is_some();
        if !read_only {
            make_writable(&*file, &mut header)?;
        }
        let geometry = Geometry::new(&header);
        let compression = header.compression;
        let bitmaps_hold = AtomicBool::new(!read_only && header.bitmaps.is_some());
        Ok(Self {
            tables: Mutex::new(Tables::read(&*file, header, l1, !read_only)?),
            file,
            data_file,
            backing,
            geometry,
            compression,
            read_only,
            size: AtomicU64::new(size),
            inflight: RwLock::new(()),
            idle: Condvar::new(),
            unpacked: Mutex::new(None),
            bitmaps_hold,
        })
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moving(&self) -> RwLockReadGuard<'_, ()> {
        self.inflight.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data file, if it is another one than the image.
    pub(super) fn external(&self) -> Option<&dyn Storage> {
        self.data_file.as_deref()
    }

    /// The file that guest data lies in.
    pub(super) fn data(&self) -> &dyn Storage {
        self.data_file.as_deref().unwrap_or(&*self.file)
    }

    /// As `Image::read`, without regard to the size: the last cluster may reach beyond it.
    pub(super) fn read_any(&self, mut data: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !data.is_empty() {
            let run = self.lookup(&mut self.tables(), offset, data.len() as u64)?;
            let (part, rest) = data.split_at_mut(run.len as usize);
            self.read_run(run, part, offset)?;
            offset += run.len;
            data = rest;
        }
        Ok(())
    }

    fn read_run(&self, run: Run, out: &mut [u8], offset: u64) -> io::Result<()> {
        match run.state {
            State::Zero => out.fill(0),
            State::Hole => return self.read_backing(out, offset),
            State::Compressed => {
                let skip = (offset % self.geometry.cluster) as usize;
                return self.read_compressed(run.host, skip, out);
            }
            State::Data => {
                if self.data().read(out, run.host)? == 0 {
                    let text = "the image's file was cut off: data of it lies beyond its end";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
            }
        }
        Ok(())
    }

    fn read_backing(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let size = self.backing.as_ref().map_or(0, |backing| backing.size());
        let have = (out.len() as u64).min(size.saturating_sub(offset)) as usize;
        let (there, beyond) = out.split_at_mut(have);
        beyond.fill(0);
        match &self.backing {
            Some(backing) if have > 0 => backing.read(there, offset),
            _ => Ok(()),
        }
    }

    /// Everything is on disk that was written; what rested can be used again.
    fn flush_all(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        let resting = !self.tables().resting.is_empty();
        // Nobody still uses what is released then.
        let alone = resting.then(|| self.inflight.write().unwrap_or_else(PoisonError::into_inner));
        let mut tables = self.tables();
        if !tables.is_dirty() && tables.resting.is_empty() {
            drop(tables);
            self.data().sync()?;
            return if self.data_file.is_some() { self.file.sync() } else { Ok(()) };
        }
        self.make_durable(&mut tables)?;
        if alone.is_some() {
            self.release(&mut tables)?;
        }
        Ok(())
    }

    fn make_durable(&self, tables: &mut Tables) -> io::Result<()> {
        tables.write_back(&*self.file, self.external())?;
        if let Some(data) = self.external() {
            data.sync()?;
        }
        self.file.sync()
    }

    /// The file has everything, and nothing rests. The caller holds `inflight` alone.
    pub(super) fn settle(&self, tables: &mut Tables) -> io::Result<()> {
        self.make_durable(tables)?;
        self.release(tables)
    }

    fn release(&self, tables: &mut Tables) -> io::Result<()> {
        *self.unpacked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        while let Some(cluster) = tables.resting.pop() {
            let refcounts = tables.refcounts()?;
            refcounts.release(&*self.file, cluster)?;
            if refcounts.get(&*self.file, cluster)? == 0 {
                let offset = cluster << self.geometry.cluster_bits;
                refcounts.unprotect(offset, self.geometry.cluster);
                self.file.discard(offset, self.geometry.cluster)?;
            }
        }
        tables.refcounts()?.write_back(&*self.file)
    }
}

/// Mark the image as one that we write to.
fn make_writable(file: &dyn Storage, header: &mut Header) -> Result<(), ImageError> {
    if header.has(INCOMPATIBLE_CORRUPT) {
        let reason = "it is marked as corrupt; repair it first (manor image check --repair all)";
        return Err(ImageError::NotWritable { reason: reason.into() });
    }
    let act = "cannot write the header";
    if header.has(INCOMPATIBLE_DIRTY) {
        super::check::rebuild(file, header)?;
        header.incompatible &= !INCOMPATIBLE_DIRTY;
        header.write_fields(file).map_err(ImageError::io(act))?;
        file.sync().map_err(ImageError::io(act))?;
    }
    // What these bits promise, we would break. Dirty bitmaps are marked one by one, at the first write.
    let kept = AUTOCLEAR_RAW_DATA | AUTOCLEAR_BITMAPS;
    if header.autoclear & !kept != 0 {
        header.autoclear &= kept;
        header.write_fields(file).map_err(ImageError::io(act))?;
        file.sync().map_err(ImageError::io(act))?;
    }
    if header.l1_size == 0 && header.size > 0 {
        return Err(damaged("no L1 table"));
    }
    Ok(())
}

impl Image for Qcow2 {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        let _moving = self.moving();
        self.read_any(data, offset)
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_range(data, offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.zero_range(offset, len, unmap)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.discard_range(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.flush_all()
    }

    fn as_qcow2(&self) -> Option<&Qcow2> {
        Some(self)
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        Self::grow(self, size).map_err(io::Error::other)
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        if len == 0 {
            return Ok(Extent::hole(0));
        }
        let _moving = self.moving();
        let run = self.lookup(&mut self.tables(), offset, len)?;
        let extent = |kind, offset| Extent { len: run.len, kind, depth: 0, offset };
        Ok(match run.state {
            State::Data => extent(ExtentKind::Data, Some(run.host)),
            State::Compressed => extent(ExtentKind::Compressed, None),
            State::Zero => extent(ExtentKind::Zero, None),
            State::Hole => {
                let size = self.backing.as_ref().map_or(0, |backing| backing.size());
                let there = run.len.min(size.saturating_sub(offset));
                match &self.backing {
                    Some(backing) if there > 0 => {
                        let below = backing.map(offset, there)?;
                        Extent { depth: below.depth.saturating_add(1), ..below }
                    }
                    _ => Extent::hole(run.len),
                }
            }
        })
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        // What is lost otherwise is what a power cut would lose; but the host still stands.
        if let Err(error) = self.flush_all() {
            tracing::warn!(%error, "an image could not be flushed when it was closed");
        }
    }
}
