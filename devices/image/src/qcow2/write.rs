//! Writing: in place where a cluster is ours alone, else into a new one that is filled up from
//! what was there before.

use std::io;
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use super::compressed::Packed;
use super::image::Qcow2;
use super::lookup::{Entry, State, damaged};
use super::spec::*;
use super::tables::Tables;
use crate::view::{Image as _, check_range, read_only};

/// Clusters that are made for one request at a time.
const MOST_NEW: u64 = 2 << 20;
/// Clusters that may rest before somebody flushes for them.
const MOST_RESTING: usize = 1 << 16;
/// Zeros that are written at a time.
const ZEROS: u64 = 1 << 20;

/// How the next bytes of a request are written.
enum Plan {
    InPlace { host: u64, len: u64 },
    New(New),
}

/// Clusters being made. Their guest range is busy meanwhile.
struct New {
    /// Whole clusters of the guest.
    guest: Range<u64>,
    /// The first of the clusters in the data file.
    host: u64,
    /// It had that cluster before.
    kept: bool,
    /// The part that is written.
    region: Range<u64>,
    /// File offset of the first entry.
    entry: u64,
}

impl Qcow2 {
    pub(super) fn writable(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.read_only {
            return Err(read_only());
        }
        check_range(offset, len, self.size())?;
        self.before_write()
    }

    pub(super) fn write_range(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.writable(offset, data.len() as u64)?;
        let (mut data, mut offset) = (data, offset);
        while !data.is_empty() {
            let done = self.write_some(data, offset)?;
            data = data.get(done..).unwrap_or_default();
            offset += done as u64;
        }
        self.flush_if_many_rest()
    }

    /// Write some of the first bytes; how many.
    fn write_some(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        let _moving = self.moving();
        match self.plan(offset, data.len() as u64)? {
            Plan::InPlace { host, len } => {
                self.data().write(&data[..len as usize], host)?;
                Ok(len as usize)
            }
            Plan::New(new) => {
                let len = (new.region.end.min(new.guest.end) - offset).min(data.len() as u64);
                let filled = self.fill(&new, &data[..len as usize], offset);
                self.finish(&new, filled)?;
                Ok(len as usize)
            }
        }
    }

    fn plan(&self, offset: u64, len: u64) -> io::Result<Plan> {
        let cluster = self.geometry.cluster;
        let first = offset - offset % cluster;
        let mut tables = self.wait_for(&(first..first + cluster));
        self.check_whole(&tables)?;
        tables.make_room(&*self.file, self.external())?;
        let entry_offset =
            self.own_table(&mut tables, offset)? + self.geometry.entry_offset(offset);
        let entry = self.entry_at(&mut tables, entry_offset)?;
        let unit = self.geometry.unit;
        let state = entry.state(&self.geometry, offset % cluster / unit)?;
        let host = entry.host(&self.geometry).filter(|_| entry.is_copied());
        match (host, state) {
            (Some(_), State::Data) => self.in_place(&mut tables, offset, len),
            (Some(host), _) => {
                self.check_host(&mut tables, host)?;
                // Up to the next unit that has data: others may be writing to that one now.
                let mut end = offset - offset % unit + unit;
                while end < (offset + len).min(first + cluster)
                    && entry.state(&self.geometry, end % cluster / unit)? != State::Data
                {
                    end += unit;
                }
                let guest = first..first + cluster;
                tables.busy.push(guest.clone());
                let region = offset - offset % unit..end;
                Ok(Plan::New(New { guest, host, kept: true, region, entry: entry_offset }))
            }
            (None, _) => self.plan_new(&mut tables, offset, len, entry_offset, entry),
        }
    }

    fn in_place(&self, tables: &mut Tables, offset: u64, len: u64) -> io::Result<Plan> {
        let cluster = self.geometry.cluster;
        let run = self.lookup(tables, offset, len)?;
        let table = self.l2_table(tables, offset)?.ok_or_else(|| damaged("no L2 table"))?;
        let mut at = offset;
        while at < offset + run.len {
            let entry = self.entry_at(tables, table + self.geometry.entry_offset(at))?;
            if !entry.is_copied() {
                break;
            }
            self.check_host(tables, run.host + (at - offset))?;
            at += cluster - at % cluster;
        }
        let len = run.len.min(at - offset);
        if len == 0 {
            return Err(damaged("a cluster that is not ours"));
        }
        Ok(Plan::InPlace { host: run.host, len })
    }

