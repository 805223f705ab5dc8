//! [`Rewrite`]: counts and tables as they are to be, made beside those that are in use.
//!
//! ```text
//! header ─→ L1, L2 …, refcount table ─→ blocks …, snapshot table      in use: nothing of it is touched
//!      ╌╌→ L1, L2 …, refcount table ─→ blocks …, snapshot table      new, in clusters that were free
//! ```
//!
//! One write of the header, which fits a sector, then leads from one set to the other: whenever
//! the host stops, the image is whole, and either as it was or as it was to become. No count, and no
//! "copied" flag that follows from a count, is wrong in between. What only the old set used counts
//! as free in the new one, and nothing is put there before the new set is durable.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::ops::Range;

use super::compressed::Packed;
use super::header::Header;
use super::lookup::{Entry, Geometry, State};
use super::refcount::{Refcounts, count_at, put_count};
use super::spec::*;
use crate::bytes::{be64, put};
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Bytes of L2 tables that are read for one change: of 32 TiB in clusters of the usual size. A guest
/// may stand still meanwhile.
const MOST_TABLES: u64 = 4 << 30;
/// Bytes of refcount blocks held at a time: of 8 TiB.
const MOST_BLOCKS: u64 = 256 << 20;

pub(super) struct Rewrite<'a> {
    file: &'a dyn Storage,
    geometry: Geometry,
    /// As they are, all of them in the file.
    refcounts: &'a mut Refcounts,
    /// Those blocks that become others, by their place in the table.
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// No cluster before this one is free.
    cursor: u64,
    tables_left: u64,
}

/// What becomes of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uses {
    More,
    Less,
}

/// Where the new reference counts are.
pub(super) struct Placed {
    pub(super) table_offset: u64,
    pub(super) table_clusters: u32,
    /// Clusters that were in use and are free now.
    pub(super) freed: Vec<Range<u64>>,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(
        file: &'a dyn Storage,
        geometry: Geometry,
        refcounts: &'a mut Refcounts,
    ) -> Self {
        let cursor = refcounts.first_free();
        let tables_left = MOST_TABLES;
        Self { file, geometry, refcounts, blocks: BTreeMap::new(), cursor, tables_left }
    }

    /// One user more, or less, of everything that is reached from an L1 table: L2 tables and data.
    pub(super) fn shift(&mut self, l1: &[u64], uses: Uses) -> io::Result<()> {
        let bits = self.geometry.cluster_bits;
        let mut seen = HashSet::new();
        for word in l1 {
            let Some(table) = self.table_of(*word)? else { continue };
            if !seen.insert(table) {
                return Err(damaged(format!("the L2 table at {table:#x} is used twice")));
            }
            self.count_use(table >> bits, uses)?;
            let bytes = self.read_table(table)?;
            for entry in entries(&bytes, self.geometry) {
                if entry.state(&self.geometry, 0)? == State::Compressed {
                    for cluster in Packed::new(entry.word, bits).clusters(bits) {
                        self.count_use(cluster, uses)?;
                    }
                } else if let Some(host) = entry.host(&self.geometry) {
                    self.count_use(host >> bits, uses)?;
                }
            }
        }
        Ok(())
    }

    /// One user less of a table of so many bytes.
    pub(super) fn drop_table(&mut self, offset: u64, len: u64) -> io::Result<()> {
        for cluster in clusters(offset, len, self.geometry.cluster_bits) {
            self.count_use(cluster, Uses::Less)?;
        }
        Ok(())
    }

    /// The L1 table that the disk has from now on, whose uses are counted already: every flag in it,
    /// and in the L2 tables it leads to, says what the counts say.
    pub(super) fn adopt(&mut self, mut l1: Vec<u64>) -> io::Result<Vec<u64>> {
        let bits = self.geometry.cluster_bits;
        for word in &mut l1 {
            let Some(mut table) = self.table_of(*word)? else { continue };
            let mut bytes = self.read_table(table)?;
            if self.set_flags(&mut bytes)? {
                self.count_use(table >> bits, Uses::Less)?;
                table = self.put_table(&bytes)?;
            }
            let once = self.count(table >> bits)? == 1;
            *word = if once { table | COPIED } else { table };
        }
        Ok(l1)
    }

