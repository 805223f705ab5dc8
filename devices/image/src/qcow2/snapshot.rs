//! The table of internal snapshots: its entries read and written. Each is an image of its own.

use super::header::{Header, check_l1};
use super::spec::*;
use crate::bytes::{be16, be32, be64, put};
use crate::description::SnapshotInfo;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) info: SnapshotInfo,
    pub(super) l1_offset: u64,
    pub(super) l1_size: u32,
    /// The entry as the table has it, with whatever others keep in it.
    pub(super) entry: Vec<u8>,
}

/// How a snapshot is meant. IDs are numbers, and so may be names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotRef<'a> {
    Name(&'a str),
    IdOrName(&'a str),
}

const FIXED: usize = 40;
/// Size of the saved state, size of the disk, instructions counted: what QEMU writes today.
const EXTRA: usize = 24;

pub(super) fn find<'a>(
    table: &'a [Snapshot],
    wanted: SnapshotRef<'_>,
) -> Result<&'a Snapshot, ImageError> {
    let by_name = |name: &str| table.iter().find(|it| it.info.name == name);
    let (found, name) = match wanted {
        SnapshotRef::Name(name) => (by_name(name), name),
        SnapshotRef::IdOrName(text) => {
            (table.iter().find(|it| it.info.id == text).or_else(|| by_name(text)), text)
        }
    };
    found.ok_or_else(|| ImageError::Invalid(format!("the image has no snapshot {name:?}")))
}

impl Snapshot {
    /// One that there was not yet.
    pub(super) fn new(info: SnapshotInfo, l1_offset: u64, l1_size: u32) -> Self {
        let mut entry = vec![0; FIXED + EXTRA];
        put(&mut entry, 0, &l1_offset.to_be_bytes());
        put(&mut entry, 8, &l1_size.to_be_bytes());
        // Both are short: see `check_name`.
        put(&mut entry, 12, &(info.id.len() as u16).to_be_bytes());
        put(&mut entry, 14, &(info.name.len() as u16).to_be_bytes());
        put(&mut entry, 16, &info.date.to_be_bytes());
        put(&mut entry, 24, &info.vm_clock.to_be_bytes());
        put(&mut entry, 36, &(EXTRA as u32).to_be_bytes());
        put(&mut entry, FIXED, &info.vm_state_size.to_be_bytes());
        put(&mut entry, FIXED + 8, &info.size.to_be_bytes());
        put(&mut entry, FIXED + 16, &info.icount.unwrap_or(u64::MAX).to_be_bytes());
        entry.extend(info.id.as_bytes());
        entry.extend(info.name.as_bytes());
        entry.resize(entry.len().next_multiple_of(8), 0);
        Self { info, l1_offset, l1_size, entry }
    }
}

/// The one after the largest number.
pub(super) fn next_id(table: &[Snapshot]) -> String {
    let numbers = table.iter().filter_map(|it| it.info.id.parse::<u64>().ok());
    numbers.max().unwrap_or(0).saturating_add(1).to_string()
}

/// Whether a new snapshot can be called so: what QEMU can keep, and what nobody confuses.
pub(super) fn check_name(table: &[Snapshot], name: &str) -> Result<(), ImageError> {
    let text = if name.is_empty() || name.len() > MOST_SNAPSHOT_NAME {
        format!("a snapshot's name has 1 to {MOST_SNAPSHOT_NAME} bytes, and {name:?} has not")
    } else if name.contains(char::is_control) {
        format!("a snapshot's name has no control characters, and {name:?} has")
    } else if table.iter().any(|it| it.info.name == name) {
        format!("the image has a snapshot {name:?} already")
    } else if table.len() >= MOST_SNAPSHOTS as usize {
        format!("the image has {MOST_SNAPSHOTS} snapshots, which is as many as there can be")
    } else {
        return Ok(());
    };
    Err(ImageError::Invalid(text))
}

/// Every snapshot, in the table's order.
pub(super) fn read_table(file: &dyn Storage, header: &Header) -> Result<Vec<Snapshot>, ImageError> {
    let mut found = Vec::new();
    let mut at = header.snapshots_offset;
    for _ in 0..header.snapshots {
        let (snapshot, len) = read_entry(file, header, at)?;
        found.push(snapshot);
        at += len;
        if at - header.snapshots_offset > MOST_SNAPSHOT_TABLE_BYTES {
            return Err(ImageError::damaged(Format::Qcow2, "a snapshot table of more than 16 MiB"));
        }
    }
    Ok(found)
}

/// Bytes of the whole table.
pub(super) fn table_len(file: &dyn Storage, header: &Header) -> Result<u64, ImageError> {
    let mut at = header.snapshots_offset;
    for _ in 0..header.snapshots {
        at += read_entry(file, header, at)?.1;
    }
    Ok(at - header.snapshots_offset)
}

fn read_entry(file: &dyn Storage, header: &Header, at: u64) -> Result<(Snapshot, u64), ImageError> {
    let damaged = |what: &str| ImageError::damaged(Format::Qcow2, what);
    let unreadable = || ImageError::io("cannot read the snapshot table");
    let mut fixed = [0; FIXED];
    if file.read(&mut fixed, at).map_err(unreadable())? < FIXED {
        return Err(damaged("a snapshot table beyond the file's end"));
    }
    let extra_len = be32(&fixed, 36);
    if extra_len > MOST_SNAPSHOT_EXTRA {
        return Err(damaged("a snapshot with too much extra data"));
    }
    let (id_len, name_len) = (be16(&fixed, 12), be16(&fixed, 14));
    let mut rest = vec![0; extra_len as usize + usize::from(id_len) + usize::from(name_len)];
    if file.read(&mut rest, at + FIXED as u64).map_err(unreadable())? < rest.len() {
        return Err(damaged("a snapshot table beyond the file's end"));
    }
    let (extra, names) = rest.split_at(extra_len as usize);
    let (id, name) = names.split_at(usize::from(id_len));
    let (l1_offset, l1_size) = (be64(&fixed, 0), be32(&fixed, 8));
    check_l1(l1_offset, l1_size, header)?;
    let size = if extra.len() >= 16 { be64(extra, 8) } else { header.size };
    if size.div_ceil(header.l2_coverage()) > u64::from(l1_size) {
        return Err(damaged("a snapshot's L1 table too small for its size"));
    }
    let info = SnapshotInfo {
        id: String::from_utf8_lossy(id).into_owned(),
        name: String::from_utf8_lossy(name).into_owned(),
        size,
        vm_state_size: if extra.len() >= 8 { be64(extra, 0) } else { be32(&fixed, 32).into() },
        date: be32(&fixed, 16),
        vm_clock: be64(&fixed, 24),
        icount: (extra.len() >= EXTRA).then(|| be64(extra, 16)).filter(|count| *count != u64::MAX),
    };
    let mut entry = fixed.to_vec();
    entry.extend(&rest);
    entry.resize(entry.len().next_multiple_of(8), 0);
    let len = entry.len() as u64;
    Ok((Snapshot { info, l1_offset, l1_size, entry }, len))
}