    /// New clusters for the request's first ones.
    fn plan_new(
        &self,
        tables: &mut Tables,
        offset: u64,
        len: u64,
        entry_offset: u64,
        entry: Entry,
    ) -> io::Result<Plan> {
        let cluster = self.geometry.cluster;
        let first = offset - offset % cluster;
        let end = tables.idle_until(&(first..(offset + len).next_multiple_of(cluster)));
        let most = ((end - first) / cluster).min((MOST_NEW / cluster).max(1));
        let bare = |entry: Entry| entry.host(&self.geometry).is_none() && !entry.is_compressed();
        let mut count = 1;
        let piece = tables.l2.piece_size();
        let piece_end = entry_offset - entry_offset % piece + piece;
        // Those that had something before are made one by one.
        while bare(entry) && count < most {
            let next = entry_offset + count * self.geometry.entry;
            if next >= piece_end || !bare(self.entry_at(tables, next)?) {
                break;
            }
            count += 1;
        }
        let (host, count) = if self.geometry.data_file {
            (first, count)
        } else {
            let (start, got) = tables.refcounts()?.allocate(&*self.file, count)?;
            (start << self.geometry.cluster_bits, got)
        };
        let guest = first..first + count * cluster;
        tables.busy.push(guest.clone());
        let region = if self.geometry.extended && bare(entry) {
            let unit = self.geometry.unit;
            let end = (offset + len).min(guest.end).next_multiple_of(unit);
            offset - offset % unit..end
        } else if self.geometry.data_file {
            // A raw disk by itself, which is to keep its size.
            first..guest.end.min(self.size().max(offset + len))
        } else {
            guest.clone()
        };
        Ok(Plan::New(New { guest, host, kept: false, region, entry: entry_offset }))
    }

    /// Write the data and, around it, what was there before.
    fn fill(&self, new: &New, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let host = new.host + (new.region.start - new.guest.start);
        if new.region == (offset..end) {
            return self.data().write(data, host);
        }
        let (head, len) = (offset - new.region.start, new.region.end - new.region.start);
        let mut all = vec![0; len as usize];
        let (before, rest) = all.split_at_mut(head as usize);
        let (middle, after) = rest.split_at_mut(data.len());
        self.read_any(before, new.region.start)?;
        middle.copy_from_slice(data);
        self.read_any(after, end)?;
        self.data().write(&all, host)
    }

    /// The tables name the new clusters from now on, or nobody does.
    fn finish(&self, new: &New, filled: io::Result<()>) -> io::Result<()> {
        let mut tables = self.tables();
        let result = filled.and_then(|()| self.link(&mut tables, new));
        if result.is_err() && !new.kept && !self.geometry.data_file {
            let bits = self.geometry.cluster_bits;
            let count = (new.guest.end - new.guest.start) >> bits;
            for cluster in (new.host >> bits)..(new.host >> bits) + count {
                // It was never used; at worst it is lost until the next check.
                let _ = tables.refcounts().and_then(|it| it.release(&*self.file, cluster));
            }
        }
        tables.busy.retain(|busy| *busy != new.guest);
        drop(tables);
        self.idle.notify_all();
        result
    }

    fn link(&self, tables: &mut Tables, new: &New) -> io::Result<()> {
        let cluster = self.geometry.cluster;
        tables.make_room(&*self.file, self.external())?;
        let mut guest = new.guest.start;
        let mut entry_offset = new.entry;
        while guest < new.guest.end {
            let old = self.entry_at(tables, entry_offset)?;
            let mut entry =
                Entry { word: (new.host + (guest - new.guest.start)) | COPIED, bitmap: 0 };
            if self.geometry.extended {
                let unit = |at: u64| at.saturating_sub(guest).min(cluster) / self.geometry.unit;
                let written = mask(unit(new.region.start)..unit(new.region.end));
                let before = if old.is_compressed() { 0 } else { old.bitmap };
                entry.bitmap = (before | written) & !(written << 32);
            }
            self.set_entry(tables, entry_offset, entry)?;
            if !new.kept {
                self.rest(tables, old);
            }
            guest += cluster;
            entry_offset += self.geometry.entry;
        }
        Ok(())
    }