    /// Whether a flag had to be changed.
    fn set_flags(&mut self, table: &mut [u8]) -> io::Result<bool> {
        let (bits, step) = (self.geometry.cluster_bits, self.geometry.entry as usize);
        let mut changed = false;
        for at in (0..table.len()).step_by(step) {
            let word = be64(table, at);
            let entry = Entry { word, bitmap: 0 };
            let Some(host) = entry.host(&self.geometry) else { continue };
            let flag = match self.count(host >> bits)? {
                0 => return Err(damaged(format!("the cluster at {host:#x} counts as free"))),
                1 => COPIED,
                _ => 0,
            };
            let right = word & !COPIED | flag;
            if right != word {
                put(table, at, &right.to_be_bytes());
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Write a table into new clusters.
    pub(super) fn put_table(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let count = (bytes.len() as u64).div_ceil(self.geometry.cluster).max(1);
        let offset = self.allocate(count)? << self.geometry.cluster_bits;
        self.write_whole(bytes, offset)?;
        Ok(offset)
    }

    pub(super) fn put_words(&mut self, words: &[u64]) -> io::Result<u64> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.put_table(&bytes)
    }

    /// Whole clusters are written: whatever lay there before does not follow the table.
    fn write_whole(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let whole = bytes.len().next_multiple_of(self.geometry.cluster as usize);
        if whole == bytes.len() {
            return self.file.write(bytes, offset);
        }
        let mut padded = bytes.to_vec();
        padded.resize(whole, 0);
        self.file.write(&padded, offset)
    }

    /// Write the counts, after everything else: blocks that changed, and a table that leads to them.
    pub(super) fn place(mut self, header: &Header) -> io::Result<Placed> {
        let cluster = self.geometry.cluster;
        let bits = self.geometry.cluster_bits;
        let old_len = self.refcounts.table_clusters() * cluster;
        self.drop_table(self.refcounts.table_offset, old_len)?;
        // Places of blocks take clusters, whose counts may be in blocks that had not changed so far.
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        let mut table_clusters = self.refcounts.table_clusters();
        let table_offset = loop {
            self.place_blocks(&mut places)?;
            let last = places.keys().next_back().map_or(0, |last| last + 1);
            table_clusters = table_clusters.max((last * 8).div_ceil(cluster));
            let start = self.allocate(table_clusters)?;
            self.place_blocks(&mut places)?;
            if places.keys().next_back().is_none_or(|last| *last < table_clusters * cluster / 8) {
                break start << bits;
            }
            // The table's own place is beyond what it could count.
            self.drop_table(start << bits, table_clusters * cluster)?;
        };
        if table_clusters * cluster > MOST_REFCOUNT_TABLE_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut table = self.refcounts.table().to_vec();
        table.resize((table_clusters * cluster / 8) as usize, 0);
        for (index, place) in &places {
            if let Some(entry) = table.get_mut(*index as usize) {
                *entry = place << bits;
            }
            if let Some(block) = self.blocks.get(index) {
                self.file.write(block, place << bits)?;
            }
        }
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.file.write(&bytes, table_offset)?;
        let freed = self.freed(header)?;
        Ok(Placed { table_offset, table_clusters: table_clusters as u32, freed })
    }

    /// A place for each block that changed and has none yet; what it was in is free.
    fn place_blocks(&mut self, places: &mut BTreeMap<u64, u64>) -> io::Result<()> {
        while let Some(index) = self.blocks.keys().copied().find(|it| !places.contains_key(it)) {
            let place = self.allocate(1)?;
            places.insert(index, place);
            let old = self.refcounts.table().get(index as usize).copied().unwrap_or(0);
            if old != 0 {
                self.count_use(old >> self.geometry.cluster_bits, Uses::Less)?;
            }
        }
        Ok(())
    }

    fn freed(&mut self, header: &Header) -> io::Result<Vec<Range<u64>>> {
        let mut freed: Vec<Range<u64>> = Vec::new();
        let per_block = self.refcounts.per_block();
        let order = header.refcount_order;
        for (index, block) in &self.blocks {
            self.refcounts.make_room(self.file)?;
            for (nth, cluster) in (index * per_block..).take(per_block as usize).enumerate() {
                let (at, shift) = place_in(nth as u64, order);
                if count_at(block, at, shift, order) != 0
                    || self.refcounts.get(self.file, cluster)? == 0
                {
                    continue;
                }
                match freed.last_mut() {
                    Some(run) if run.end == cluster => run.end += 1,
                    _ => freed.push(cluster..cluster + 1),
                }
            }
        }
        Ok(freed)
    }

    fn table_of(&self, word: u64) -> io::Result<Option<u64>> {
        let table = word & OFFSET;
        if word & L1_RESERVED != 0 || !table.is_multiple_of(self.geometry.cluster) {
            return Err(damaged(format!("an L1 entry of {word:#x}")));
        }
        Ok((table != 0).then_some(table))
    }

    fn read_table(&mut self, offset: u64) -> io::Result<Vec<u8>> {
        let cluster = self.geometry.cluster;
        self.tables_left = self.tables_left.checked_sub(cluster).ok_or_else(too_large)?;
        read_cluster(self.file, offset, cluster)
    }

    fn count(&mut self, cluster: u64) -> io::Result<u64> {
        let per_block = self.refcounts.per_block();
        if let Some(block) = self.blocks.get(&(cluster / per_block)) {
            let order = self.refcounts.order();
            let (at, shift) = place_in(cluster % per_block, order);
            return Ok(count_at(block, at, shift, order));
        }
        self.refcounts.make_room(self.file)?;
        self.refcounts.get(self.file, cluster)
    }

    fn count_use(&mut self, cluster: u64, uses: Uses) -> io::Result<()> {
        let count = self.count(cluster)?;
        let new = match uses {
            _ if count == 0 => {
                return Err(damaged(format!("cluster {cluster}, which is in use, counts as free")));
            }
            Uses::Less => count - 1,
            Uses::More if count < self.refcounts.most() => count + 1,
            Uses::More => {
                let most = self.refcounts.most();
                let text = format!(
                    "the image counts the users of a cluster up to {most}, which is too little for \
                     one more snapshot; delete one, or copy the image into one with larger counts \
                     (refcount_bits)"
                );
                return Err(ImageError::Invalid(text).into());
            }
        };
        self.set(cluster, new)
    }

    fn set(&mut self, cluster: u64, count: u64) -> io::Result<()> {
        let per_block = self.refcounts.per_block();
        let index = cluster / per_block;
        if !self.blocks.contains_key(&index) {
            if (self.blocks.len() as u64 + 1) * self.geometry.cluster > MOST_BLOCKS {
                return Err(too_large());
            }
            let old = self.refcounts.table().get(index as usize).copied().unwrap_or(0);
            let block = match old {
                0 => vec![0; self.geometry.cluster as usize],
                offset => read_cluster(self.file, offset, self.geometry.cluster)?,
            };
            self.blocks.insert(index, block.into_boxed_slice());
        }
        let order = self.refcounts.order();
        let (at, shift) = place_in(cluster % per_block, order);
        if let Some(block) = self.blocks.get_mut(&index) {
            put_count(block, at, shift, order, count);
        }
        Ok(())
    }

    /// Clusters that follow each other, and that neither the old tables use nor the new ones.
    fn allocate(&mut self, count: u64) -> io::Result<u64> {
        let last = OFFSET >> self.geometry.cluster_bits;
        let (mut start, mut at) = (self.cursor, self.cursor);
        while at - start < count {
            if at >= last {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.refcounts.make_room(self.file)?;
            let used = self.refcounts.get(self.file, at)? != 0 || self.count(at)? != 0;
            if used {
                start = at + 1;
            } else if self.refcounts.is_protected(at << self.geometry.cluster_bits) {
                return Err(damaged(format!("a table in cluster {at}, which counts as free")));
            }
            at += 1;
        }
        for cluster in start..at {
            self.set(cluster, 1)?;
        }
        if count == 1 {
            self.cursor = at;
        }
        Ok(start)
    }
}

/// The byte of a block, and the bits in it.
fn place_in(nth: u64, order: u32) -> (usize, u32) {
    let bit = nth << order;
    ((bit / 8) as usize, (bit % 8) as u32)
}

fn clusters(offset: u64, len: u64, bits: u32) -> Range<u64> {
    offset >> bits..offset.saturating_add(len).div_ceil(1 << bits)
}

fn entries(table: &[u8], geometry: Geometry) -> impl Iterator<Item = Entry> {
    let extended = geometry.extended;
    table.chunks_exact(geometry.entry as usize).map(move |entry| Entry {
        word: be64(entry, 0),
        bitmap: if extended { be64(entry, 8) } else { 0 },
    })
}

fn read_cluster(file: &dyn Storage, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    if file.read(&mut bytes, offset)? == 0 {
        return Err(damaged(format!("a table at {offset:#x}, beyond the file's end")));
    }
    Ok(bytes)
}

fn too_large() -> io::Error {
    let text = "the image's tables are too large to be changed at once".to_owned();
    ImageError::Invalid(text).into()
}

fn damaged(what: impl Into<String>) -> io::Error {
    ImageError::damaged(Format::Qcow2, what).into()
}
