//! The directory of bitmaps, and the tables that its entries lead to: read, with every number checked.

use super::{BitmapInfo, DirtyBitmap, check_granularity, check_name, damaged};
use crate::bytes::{be16, be32, be64, is_zero, put};
use crate::error::ImageError;
use crate::qcow2::header::Header;
use crate::qcow2::spec::*;
use crate::storage::Storage;

/// Bytes of an entry before its extra data and name.
const FIXED: usize = 24;
/// Of `<type>`: there is no other.
const DIRTY_TRACKING: u8 = 1;
/// Entries of a table for the largest bitmap that QEMU has, 512 MiB in clusters of 512 bytes.
const MOST_TABLE_ENTRIES: u32 = 1 << 20;

pub(super) mod flag {
    pub(crate) const IN_USE: u32 = 1 << 0;
    pub(crate) const AUTO: u32 = 1 << 1;
    /// Whoever does not know the extra data may change the bitmap all the same.
    pub(crate) const EXTRA_DATA_COMPATIBLE: u32 = 1 << 2;
    pub(super) const KNOWN: u32 = IN_USE | AUTO | EXTRA_DATA_COMPATIBLE;
}

/// The header extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::qcow2) struct Directory {
    pub(in crate::qcow2) count: u32,
    pub(in crate::qcow2) size: u64,
    pub(in crate::qcow2) offset: u64,
}

impl Directory {
    pub(in crate::qcow2) fn read(data: &[u8]) -> Result<Self, ImageError> {
        if data.len() != 24 {
            return Err(damaged(format!("a bitmaps extension of {} bytes", data.len())));
        }
        let (count, reserved) = (be32(data, 0), be32(data, 4));
        let (size, offset) = (be64(data, 8), be64(data, 16));
        if reserved != 0 {
            return Err(damaged("a bitmaps extension with reserved bits"));
        }
        if count == 0 || count > MOST_BITMAPS || size == 0 || size > MOST_BITMAP_DIRECTORY {
            return Err(damaged(format!("{count} bitmaps in a directory of {size} bytes")));
        }
        if offset == 0 {
            return Err(damaged("a bitmap directory over its header"));
        }
        Ok(Self { count, size, offset })
    }

    pub(super) fn bytes(&self) -> [u8; 24] {
        let mut data = [0; 24];
        put(&mut data, 0, &self.count.to_be_bytes());
        put(&mut data, 8, &self.size.to_be_bytes());
        put(&mut data, 16, &self.offset.to_be_bytes());
        data
    }
}

#[derive(Debug, Clone)]
pub(in crate::qcow2) struct Entry {
    pub(super) info: BitmapInfo,
    /// Where it lies in the file.
    pub(super) at: u64,
    pub(super) flags: u32,
    pub(in crate::qcow2) table_offset: u64,
    entries: u32,
}

impl Entry {
    pub(in crate::qcow2) fn table_len(&self) -> u64 {
        u64::from(self.entries) * 8
    }

    pub(in crate::qcow2) fn read_table(&self, file: &dyn Storage) -> Result<Vec<u64>, ImageError> {
        let mut bytes = vec![0; self.table_len() as usize];
        let unreadable = ImageError::io("cannot read a bitmap's table");
        if file.read(&mut bytes, self.table_offset).map_err(unreadable)? < bytes.len() {
            return Err(damaged("a bitmap's table beyond the file's end"));
        }
        let words: Vec<u64> = bytes.chunks_exact(8).map(|word| be64(word, 0)).collect();
        for word in &words {
            let reserved = !OFFSET & !1;
            if word & reserved != 0 || (word & OFFSET != 0 && word & 1 != 0) {
                return Err(damaged(format!("an entry {word:#x} in a bitmap's table")));
            }
        }
        Ok(words)
    }

    pub(super) fn read_bits(
        &self,
        file: &dyn Storage,
        header: &Header,
        size: u64,
    ) -> Result<Vec<u64>, ImageError> {
        let cluster = header.cluster_size();
        let count = DirtyBitmap::words_for(size, self.info.granularity);
        let needed = (count as u64 * 8).div_ceil(cluster);
        // The last cluster of bits may be cut short, so counts are compared by clusters.
        if u64::from(self.entries) != needed {
            let (name, entries) = (&self.info.name, self.entries);
            return Err(damaged(format!("bitmap {name:?} with a table of {entries} entries")));
        }
        let mut words = Vec::with_capacity(count);
        let mut bytes = vec![0; cluster as usize];
        for entry in self.read_table(file)? {
            let place = data_offset(entry);
            if place == 0 {
                bytes.fill(if entry & 1 != 0 { 0xff } else { 0 });
            } else {
                header.check_place("bitmap", place, cluster)?;
                let unreadable = ImageError::io("cannot read a bitmap");
                if file.read(&mut bytes, place).map_err(unreadable)? == 0 {
                    return Err(damaged("a bitmap beyond the file's end"));
                }
            }
            let left = count - words.len();
            let word =
                |chunk: &[u8]| chunk.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            words.extend(bytes.chunks_exact(8).take(left).map(word));
        }
        // Beyond the end nothing is dirty, whatever was stored there.
        let bits = size.div_ceil(self.info.granularity);
        if let Some(last) = words.last_mut().filter(|_| !bits.is_multiple_of(64)) {
            *last &= (1 << (bits % 64)) - 1;
        }
        Ok(words)
    }
}

