//! Checking an image: counting how often each cluster is really used, and comparing.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::bitmap;
use super::cache::TableCache;
use super::compressed::Packed;
use super::header::Header;
use super::lookup::{Entry, Geometry, State};
use super::refcount::Refcounts;
use super::snapshot;
use super::spec::*;
use super::tables::read_l1;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

/// Messages that are kept; what follows is counted only.
const MOST_MESSAGES: usize = 100;
/// Counts that are allocated together.
const CHUNK: u64 = 1024;

/// What may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    Nothing,
    /// Clusters that nothing uses are free again, and those that one user is left of are its own.
    Leaks,
    /// Counts that are too low, too, and flags that follow from them.
    All,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Contradictions that may cost data.
    pub corruptions: u64,
    /// Clusters that nothing uses and that count as used.
    pub leaks: u64,
    pub corruptions_fixed: u64,
    pub leaks_fixed: u64,
    pub total_clusters: u64,
    pub allocated_clusters: u64,
    pub compressed_clusters: u64,
    /// The first byte behind all clusters in use.
    pub end: u64,
    /// What was found, the first hundred.
    pub messages: Vec<String>,
}

/// What counting may cost while a guest waits for its disk: bytes of tables that are read, and
/// [`CHUNK`]s of counts. Enough for half a terabyte in clusters of 64 KiB.
const AT_OPEN: Budget = Budget { tables: 64 << 20, chunks: 8192 };

/// Bounds of a check. An image may claim what it likes.
#[derive(Debug, Clone, Copy)]
struct Budget {
    tables: u64,
    chunks: usize,
}

impl Budget {
    /// A person waits, and can stop waiting.
    const NONE: Self = Self { tables: u64::MAX, chunks: usize::MAX };
}

/// Check the image, and repair it.
///
/// # Errors
/// When the image cannot be read so far that there is anything to check.
pub fn check(file: &dyn Storage, repair: Repair) -> Result<CheckReport, ImageError> {
    let mut header = Header::read(file)?;
    let run = |header: &Header, repair| Check::run(file, header, repair, Budget::NONE);
    let before = run(&header, Repair::Nothing)?;
    if repair == Repair::Nothing || before.corruptions + before.leaks == 0 && is_clean(&header) {
        return Ok(before);
    }
    let _ = run(&header, repair)?;
    let mut after = run(&header, Repair::Nothing)?;
    if after.corruptions == 0 && repair == Repair::All && !is_clean(&header) {
        header.incompatible &= !(INCOMPATIBLE_CORRUPT | INCOMPATIBLE_DIRTY);
        header.write_fields(file).map_err(ImageError::io("cannot write the header"))?;
    }
    file.sync().map_err(ImageError::io("cannot write the repaired image"))?;
    after.corruptions_fixed = before.corruptions.saturating_sub(after.corruptions);
    after.leaks_fixed = before.leaks.saturating_sub(after.leaks);
    let left = MOST_MESSAGES.saturating_sub(after.messages.len());
    let mut messages = before.messages;
    messages.truncate(left);
    messages.append(&mut after.messages);
    after.messages = messages;
    Ok(after)
}

fn is_clean(header: &Header) -> bool {
    header.incompatible & (INCOMPATIBLE_CORRUPT | INCOMPATIBLE_DIRTY) == 0
}

/// Make the counts right: of an image whose last writer did not (lazy refcounts). Bounded, so that no
/// image keeps a start waiting for ever.
pub(super) fn rebuild(file: &dyn Storage, header: &Header) -> Result<(), ImageError> {
    Check::run(file, header, Repair::All, AT_OPEN)?;
    let report = Check::run(file, header, Repair::Nothing, AT_OPEN)?;
    if report.corruptions > 0 {
        let first = report.messages.into_iter().next().unwrap_or_default();
        return Err(ImageError::damaged(Format::Qcow2, first));
    }
    file.sync().map_err(ImageError::io("cannot write the repaired image"))
}

struct Check<'a> {
    file: &'a dyn Storage,
    header: &'a Header,
    geometry: Geometry,
    repair: Repair,
    counts: BTreeMap<u64, Box<[u64]>>,
    file_clusters: u64,
    /// What is left of it.
    budget: Budget,
    report: CheckReport,
}

