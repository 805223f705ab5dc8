//! [`Refcounts`]: how often each cluster of the file is used, and finding clusters that are not.

use std::collections::HashSet;
use std::io;
use std::ops::Range;

use super::cache::TableCache;
use super::header::Header;
use super::spec::*;
use crate::bytes::{be64, put};
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Bytes of refcount blocks that are kept at hand.
const CACHE: u64 = 2 << 20;

#[derive(Debug)]
pub(super) struct Refcounts {
    order: u32,
    cluster_bits: u32,
    /// Offsets of the blocks; 0: every count in it is 0.
    table: Vec<u64>,
    pub(super) table_offset: u64,
    blocks: TableCache,
    /// No cluster before this one is free.
    first_free: u64,
    /// Clusters with tables in them, which no data may be written to whatever the counts say.
    protected: HashSet<u64>,
}

impl Refcounts {
    pub(super) fn read(file: &dyn Storage, header: &Header) -> Result<Self, ImageError> {
        let damaged = |what: String| ImageError::damaged(Format::Qcow2, what);
        let len = (u64::from(header.refcount_table_clusters) << header.cluster_bits) as usize;
        let mut bytes = vec![0; len];
        let unreadable = ImageError::io("cannot read the refcount table");
        if file.read(&mut bytes, header.refcount_table_offset).map_err(unreadable)? == 0 {
            return Err(damaged("a refcount table beyond the file's end".into()));
        }
        let table: Vec<u64> = bytes.chunks_exact(8).map(|entry| be64(entry, 0)).collect();
        let mut seen = HashSet::new();
        for offset in table.iter().filter(|offset| **offset != 0) {
            // One block for many clusters would be an endless search for a free one.
            if !seen.insert(*offset) {
                return Err(damaged(format!("a refcount block at {offset:#x} that is used twice")));
            }
            if offset & REFCOUNT_TABLE_RESERVED != 0 {
                return Err(damaged(format!("a refcount table entry of {offset:#x}")));
            }
            header.check_place("refcount block", *offset, header.cluster_size())?;
        }
        Ok(Self {
            order: header.refcount_order,
            cluster_bits: header.cluster_bits,
            table,
            table_offset: header.refcount_table_offset,
            blocks: TableCache::new(header.cluster_size(), CACHE),
            first_free: 0,
            protected: HashSet::new(),
        })
    }

    pub(super) fn table(&self) -> &[u64] {
        &self.table
    }

    pub(super) fn table_clusters(&self) -> u64 {
        (self.table.len() as u64 * 8) >> self.cluster_bits
    }

    pub(super) fn protect(&mut self, offset: u64, len: u64) {
        self.protected.extend(clusters_of(offset, len, self.cluster_bits));
    }

    pub(super) fn unprotect(&mut self, offset: u64, len: u64) {
        for cluster in clusters_of(offset, len, self.cluster_bits) {
            self.protected.remove(&cluster);
        }
    }

