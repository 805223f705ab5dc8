//! Internal snapshots: made, applied, deleted. Each is one [`Rewrite`] of the image's tables.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::image::Qcow2;
use super::rewrite::{Rewrite, Uses};
use super::snapshot::{self, Snapshot, SnapshotRef};
use super::spec::*;
use super::tables::{Tables, read_l1};
use crate::description::SnapshotInfo;
use crate::error::ImageError;
use crate::view::Image as _;

/// What a snapshot is called, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    pub name: String,
    /// Since 1970.
    pub date: Duration,
    /// How long the guest had run.
    pub vm_clock: Duration,
}

impl NewSnapshot {
    /// One of a guest that does not run, made now.
    #[must_use]
    pub fn now(name: &str) -> Self {
        let date = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let (date, vm_clock) = (date.unwrap_or_default(), Duration::ZERO);
        Self { name: name.to_owned(), date, vm_clock }
    }
}

/// The disk and its snapshots as they are to be.
struct Next {
    /// Its uses are counted, its flags not yet right.
    l1: Vec<u64>,
    size: u64,
    snapshots: Vec<Snapshot>,
}

impl Qcow2 {
    /// The image's snapshots, in the table's order.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, ImageError> {
        let tables = self.tables();
        let table = snapshot::read_table(&*self.file, &tables.header)?;
        Ok(table.into_iter().map(|snapshot| snapshot.info).collect())
    }

    /// Keep the disk as it is now. What is written later goes elsewhere.
    ///
    /// # Errors
    /// When there is one of that name, the image cannot count so many users of a cluster or is not
    /// writable, or the host refuses. The image is as it was then.
    pub fn create_snapshot(&self, new: &NewSnapshot) -> Result<SnapshotInfo, ImageError> {
        self.replace("cannot make the snapshot", |rewrite, tables, mut snapshots| {
            snapshot::check_name(&snapshots, &new.name)?;
            let info = SnapshotInfo {
                id: snapshot::next_id(&snapshots),
                name: new.name.clone(),
                size: tables.header.size,
                vm_state_size: 0,
                // Its field ends in 2106.
                date: u32::try_from(new.date.as_secs()).unwrap_or(u32::MAX),
                vm_clock: u64::try_from(new.vm_clock.as_nanos()).unwrap_or(u64::MAX),
                icount: None,
            };
            rewrite.shift(&tables.l1, Uses::More).map_err(in_tables)?;
            // The L1 table that there is becomes the snapshot's: the disk gets a new one anyway.
            let (offset, entries) = (tables.header.l1_offset, tables.header.l1_size);
            snapshots.push(Snapshot::new(info.clone(), offset, entries));
            let (l1, size) = (tables.l1.clone(), tables.header.size);
            Ok((Next { l1, size, snapshots }, info))
        })
    }

    /// The disk is as the snapshot has it, its size too; the snapshot stays.
    ///
    /// # Errors
    /// As [`Self::create_snapshot`], and when there is no such snapshot.
    pub fn apply_snapshot(&self, wanted: SnapshotRef<'_>) -> Result<SnapshotInfo, ImageError> {
        let there = snapshot::read_table(&*self.file, &self.tables().header)?;
        snapshot::find(&there, wanted)?;
        // To dirty bitmaps it is a write like any other, of everything.
        self.before_write().map_err(ImageError::io("cannot mark the image's dirty bitmaps"))?;
        self.replace("cannot apply the snapshot", |rewrite, tables, snapshots| {
            let found = snapshot::find(&snapshots, wanted)?;
            let mut l1 = read_l1(&*self.file, found.l1_offset, found.l1_size)?;
            // What follows the disk there is QEMU's state of the guest, which the snapshot keeps.
            let needed = found.info.size.div_ceil(self.geometry.coverage).max(1);
            l1.resize(needed as usize, 0);
            // In this order no count is larger in between than it will be.
            rewrite.shift(&tables.l1, Uses::Less).map_err(in_tables)?;
            rewrite.shift(&l1, Uses::More).map_err(in_tables)?;
            let len = u64::from(tables.header.l1_size) * 8;
            rewrite.drop_table(tables.header.l1_offset, len).map_err(in_tables)?;
            let info = found.info.clone();
            Ok((Next { l1, size: info.size, snapshots }, info))
        })
    }

    /// Forget a snapshot, and what only it had.
    ///
    /// # Errors
    /// As [`Self::apply_snapshot`].
    pub fn delete_snapshot(&self, wanted: SnapshotRef<'_>) -> Result<SnapshotInfo, ImageError> {
        self.replace("cannot delete the snapshot", |rewrite, tables, mut snapshots| {
            let found = snapshot::find(&snapshots, wanted)?.clone();
            let l1 = read_l1(&*self.file, found.l1_offset, found.l1_size)?;
            rewrite.shift(&l1, Uses::Less).map_err(in_tables)?;
            let len = u64::from(found.l1_size) * 8;
            rewrite.drop_table(found.l1_offset, len).map_err(in_tables)?;
            let len = u64::from(tables.header.l1_size) * 8;
            rewrite.drop_table(tables.header.l1_offset, len).map_err(in_tables)?;
            snapshots.retain(|it| it.info.id != found.info.id || it.l1_offset != found.l1_offset);
            let (l1, size) = (tables.l1.clone(), tables.header.size);
            Ok((Next { l1, size, snapshots }, found.info))
        })
    }

    /// Put other tables in the place of those that there are.
    fn replace(
        &self,
        act: &'static str,
        plan: impl FnOnce(
            &mut Rewrite<'_>,
            &Tables,
            Vec<Snapshot>,
        ) -> Result<(Next, SnapshotInfo), ImageError>,
    ) -> Result<SnapshotInfo, ImageError> {
        let failed = || ImageError::io(act);
        if self.read_only() {
            return Err(ImageError::NotWritable { reason: "it is open for reading only".into() });
        }
        if self.geometry.data_file {
            let what = "snapshots of an image whose data lies in another file";
            return Err(ImageError::unsupported(crate::Format::Qcow2, what));
        }
        let _alone = self.inflight.write().unwrap_or_else(PoisonError::into_inner);
        let mut tables = self.tables();
        self.check_whole(&tables).map_err(failed())?;
        self.settle(&mut tables).map_err(failed())?;
        let file = &*self.file;
        let mut refcounts = tables.take_refcounts().map_err(failed())?;
        let mut rewrite = Rewrite::new(file, self.geometry, &mut refcounts);
        let old = snapshot::read_table(file, &tables.header);
        let made = old.and_then(|snapshots| {
            if tables.header.snapshots > 0 {
                let len = snapshot::table_len(file, &tables.header)?;
                rewrite.drop_table(tables.header.snapshots_offset, len).map_err(in_tables)?;
            }
            let (next, info) = plan(&mut rewrite, &tables, snapshots)?;
            self.make(rewrite, &tables, next).map(|made| (made, info))
        });
        // Until now nothing was written but to clusters that are free.
        tables.refcounts = Some(refcounts);
        let ((header, freed), info) = made.map_err(|error| name_act(act, error))?;
        let switched = file.sync().and_then(|()| {
            // Which of the two sets counts is not known any more if this fails.
            tables.broken = true;
            header.write_fields(file)?;
            file.sync()
        });
        switched.map_err(failed())?;
        let l1 = (header.l1_offset, header.l1_size);
        let size = header.size;
        *tables = Tables::read(file, header, l1, true)?;
        self.size.store(size, Ordering::Release);
        *self.unpacked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for run in freed {
            let bits = self.geometry.cluster_bits;
            // Advice: the clusters are free whatever the host says to it.
            let _ = file.discard(run.start << bits, (run.end - run.start) << bits);
        }
        Ok(info)
    }

    /// Write all that the new header is to lead to.
    fn make(
        &self,
        mut rewrite: Rewrite<'_>,
        tables: &Tables,
        next: Next,
    ) -> Result<(super::header::Header, Vec<std::ops::Range<u64>>), ImageError> {
        let mut header = tables.header.clone();
        let l1 = rewrite.adopt(next.l1).map_err(in_tables)?;
        header.l1_offset = rewrite.put_words(&l1).map_err(in_tables)?;
        header.l1_size = l1.len() as u32;
        header.size = next.size;
        header.snapshots = next.snapshots.len() as u32;
        header.snapshots_offset = if next.snapshots.is_empty() {
            0
        } else {
            let table: Vec<u8> = next.snapshots.into_iter().flat_map(|it| it.entry).collect();
            if table.len() as u64 > MOST_SNAPSHOT_TABLE_BYTES {
                return Err(ImageError::Invalid("the image has too many snapshots".into()));
            }
            rewrite.put_table(&table).map_err(in_tables)?
        };
        let placed = rewrite.place(&header).map_err(in_tables)?;
        header.refcount_table_offset = placed.table_offset;
        header.refcount_table_clusters = placed.table_clusters;
        Ok((header, placed.freed))
    }
}

fn in_tables(source: std::io::Error) -> ImageError {
    // What we said ourselves is not wrapped into an error of the host.
    match source.downcast::<ImageError>() {
        Ok(ours) => ours,
        Err(source) => ImageError::Io { act: "cannot write the image's tables", source },
    }
}

/// An error of the host is told with what was to be done.
fn name_act(act: &'static str, error: ImageError) -> ImageError {
    match error {
        ImageError::Io { source, .. } => ImageError::Io { act, source },
        other => other,
    }
}

#[cfg(test)]
mod tests;
