//! The table of internal snapshots: listed, and each one readable as an image of its own.

use super::header::{Header, check_l1};
use super::spec::*;
use crate::bytes::{be16, be32, be64};
use crate::description::SnapshotInfo;
use crate::error::ImageError;
use crate::format::Format;
use crate::storage::Storage;

#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) info: SnapshotInfo,
    pub(super) l1_offset: u64,
    pub(super) l1_size: u32,
}

const FIXED: usize = 40;

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
    };
    let len = (FIXED + rest.len()).next_multiple_of(8) as u64;
    Ok((Snapshot { info, l1_offset, l1_size }, len))
}