    /// What an entry held is given back once the tables are durable.
    pub(super) fn rest(&self, tables: &mut Tables, old: Entry) {
        if self.geometry.data_file {
            return;
        }
        let bits = self.geometry.cluster_bits;
        if old.is_compressed() {
            tables.resting.extend(Packed::new(old.word, bits).clusters(bits));
        } else if let Some(host) = old.host(&self.geometry) {
            tables.resting.push(host >> bits);
        }
    }

    /// The tables, once nobody works on these clusters.
    pub(super) fn wait_for(&self, range: &Range<u64>) -> MutexGuard<'_, Tables> {
        let mut tables = self.tables();
        while tables.is_busy(range) {
            tables = self.idle.wait(tables).unwrap_or_else(PoisonError::into_inner);
        }
        tables
    }

    pub(super) fn check_whole(&self, tables: &Tables) -> io::Result<()> {
        if tables.broken {
            return Err(damaged("a contradiction was found in it before; repair it first"));
        }
        Ok(())
    }

    /// Data goes to no cluster that holds a table.
    fn check_host(&self, tables: &mut Tables, host: u64) -> io::Result<()> {
        if self.geometry.data_file || !tables.refcounts()?.is_protected(host) {
            return Ok(());
        }
        Err(self.contradiction(tables, format!("data over a table at {host:#x}")))
    }

    /// Say in the header that the image is corrupt, and write to it no more.
    pub(super) fn contradiction(&self, tables: &mut Tables, what: String) -> io::Error {
        if !tables.broken {
            tables.broken = true;
            tracing::error!(what, "the image is corrupt and is not written to any more");
            if tables.header.version >= 3 {
                tables.header.incompatible |= INCOMPATIBLE_CORRUPT;
                let written = self.file.write(&tables.header.incompatible.to_be_bytes(), 72);
                if let Err(error) = written.and_then(|()| self.file.sync()) {
                    tracing::error!(%error, "cannot mark the image as corrupt");
                }
            }
        }
        damaged(what)
    }

    /// The offset of the L2 table for `guest`, made or copied if it is not ours alone.
    pub(super) fn own_table(&self, tables: &mut Tables, guest: u64) -> io::Result<u64> {
        let index = (guest / self.geometry.coverage) as usize;
        let old = self.l2_table(tables, guest)?;
        let entry = tables.l1.get(index).copied().unwrap_or(0);
        if let Some(offset) = old.filter(|_| entry & COPIED != 0) {
            return Ok(offset);
        }
        let cluster = self.geometry.cluster;
        let start = tables.refcounts()?.allocate_exactly(&*self.file, 1)?;
        let offset = start << self.geometry.cluster_bits;
        tables.l2.forget(offset, cluster);
        match old {
            None => self.file.write_zeroes(offset, cluster, false)?,
            Some(old) => {
                // Tables that others use too are never changed: the file has them as they are.
                let mut table = vec![0; cluster as usize];
                self.file.read(&mut table, old)?;
                self.file.write(&table, offset)?;
                tables.resting.push(old >> self.geometry.cluster_bits);
            }
        }
        tables.refcounts()?.protect(offset, cluster);
        if let Some(entry) = tables.l1.get_mut(index) {
            *entry = offset | COPIED;
        }
        tables.l1_dirty.insert(index);
        Ok(offset)
    }

    pub(super) fn zero_range(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.writable(offset, len)?;
        let end = offset + len;
        let unit = self.geometry.unit;
        // The guest's last unit may reach beyond the image's end.
        let last = if end == self.size() { end.next_multiple_of(unit) } else { end - end % unit };
        let first = offset.next_multiple_of(unit);
        // A raw data file must read as zeros by itself; version 2 has no mark for zeros.
        let marks = self.geometry.version >= 3 || self.backing.is_none() && unmap;
        if first >= last || self.geometry.raw_data_file || !marks {
            return self.write_zeros(offset, end);
        }
        self.write_zeros(offset, first.min(end))?;
        self.change_clusters(first, last, |entry, units| self.zeroed(entry, units, unmap))?;
        self.write_zeros(last.min(end), end)?;
        self.flush_if_many_rest()
    }

    pub(super) fn discard_range(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable(offset, len)?;
        let end = offset + len;
        let unit = self.geometry.unit;
        let last = if end == self.size() { end.next_multiple_of(unit) } else { end - end % unit };
        let first = offset.next_multiple_of(unit);
        if self.geometry.raw_data_file {
            return self.data().discard(offset, len);
        }
        // What lies below must not show through again.
        if first >= last || self.geometry.version < 3 && self.backing.is_some() {
            return Ok(());
        }
        self.change_clusters(first, last, |entry, units| {
            let nothing = entry == Entry::default() && self.backing.is_none();
            if nothing { entry } else { self.zeroed(entry, units, true) }
        })?;
        self.flush_if_many_rest()
    }

    /// An entry whose units read as zeros.
    fn zeroed(&self, entry: Entry, units: Range<u64>, unmap: bool) -> Entry {
        let all = units == (0..self.geometry.cluster / self.geometry.unit);
        let host = entry.host(&self.geometry).filter(|_| entry.is_copied());
        if self.geometry.version < 3 {
            return Entry::default();
        }
        let kept = match host {
            Some(host) if !(all && unmap) => host | COPIED,
            _ => 0,
        };
        if !self.geometry.extended {
            return Entry { word: kept | ZERO, bitmap: 0 };
        }
        if all {
            return Entry { word: kept, bitmap: mask(0..SUBCLUSTERS) << 32 };
        }
        let zero = mask(units);
        Entry { word: entry.word, bitmap: entry.bitmap & !zero | zero << 32 }
    }

    /// Change the entries for `first..last`, whole units; `change` gets an entry and the units that
    /// it is about.
    fn change_clusters(
        &self,
        first: u64,
        last: u64,
        change: impl Fn(Entry, Range<u64>) -> Entry,
    ) -> io::Result<()> {
        let cluster = self.geometry.cluster;
        let mut at = first;
        while at < last {
            let start = at - at % cluster;
            let stop = last.min(start + cluster);
            // A write of data to part of a compressed cluster unpacks it.
            if stop - at < cluster && self.is_packed(at)? {
                self.write_zeros(at, stop.min(self.size()))?;
                at = stop;
                continue;
            }
            let _moving = self.moving();
            let mut tables = self.wait_for(&(start..start + cluster));
            self.check_whole(&tables)?;
            tables.make_room(&*self.file, self.external())?;
            if self.l2_table(&tables, at)?.is_none() && self.backing.is_none() {
                // A whole table of nothing.
                at = last.min(at - at % self.geometry.coverage + self.geometry.coverage);
                continue;
            }
            let offset = self.own_table(&mut tables, at)? + self.geometry.entry_offset(at);
            let old = self.entry_at(&mut tables, offset)?;
            old.state(&self.geometry, 0)?;
            let units = (at - start) / self.geometry.unit..(stop - start) / self.geometry.unit;
            let new = change(old, units);
            if new != old {
                self.set_entry(&mut tables, offset, new)?;
                let (was, is) = (old.host(&self.geometry), new.host(&self.geometry));
                if old.is_compressed() || was != is {
                    self.rest(&mut tables, old);
                }
            }
            at = stop;
        }
        Ok(())
    }

    fn is_packed(&self, guest: u64) -> io::Result<bool> {
        let run = self.lookup(&mut self.tables(), guest, 1)?;
        Ok(run.state == State::Compressed)
    }

    /// Zeros as data, but where it reads as zeros already.
    fn write_zeros(&self, offset: u64, end: u64) -> io::Result<()> {
        let mut at = offset;
        while at < end {
            let run = self.map(at, end - at)?;
            if run.is_zero() && !self.geometry.raw_data_file {
                at += run.len;
                continue;
            }
            let part = run.len.min(ZEROS);
            self.write_range(&vec![0; part as usize], at)?;
            at += part;
        }
        Ok(())
    }

    fn flush_if_many_rest(&self) -> io::Result<()> {
        if self.tables().resting.len() > MOST_RESTING {
            return self.flush();
        }
        Ok(())
    }
}

/// Bits for these units.
fn mask(units: Range<u64>) -> u64 {
    let below = |unit: u64| if unit >= 32 { u64::from(u32::MAX) } else { (1 << unit) - 1 };
    below(units.end) & !below(units.start)
}
