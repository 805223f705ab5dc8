//! From a guest offset to its place in the file.

use std::io;

use super::header::Header;
use super::image::Qcow2;
use super::spec::*;
use super::tables::Tables;
use crate::error::ImageError;
use crate::format::Format;

/// An L2 entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    pub(super) word: u64,
    /// Of subclusters: allocated ones in the lower half, zeros in the upper half.
    pub(super) bitmap: u64,
}

/// What a subcluster is; without subclusters, a cluster is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Hole,
    Zero,
    Data,
    Compressed,
}

/// Bytes from a guest offset on that are alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) state: State,
    pub(super) len: u64,
    /// Of `Data`: the offset in the data file. Of `Compressed`: the entry.
    pub(super) host: u64,
}

/// How an image is divided; never changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    pub(super) cluster: u64,
    pub(super) cluster_bits: u32,
    /// What can have a state of its own.
    pub(super) unit: u64,
    pub(super) extended: bool,
    pub(super) version: u32,
    /// Guest bytes in one L2 table.
    pub(super) coverage: u64,
    pub(super) entry: u64,
    pub(super) data_file: bool,
    pub(super) raw_data_file: bool,
}

impl Geometry {
    pub(super) fn new(header: &Header) -> Self {
        let extended = header.has(INCOMPATIBLE_EXTENDED_L2);
        let cluster = header.cluster_size();
        Self {
            cluster,
            cluster_bits: header.cluster_bits,
            unit: if extended { cluster / SUBCLUSTERS } else { cluster },
            extended,
            version: header.version,
            coverage: header.l2_coverage(),
            entry: header.l2_entry_size(),
            data_file: header.has(INCOMPATIBLE_DATA_FILE),
            raw_data_file: header.raw_data_file(),
        }
    }

    /// Offset of the entry for `guest` in its L2 table.
    pub(super) fn entry_offset(&self, guest: u64) -> u64 {
        (guest % self.coverage) / self.cluster * self.entry
    }

    pub(super) fn unit_of(&self, guest: u64) -> u64 {
        guest % self.cluster / self.unit
    }
}

impl Entry {
    pub(super) fn is_compressed(self) -> bool {
        self.word & COMPRESSED != 0
    }

    pub(super) fn is_copied(self) -> bool {
        self.word & COPIED != 0 && !self.is_compressed()
    }

    /// The cluster that the entry holds, whether or not it is read from.
    pub(super) fn host(self, geometry: &Geometry) -> Option<u64> {
        let offset = self.word & OFFSET;
        let held = offset != 0 || geometry.data_file && self.word & COPIED != 0;
        (held && !self.is_compressed()).then_some(offset)
    }

    /// Of the unit with this number.
    pub(super) fn state(self, geometry: &Geometry, unit: u64) -> io::Result<State> {
        if self.is_compressed() {
            if geometry.data_file {
                return Err(damaged("compressed data beside a data file"));
            }
            return Ok(State::Compressed);
        }
        let reserved = if geometry.extended { L2_RESERVED | ZERO } else { L2_RESERVED };
        let offset = self.word & OFFSET;
        if self.word & reserved != 0 || !offset.is_multiple_of(geometry.cluster) {
            return Err(damaged(format!("an L2 entry of {:#x}", self.word)));
        }
        let host = self.host(geometry);
        if geometry.extended {
            let (data, zero) = (self.bitmap >> unit & 1 != 0, self.bitmap >> (32 + unit) & 1 != 0);
            return match (data, zero) {
                (true, true) => Err(damaged("a subcluster that is data and zeros")),
                (true, false) if host.is_none() => Err(damaged("a subcluster without a cluster")),
                (true, false) => Ok(State::Data),
                (false, true) => Ok(State::Zero),
                (false, false) => Ok(State::Hole),
            };
        }
        match (self.word & ZERO != 0, host) {
            (true, _) if geometry.version < 3 => Err(damaged("a zero cluster in version 2")),
            (true, _) => Ok(State::Zero),
            (false, Some(_)) => Ok(State::Data),
            (false, None) => Ok(State::Hole),
        }
    }
}

impl Qcow2 {
    /// The file offset of the L2 table for `guest`; none: there is none yet.
    pub(super) fn l2_table(&self, tables: &Tables, guest: u64) -> io::Result<Option<u64>> {
        let index = usize::try_from(guest / self.geometry.coverage).unwrap_or(usize::MAX);
        let entry = tables.l1.get(index).copied();
        let entry = entry.ok_or_else(|| damaged("an L1 table that has become too small"))?;
        let offset = entry & OFFSET;
        if entry & L1_RESERVED != 0 || !offset.is_multiple_of(self.geometry.cluster) {
            return Err(damaged(format!("an L1 entry of {entry:#x}")));
        }
        Ok((offset != 0).then_some(offset))
    }

    pub(super) fn entry_at(&self, tables: &mut Tables, offset: u64) -> io::Result<Entry> {
        let file = &*self.file;
        let word = tables.l2.entry(file, offset)?;
        let bitmap = if self.geometry.extended { tables.l2.entry(file, offset + 8)? } else { 0 };
        Ok(Entry { word, bitmap })
    }

    pub(super) fn set_entry(
        &self,
        tables: &mut Tables,
        offset: u64,
        entry: Entry,
    ) -> io::Result<()> {
        tables.l2.set(&*self.file, offset, entry.word)?;
        if self.geometry.extended {
            tables.l2.set(&*self.file, offset + 8, entry.bitmap)?;
        }
        Ok(())
    }

    /// What is at `guest`, for at most `len` bytes.
    pub(super) fn lookup(&self, tables: &mut Tables, guest: u64, len: u64) -> io::Result<Run> {
        let geometry = &self.geometry;
        let len = len.min(geometry.coverage - guest % geometry.coverage);
        tables.make_room(&*self.file, self.external())?;
        let Some(table) = self.l2_table(tables, guest)? else {
            return Ok(Run { state: State::Hole, len, host: 0 });
        };
        let mut entry_offset = table + geometry.entry_offset(guest);
        let piece_end =
            entry_offset - entry_offset % tables.l2.piece_size() + tables.l2.piece_size();
        let first = self.entry_at(tables, entry_offset)?;
        let state = first.state(geometry, geometry.unit_of(guest))?;
        let host = match state {
            State::Data => first.host(geometry).unwrap_or(0) + guest % geometry.cluster,
            State::Compressed => first.word,
            _ => 0,
        };
        let (mut entry, mut at) = (first, guest);
        loop {
            at += geometry.unit - at % geometry.unit;
            if at - guest >= len
                || state == State::Compressed && at.is_multiple_of(geometry.cluster)
            {
                break;
            }
            if at.is_multiple_of(geometry.cluster) {
                entry_offset += geometry.entry;
                if entry_offset >= piece_end {
                    break;
                }
                entry = self.entry_at(tables, entry_offset)?;
                let follows = entry.host(geometry) == Some(host.wrapping_add(at - guest));
                if state == State::Data && !follows {
                    break;
                }
            }
            if entry.state(geometry, geometry.unit_of(at))? != state {
                break;
            }
        }
        Ok(Run { state, len: (at - guest).min(len), host })
    }
}

pub(super) fn damaged(what: impl Into<String>) -> io::Error {
    ImageError::damaged(Format::Qcow2, what).into()
}