    pub(super) fn is_protected(&self, offset: u64) -> bool {
        self.protected.contains(&(offset >> self.cluster_bits))
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Counts in one block.
    pub(super) fn per_block(&self) -> u64 {
        1 << (self.cluster_bits + 3 - self.order)
    }

    /// The largest count there is.
    pub(super) fn most(&self) -> u64 {
        most(self.order)
    }

    pub(super) fn order(&self) -> u32 {
        self.order
    }

    pub(super) fn first_free(&self) -> u64 {
        self.first_free
    }

    /// The place of a cluster's count: the byte in the file, and the bits in it.
    fn place(&self, cluster: u64) -> Option<(u64, u32)> {
        let (block, byte, shift) = place_of(cluster, self.cluster_bits, self.order);
        let offset =
            *self.table.get(usize::try_from(block).ok()?).filter(|offset| **offset != 0)?;
        Some((offset + byte, shift))
    }

    pub(super) fn get(&mut self, file: &dyn Storage, cluster: u64) -> io::Result<u64> {
        let Some((offset, shift)) = self.place(cluster) else { return Ok(0) };
        let at = (offset % self.blocks.piece_size()) as usize;
        let order = self.order;
        Ok(count_at(self.blocks.piece(file, offset)?, at, shift, order))
    }

    /// Its block is there.
    pub(super) fn set(&mut self, file: &dyn Storage, cluster: u64, count: u64) -> io::Result<()> {
        let (offset, shift) = self.place(cluster).ok_or_else(|| damaged("no refcount block"))?;
        let (order, most) = (self.order, self.most());
        if count > most {
            return Err(damaged("a cluster used more often than its count can say"));
        }
        self.blocks.change(file, offset, |piece, at| put_count(piece, at, shift, order, count))?;
        if count == 0 {
            self.first_free = self.first_free.min(cluster);
        }
        Ok(())
    }

    /// One user less of a cluster.
    pub(super) fn release(&mut self, file: &dyn Storage, cluster: u64) -> io::Result<()> {
        self.make_room(file)?;
        match self.get(file, cluster)? {
            // Counted wrongly before us: nothing is lost by leaving it so.
            0 => Ok(()),
            count => self.set(file, cluster, count - 1),
        }
    }

    /// Up to `most` clusters that follow each other, each used once from now on.
    pub(super) fn allocate(&mut self, file: &dyn Storage, most: u64) -> io::Result<(u64, u64)> {
        loop {
            let (start, count) = self.find(file, self.first_free, 1, most)?;
            if !self.cover(file, start, count)? {
                self.take(file, start, count)?;
                self.first_free = start + count;
                return Ok((start, count));
            }
        }
    }

    /// `count` clusters that follow each other.
    pub(super) fn allocate_exactly(&mut self, file: &dyn Storage, count: u64) -> io::Result<u64> {
        loop {
            let (start, _) = self.find(file, self.first_free, count, count)?;
            if !self.cover(file, start, count)? {
                self.take(file, start, count)?;
                return Ok(start);
            }
        }
    }

    fn take(&mut self, file: &dyn Storage, start: u64, count: u64) -> io::Result<()> {
        for cluster in start..start + count {
            if self.protected.contains(&cluster) {
                return Err(damaged("a table in a cluster that counts as free"));
            }
        }
        for cluster in start..start + count {
            self.set(file, cluster, 1)?;
        }
        Ok(())
    }

    /// The first run of at least `least` free clusters, cut to `most`.
    fn find(
        &mut self,
        file: &dyn Storage,
        from: u64,
        least: u64,
        most: u64,
    ) -> io::Result<(u64, u64)> {
        let last = OFFSET >> self.cluster_bits;
        let (mut start, mut at) = (from, from);
        while at - start < most {
            if at >= last {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if at.is_multiple_of(4096) {
                self.make_room(file)?;
            }
            if self.get(file, at)? != 0 {
                if at - start >= least {
                    break;
                }
                start = at + 1;
            }
            at += 1;
        }
        Ok((start, at - start))
    }

    /// See to it that every cluster of the range has a place for its count. True if something had
    /// to be made for that, which took clusters itself.
    pub(super) fn cover(&mut self, file: &dyn Storage, start: u64, count: u64) -> io::Result<bool> {
        let mut made = false;
        for block in start / self.per_block()..=(start + count - 1) / self.per_block() {
            let index = usize::try_from(block).map_err(|_| io::ErrorKind::StorageFull)?;
            if index >= self.table.len() {
                self.grow_table(file, index)?;
                made = true;
            } else if self.table[index] == 0 {
                self.make_block(file, index)?;
                made = true;
            }
        }
        Ok(made)
    }

    /// A block in the first of the clusters that it counts: until now all of them were free.
    fn make_block(&mut self, file: &dyn Storage, index: usize) -> io::Result<()> {
        let cluster = index as u64 * self.per_block();
        if self.protected.contains(&cluster) {
            return Err(damaged("a table in a cluster that counts as free"));
        }
        let offset = cluster << self.cluster_bits;
        file.write_zeroes(offset, self.cluster_size(), false)?;
        self.blocks.forget(offset, self.cluster_size());
        self.table[index] = offset;
        self.protected.insert(cluster);
        let counted = self.set(file, cluster, 1).and_then(|()| self.blocks.write_back(file));
        if let Err(error) = counted.and_then(|()| file.sync()) {
            self.table[index] = 0;
            self.protected.remove(&cluster);
            return Err(error);
        }
        file.write(&offset.to_be_bytes(), self.table_offset + index as u64 * 8)
    }

    /// A longer table, behind everything the old one could count, with blocks that count itself.
    fn grow_table(&mut self, file: &dyn Storage, index: usize) -> io::Result<()> {
        let per_cluster = self.cluster_size() / 8;
        let old = self.table.len() as u64;
        let wanted = (index as u64 + 1).max(old + old / 2);
        let first = old * self.per_block();
        // Table and blocks take clusters, which need counts, which need blocks and entries.
        let (mut blocks, mut clusters) = (1, 1);
        let needed = loop {
            let entries = wanted.max(old + blocks).next_multiple_of(per_cluster);
            if entries * 8 > MOST_REFCOUNT_TABLE_BYTES {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let (fit_clusters, fit_blocks) =
                (entries / per_cluster, (blocks + clusters).div_ceil(self.per_block()));
            if fit_clusters <= clusters && fit_blocks <= blocks {
                break entries;
            }
            (blocks, clusters) = (blocks.max(fit_blocks), clusters.max(fit_clusters));
        };
        let mut table = self.table.clone();
        table.extend((0..blocks).map(|n| (first + n) << self.cluster_bits));
        table.resize(needed as usize, 0);
        let used = blocks + clusters;
        file.write_zeroes(first << self.cluster_bits, used << self.cluster_bits, false)?;
        let (old_table, old_offset) = (self.table.clone(), self.table_offset);
        self.table = table;
        self.protect(first << self.cluster_bits, used << self.cluster_bits);
        for cluster in first..first + used {
            self.set(file, cluster, 1)?;
        }
        self.blocks.write_back(file)?;
        let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        let offset = (first + blocks) << self.cluster_bits;
        file.write(&bytes, offset)?;
        file.sync()?;
        // Both fields at once.
        let mut fields = [0; 12];
        put(&mut fields, 0, &offset.to_be_bytes());
        put(&mut fields, 8, &(clusters as u32).to_be_bytes());
        file.write(&fields, 48)?;
        file.sync()?;
        self.table_offset = offset;
        let old_len = old_table.len() as u64 * 8;
        self.unprotect(old_offset, old_len);
        for cluster in
            (old_offset >> self.cluster_bits)..(old_offset + old_len) >> self.cluster_bits
        {
            self.release(file, cluster)?;
        }
        Ok(())
    }

    pub(super) fn make_room(&mut self, file: &dyn Storage) -> io::Result<()> {
        if self.blocks.is_full() {
            self.blocks.write_back(file)?;
            self.blocks.shrink();
        }
        Ok(())
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.blocks.is_dirty()
    }

    pub(super) fn write_back(&mut self, file: &dyn Storage) -> io::Result<()> {
        self.blocks.write_back(file)
    }
}

/// The clusters that these bytes lie in.
pub(super) fn clusters_of(offset: u64, len: u64, cluster_bits: u32) -> Range<u64> {
    (offset >> cluster_bits)..offset.saturating_add(len).div_ceil(1 << cluster_bits)
}

/// Where the count of a cluster is: the block, the byte in it, and how many bits up in that byte.
pub(super) fn place_of(cluster: u64, cluster_bits: u32, order: u32) -> (u64, u64, u32) {
    let per_block = 1 << (cluster_bits + 3 - order);
    let bit = (cluster % per_block) << order;
    (cluster / per_block, bit / 8, (bit % 8) as u32)
}

pub(super) fn most(order: u32) -> u64 {
    match order {
        6 => u64::MAX,
        order => (1 << (1_u64 << order)) - 1,
    }
}

/// A count of 2^`order` bits in a block; the smaller ones share a byte, and lie `shift` bits up in it.
pub(super) fn count_at(block: &[u8], at: usize, shift: u32, order: u32) -> u64 {
    match order {
        0..=2 => u64::from(block[at] >> shift) & most(order),
        _ => {
            let width = 1 << (order - 3);
            block[at..at + width].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        }
    }
}

pub(super) fn put_count(block: &mut [u8], at: usize, shift: u32, order: u32, count: u64) {
    match order {
        0..=2 => {
            let mask = (most(order) as u8) << shift;
            block[at] = block[at] & !mask | (count as u8) << shift;
        }
        _ => {
            let width = 1 << (order - 3);
            put(block, at, &count.to_be_bytes()[8 - width..]);
        }
    }
}

fn damaged(what: &str) -> io::Error {
    ImageError::damaged(Format::Qcow2, what).into()
}