/// The cluster that an entry of a table leads to; 0: all its bits are alike.
pub(in crate::qcow2) fn data_offset(word: u64) -> u64 {
    word & OFFSET
}

/// Every entry, in the directory's order.
pub(in crate::qcow2) fn read_entries(
    file: &dyn Storage,
    header: &Header,
) -> Result<Vec<Entry>, ImageError> {
    let Some(directory) = &header.bitmaps else { return Ok(Vec::new()) };
    let mut bytes = vec![0; directory.size as usize];
    let unreadable = ImageError::io("cannot read the bitmap directory");
    if file.read(&mut bytes, directory.offset).map_err(unreadable)? < bytes.len() {
        return Err(damaged("a bitmap directory beyond the file's end"));
    }
    let mut found: Vec<Entry> = Vec::new();
    let mut at = 0;
    for _ in 0..directory.count {
        let rest = bytes.get(at..).unwrap_or_default();
        let (mut entry, len) = read_entry(rest, header)?;
        entry.at = directory.offset + at as u64;
        if found.iter().any(|other| other.info.name == entry.info.name) {
            return Err(damaged(format!("two bitmaps called {:?}", entry.info.name)));
        }
        found.push(entry);
        at += len;
    }
    if at != bytes.len() {
        return Err(damaged("a bitmap directory longer than its entries"));
    }
    Ok(found)
}

fn read_entry(bytes: &[u8], header: &Header) -> Result<(Entry, usize), ImageError> {
    if bytes.len() < FIXED {
        return Err(damaged("a bitmap directory that is cut off"));
    }
    let (table_offset, entries, flags) = (be64(bytes, 0), be32(bytes, 8), be32(bytes, 12));
    let (kind, granularity_bits) = (bytes[16], bytes[17]);
    let (name_len, extra_len) = (usize::from(be16(bytes, 18)), be32(bytes, 20) as usize);
    let end = FIXED.checked_add(extra_len).and_then(|at| at.checked_add(name_len));
    let end = end.filter(|end| *end <= bytes.len());
    let end = end.ok_or_else(|| damaged("a bitmap directory that is cut off"))?;
    let name = std::str::from_utf8(&bytes[end - name_len..end]);
    let name = name.map_err(|_| damaged("a bitmap whose name is no text"))?.to_owned();
    check_name(&name)?;
    if kind != DIRTY_TRACKING {
        return Err(ImageError::unsupported(
            crate::format::Format::Qcow2,
            format!("bitmap {name:?} of type {kind}"),
        ));
    }
    if flags & !flag::KNOWN != 0 {
        return Err(damaged(format!("bitmap {name:?} with flags {flags:#x}")));
    }
    if extra_len > 0 {
        let what = format!("extra data of bitmap {name:?}");
        return Err(ImageError::unsupported(crate::format::Format::Qcow2, what));
    }
    let granularity = 1_u64.checked_shl(granularity_bits.into()).unwrap_or(0);
    check_granularity(granularity).map_err(|_| {
        damaged(format!("bitmap {name:?} with bits for 2^{granularity_bits} bytes"))
    })?;
    if entries == 0 || entries > MOST_TABLE_ENTRIES || table_offset == 0 {
        return Err(damaged(format!("bitmap {name:?} with a table of {entries} entries")));
    }
    header.check_place("bitmap's table", table_offset, u64::from(entries) * 8)?;
    let info = BitmapInfo {
        name,
        granularity,
        enabled: flags & flag::AUTO != 0,
        inconsistent: flags & flag::IN_USE != 0,
    };
    let len = end.next_multiple_of(8);
    // Padding is zeros, or somebody else's.
    if !bytes.get(end..len).is_some_and(is_zero) {
        return Err(damaged("a bitmap directory that is cut off"));
    }
    Ok((Entry { info, at: 0, flags, table_offset, entries }, len))
}

/// The bytes of an entry.
pub(super) fn entry_bytes(info: &BitmapInfo, table_offset: u64, entries: u32) -> Vec<u8> {
    let mut bytes = vec![0; FIXED];
    let mut flags = if info.enabled { flag::AUTO } else { 0 };
    if info.inconsistent {
        flags |= flag::IN_USE;
    }
    put(&mut bytes, 0, &table_offset.to_be_bytes());
    put(&mut bytes, 8, &entries.to_be_bytes());
    put(&mut bytes, 12, &flags.to_be_bytes());
    bytes[16] = DIRTY_TRACKING;
    // At most 31.
    bytes[17] = info.granularity.ilog2() as u8;
    put(&mut bytes, 18, &(info.name.len() as u16).to_be_bytes());
    bytes.extend(info.name.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