impl<'a> Check<'a> {
    fn run(
        file: &'a dyn Storage,
        header: &'a Header,
        repair: Repair,
        budget: Budget,
    ) -> Result<CheckReport, ImageError> {
        let geometry = Geometry::new(header);
        let len = file.size().map_err(ImageError::io("cannot find the image's size"))?;
        let mut check = Self {
            file,
            header,
            geometry,
            repair,
            counts: BTreeMap::new(),
            file_clusters: len.div_ceil(geometry.cluster),
            budget,
            report: CheckReport {
                total_clusters: header.size.div_ceil(geometry.cluster),
                ..CheckReport::default()
            },
        };
        let mut refcounts = Refcounts::read(file, header)?;
        check.count_fixed(&refcounts)?;
        let l1 = read_l1(file, header.l1_offset, header.l1_size)?;
        let io = ImageError::io("cannot read the image's tables");
        let mut l2 = TableCache::new(geometry.cluster, 4 << 20);
        let mut counted = || {
            check.count_l1(&l1, &mut l2, true)?;
            check.count_bitmaps()?;
            for snapshot in snapshot::read_table(file, header).map_err(io::Error::from)? {
                check.spend(u64::from(snapshot.l1_size) * 8)?;
                let l1 = read_l1(file, snapshot.l1_offset, snapshot.l1_size)?;
                check.count_l1(&l1, &mut l2, false)?;
            }
            let blocks = refcounts.table().iter().filter(|block| **block != 0).count();
            check.spend(blocks as u64 * geometry.cluster)?;
            // Nothing was changed so far.
            if check.is_too_large() {
                return Err(io::Error::other("too much to count"));
            }
            check.compare(&mut refcounts)?;
            if refcounts.is_dirty() {
                refcounts.write_back(file)?;
                // No flag says "used once" of what still counts as used twice.
                file.sync()?;
            }
            check.check_copied(l1.clone(), &mut l2, &mut refcounts)
        };
        let result = counted();
        if check.is_too_large() {
            let reason = "it was not closed properly, and its tables are too large to be counted anew \
                          while it is opened; do that first (manor image check --repair all)";
            return Err(ImageError::NotWritable { reason: reason.into() });
        }
        result.map_err(io)?;
        let last = check.counts.iter().next_back();
        let last = last.and_then(|(chunk, counts)| {
            Some(chunk * CHUNK + counts.iter().rposition(|count| *count > 0)? as u64 + 1)
        });
        check.report.end = last.unwrap_or(0) << geometry.cluster_bits;
        Ok(check.report)
    }

    /// So many bytes of tables are about to be read.
    fn spend(&mut self, bytes: u64) -> io::Result<()> {
        let left = self.budget.tables.checked_sub(bytes);
        self.budget.tables = left.unwrap_or(0);
        left.map(|_| ()).ok_or_else(|| io::Error::other("too much to read"))
    }

    fn is_too_large(&self) -> bool {
        self.budget.tables == 0 || self.counts.len() > self.budget.chunks
    }

    fn wrong(&mut self, what: String) {
        self.report.corruptions += 1;
        self.tell(format!("ERROR {what}"));
    }

    fn tell(&mut self, what: String) {
        if self.report.messages.len() < MOST_MESSAGES {
            self.report.messages.push(what);
        }
    }

    /// One user more of every cluster in the range.
    fn count(&mut self, what: &str, offset: u64, len: u64) {
        let bits = self.geometry.cluster_bits;
        for cluster in (offset >> bits)..offset.saturating_add(len).div_ceil(1 << bits) {
            if cluster > self.file_clusters {
                self.wrong(format!("{what} at {offset:#x} lies beyond the file's end"));
                return;
            }
            if self.counts.len() > self.budget.chunks {
                return;
            }
            let chunk = self.counts.entry(cluster / CHUNK);
            let chunk = chunk.or_insert_with(|| vec![0; CHUNK as usize].into_boxed_slice());
            if let Some(count) = chunk.get_mut((cluster % CHUNK) as usize) {
                *count += 1;
            }
        }
    }

    fn counted(&self, cluster: u64) -> u64 {
        let chunk = self.counts.get(&(cluster / CHUNK));
        chunk.and_then(|chunk| chunk.get((cluster % CHUNK) as usize)).copied().unwrap_or(0)
    }

