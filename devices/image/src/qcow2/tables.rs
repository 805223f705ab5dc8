//! [`Tables`]: L1, L2 and what else changes while an image is written to.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::cache::TableCache;
use super::header::Header;
use super::refcount::Refcounts;
use super::spec::*;
use crate::bytes::be64;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Bytes of L2 tables that are kept at hand: they describe 256 GiB in clusters of the usual size.
const WRITER_CACHE: u64 = 32 << 20;
const READER_CACHE: u64 = 8 << 20;

pub(super) struct Tables {
    pub(super) header: Header,
    pub(super) l1: Vec<u64>,
    /// Entries of L1 that the file does not have yet.
    pub(super) l1_dirty: BTreeSet<usize>,
    pub(super) l2: TableCache,
    /// None: the image is only read.
    pub(super) refcounts: Option<Refcounts>,
    /// Guest ranges whose clusters are being made.
    pub(super) busy: Vec<Range<u64>>,
    /// Host clusters with one user less as soon as the tables are durable.
    pub(super) resting: Vec<u64>,
    /// A contradiction was found: nothing more is written.
    pub(super) broken: bool,
}

impl Tables {
    pub(super) fn read(
        file: &dyn Storage,
        header: Header,
        (l1_offset, l1_size): (u64, u32),
        writable: bool,
    ) -> Result<Self, ImageError> {
        let l1 = read_l1(file, l1_offset, l1_size)?;
        let cache = if writable { WRITER_CACHE } else { READER_CACHE };
        let l2 = TableCache::new(header.cluster_size(), cache);
        let mut tables = Self {
            header,
            l1,
            l1_dirty: BTreeSet::new(),
            l2,
            refcounts: None,
            busy: Vec::new(),
            resting: Vec::new(),
            broken: false,
        };
        if writable {
            tables.refcounts = Some(tables.read_refcounts(file)?);
        }
        Ok(tables)
    }

    fn read_refcounts(&self, file: &dyn Storage) -> Result<Refcounts, ImageError> {
        let header = &self.header;
        let cluster = header.cluster_size();
        let mut refcounts = Refcounts::read(file, header)?;
        refcounts.protect(0, cluster);
        refcounts.protect(header.l1_offset, u64::from(header.l1_size) * 8);
        refcounts.protect(header.refcount_table_offset, refcounts.table_clusters() * cluster);
        for offset in refcounts.table().to_vec() {
            if offset != 0 {
                refcounts.protect(offset, cluster);
            }
        }
        for entry in self.l1.iter().filter(|entry| **entry & OFFSET != 0) {
            refcounts.protect(entry & OFFSET, cluster);
        }
        if header.snapshots > 0 {
            refcounts.protect(header.snapshots_offset, super::snapshot::table_len(file, header)?);
            for snapshot in super::snapshot::read_table(file, header)? {
                refcounts.protect(snapshot.l1_offset, u64::from(snapshot.l1_size) * 8);
            }
        }
        if let Some(directory) = &header.bitmaps {
            refcounts.protect(directory.offset, directory.size);
            for entry in super::bitmap::read_entries(file, header)? {
                refcounts.protect(entry.table_offset, entry.table_len());
            }
        }
        Ok(refcounts)
    }

    /// Those of an image that is open for writing.
    pub(super) fn refcounts(&mut self) -> io::Result<&mut Refcounts> {
        self.refcounts.as_mut().ok_or_else(crate::view::read_only)
    }

    /// As [`Self::refcounts`], for whoever gives them back or puts others in their place.
    pub(super) fn take_refcounts(&mut self) -> io::Result<Refcounts> {
        self.refcounts.take().ok_or_else(crate::view::read_only)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.l2.is_dirty()
            || !self.l1_dirty.is_empty()
            || self.refcounts.as_ref().is_some_and(Refcounts::is_dirty)
    }

    /// Write what has changed, each kind of table durable before the next one refers to it. What is
    /// written last is not durable yet.
    pub(super) fn write_back(
        &mut self,
        file: &dyn Storage,
        data: Option<&dyn Storage>,
    ) -> io::Result<()> {
        let mut refcounts_written = false;
        if let Some(refcounts) = &mut self.refcounts
            && refcounts.is_dirty()
        {
            refcounts.write_back(file)?;
            refcounts_written = true;
        }
        if self.l2.is_dirty() {
            if refcounts_written {
                file.sync()?;
            }
            if let Some(data) = data {
                data.sync()?;
            }
            self.l2.write_back(file)?;
        }
        if self.l1_dirty.is_empty() {
            return Ok(());
        }
        file.sync()?;
        while let Some(index) = self.l1_dirty.first().copied() {
            let entry = self.l1.get(index).copied().unwrap_or(0);
            file.write(&entry.to_be_bytes(), self.header.l1_offset + index as u64 * 8)?;
            self.l1_dirty.remove(&index);
        }
        Ok(())
    }

    /// Room for a few more pieces of L2 tables.
    pub(super) fn make_room(
        &mut self,
        file: &dyn Storage,
        data: Option<&dyn Storage>,
    ) -> io::Result<()> {
        if self.l2.is_full() {
            self.write_back(file, data)?;
            self.l2.shrink();
        }
        Ok(())
    }

    pub(super) fn is_busy(&self, range: &Range<u64>) -> bool {
        is_busy(&self.busy, range)
    }

    /// The end of the part of `range` from its start on that nobody works on.
    pub(super) fn idle_until(&self, range: &Range<u64>) -> u64 {
        idle_until(&self.busy, range)
    }
}

pub(super) fn is_busy(all: &[Range<u64>], range: &Range<u64>) -> bool {
    all.iter().any(|busy| busy.start < range.end && range.start < busy.end)
}

pub(super) fn idle_until(all: &[Range<u64>], range: &Range<u64>) -> u64 {
    let starts = all.iter().filter(|busy| busy.end > range.start).map(|busy| busy.start);
    starts.min().unwrap_or(range.end).clamp(range.start, range.end)
}

pub(super) fn read_l1(
    file: &dyn Storage,
    offset: u64,
    entries: u32,
) -> Result<Vec<u64>, ImageError> {
    let mut bytes = vec![0; entries as usize * 8];
    let have = file.read(&mut bytes, offset).map_err(ImageError::io("cannot read the L1 table"))?;
    if have < bytes.len() {
        return Err(ImageError::damaged(Format::Qcow2, "an L1 table beyond the file's end"));
    }
    Ok(bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect())
}