    fn count_bitmaps(&mut self) -> io::Result<()> {
        let Some(directory) = &self.header.bitmaps else { return Ok(()) };
        self.spend(directory.size)?;
        self.count("the bitmap directory", directory.offset, directory.size);
        for entry in bitmap::read_entries(self.file, self.header)? {
            let len = entry.table_len();
            self.spend(len)?;
            self.count("a bitmap's table", entry.table_offset, len);
            for word in entry.read_table(self.file)? {
                if bitmap::data_offset(word) != 0 {
                    self.count("a bitmap", bitmap::data_offset(word), self.geometry.cluster);
                }
            }
        }
        Ok(())
    }

    fn count_fixed(&mut self, refcounts: &Refcounts) -> Result<(), ImageError> {
        let (header, cluster) = (self.header, self.geometry.cluster);
        self.count("the header", 0, cluster);
        self.count("the L1 table", header.l1_offset, u64::from(header.l1_size) * 8);
        let len = refcounts.table_clusters() * cluster;
        self.count("the refcount table", header.refcount_table_offset, len);
        for block in refcounts.table().iter().filter(|block| **block != 0) {
            self.count("a refcount block", *block, cluster);
        }
        if header.snapshots > 0 {
            let len = snapshot::table_len(self.file, header)?;
            self.count("the snapshot table", header.snapshots_offset, len);
        }
        for snapshot in snapshot::read_table(self.file, header)? {
            let len = u64::from(snapshot.l1_size) * 8;
            self.count("a snapshot's L1 table", snapshot.l1_offset, len);
        }
        Ok(())
    }

    fn count_l1(&mut self, l1: &[u64], l2: &mut TableCache, active: bool) -> io::Result<()> {
        let mut seen = HashSet::new();
        for (index, entry) in l1.iter().enumerate() {
            let offset = entry & OFFSET;
            if offset == 0 {
                continue;
            }
            if entry & L1_RESERVED != 0 || !offset.is_multiple_of(self.geometry.cluster) {
                self.wrong(format!("L1 entry {index} is {entry:#x}"));
                continue;
            }
            self.count("an L2 table", offset, self.geometry.cluster);
            if !seen.insert(offset) {
                self.wrong(format!("the L2 table at {offset:#x} is used twice"));
                continue;
            }
            self.spend(self.geometry.cluster)?;
            self.count_l2(offset, l2, active)?;
        }
        Ok(())
    }

    fn count_l2(&mut self, table: u64, l2: &mut TableCache, active: bool) -> io::Result<()> {
        let entries = self.geometry.cluster / self.geometry.entry;
        for index in 0..entries {
            if l2.is_full() {
                l2.shrink();
            }
            let entry = match self.entry(l2, table + index * self.geometry.entry) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.wrong(format!("the L2 table at {table:#x} lies beyond the file's end"));
                    return Ok(());
                }
                entry => entry?,
            };
            if entry == Entry::default() {
                continue;
            }
            self.count_entry(entry, table, index, active);
        }
        Ok(())
    }

    fn entry(&self, l2: &mut TableCache, offset: u64) -> io::Result<Entry> {
        let word = l2.entry(self.file, offset)?;
        let extended = self.geometry.extended;
        let bitmap = if extended { l2.entry(self.file, offset + 8)? } else { 0 };
        Ok(Entry { word, bitmap })
    }

    fn count_entry(&mut self, entry: Entry, table: u64, index: u64, active: bool) {
        let units = self.geometry.cluster / self.geometry.unit;
        for unit in 0..units {
            if let Err(error) = entry.state(&self.geometry, unit) {
                self.wrong(format!("L2 table {table:#x}, entry {index}: {error}"));
                return;
            }
        }
        let state = entry.state(&self.geometry, 0).unwrap_or(State::Hole);
        if state == State::Compressed {
            let bits = self.geometry.cluster_bits;
            let clusters = Packed::new(entry.word, bits).clusters(bits);
            let start = clusters.start() << bits;
            self.count("compressed data", start, ((clusters.end() + 1) << bits) - start);
            self.report.compressed_clusters += u64::from(active);
            self.report.allocated_clusters += u64::from(active);
            return;
        }
        if let Some(host) = entry.host(&self.geometry) {
            self.report.allocated_clusters += u64::from(active);
            if !self.geometry.data_file {
                self.count("data", host, self.geometry.cluster);
            }
        }
    }

    /// What the image says against what was counted.
    fn compare(&mut self, refcounts: &mut Refcounts) -> io::Result<()> {
        let per_block = (self.geometry.cluster * 8) >> self.header.refcount_order;
        let table = refcounts.table().to_vec();
        for (block, _) in table.iter().enumerate().filter(|(_, offset)| **offset != 0) {
            for cluster in block as u64 * per_block..(block as u64 + 1) * per_block {
                self.compare_one(refcounts, cluster)?;
            }
        }
        // Clusters in use that have no place for a count.
        let without: Vec<u64> = self
            .counts
            .iter()
            .flat_map(|(chunk, counts)| (chunk * CHUNK..).zip(counts.iter()))
            .filter(|(_, count)| **count > 0)
            .map(|(cluster, _)| cluster)
            .filter(|cluster| {
                table.get((cluster / per_block) as usize).is_none_or(|offset| *offset == 0)
            })
            .collect();
        for cluster in without {
            self.compare_one(refcounts, cluster)?;
        }
        Ok(())
    }

    fn compare_one(&mut self, refcounts: &mut Refcounts, cluster: u64) -> io::Result<()> {
        let real = self.counted(cluster);
        let told = match refcounts.get(self.file, cluster) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.wrong(format!("the refcount block of cluster {cluster} is cut off"));
                return Ok(());
            }
            told => told?,
        };
        refcounts.make_room(self.file)?;
        if told == real {
            return Ok(());
        }
        let at = format!("cluster {cluster} refcount={told} reference={real}");
        if told > real {
            self.report.leaks += 1;
            self.tell(format!("Leaked {at}"));
            if self.repair >= Repair::Leaks {
                refcounts.set(self.file, cluster, real)?;
            }
        } else {
            self.wrong(at);
            if self.repair == Repair::All {
                refcounts.cover(self.file, cluster, 1)?;
                refcounts.set(self.file, cluster, real)?;
            }
        }
        Ok(())
    }

    /// A flag that says "used once" where that is not so would let a write change a snapshot.
    fn check_copied(
        &mut self,
        mut l1: Vec<u64>,
        l2: &mut TableCache,
        refcounts: &mut Refcounts,
    ) -> io::Result<()> {
        let (cluster, bits) = (self.geometry.cluster, self.geometry.cluster_bits);
        // A lower count makes it missing: to set it costs nothing but what is repaired here anyway.
        let repair = self.repair;
        let fixes = |once| repair == Repair::All || repair == Repair::Leaks && once;
        for (index, word) in l1.iter_mut().enumerate() {
            let table = *word & OFFSET;
            if table == 0 || !table.is_multiple_of(cluster) || table >> bits >= self.file_clusters {
                continue;
            }
            let once = refcounts.get(self.file, table >> bits)? == 1;
            if once != (*word & COPIED != 0) {
                self.wrong(format!("the 'copied' flag of L1 entry {index} is wrong"));
                if fixes(once) {
                    *word ^= COPIED;
                    let place = self.header.l1_offset + index as u64 * 8;
                    self.file.write(&word.to_be_bytes(), place)?;
                }
            }
            for entry_index in 0..cluster / self.geometry.entry {
                if l2.is_full() {
                    l2.write_back(self.file)?;
                    l2.shrink();
                }
                refcounts.make_room(self.file)?;
                let place = table + entry_index * self.geometry.entry;
                let mut entry = self.entry(l2, place)?;
                let Some(host) = entry.host(&self.geometry).filter(|_| !self.geometry.data_file)
                else {
                    continue;
                };
                let once = refcounts.get(self.file, host >> bits)? == 1;
                if once != (entry.word & COPIED != 0) {
                    self.wrong(format!("the 'copied' flag of the cluster at {host:#x} is wrong"));
                    if fixes(once) {
                        entry.word ^= COPIED;
                        l2.set(self.file, place, entry.word)?;
                    }
                }
            }
        }
        l2.write_back(self.file)
    }
}
