//! Physical region pages (NVMe 1.4 §4.3): where a command's data is, as ranges of guest memory.

use memory::{GuestRam, IoBuffers};

use super::spec::{PAGE, Status};

const ENTRY: u64 = 8;

/// Append the `len` bytes that two entries describe to `buffers`.
pub(super) fn fill(
    ram: &GuestRam,
    (first, second): (u64, u64),
    len: u64,
    buffers: &mut IoBuffers,
) -> Result<(), Status> {
    if !first.is_multiple_of(4) {
        return Err(Status::PRP_OFFSET);
    }
    let part = (PAGE - first % PAGE).min(len);
    push(buffers, first, part)?;
    let left = len - part;
    if left == 0 {
        return Ok(());
    }
    if left <= PAGE {
        return if second.is_multiple_of(PAGE) {
            push(buffers, second, left)
        } else {
            Err(Status::PRP_OFFSET)
        };
    }
    list(ram, second, left, buffers)
}

/// A list of pages. It ends with its page; its last entry then says where it goes on.
fn list(ram: &GuestRam, mut at: u64, mut left: u64, buffers: &mut IoBuffers) -> Result<(), Status> {
    if !at.is_multiple_of(ENTRY) {
        return Err(Status::PRP_OFFSET);
    }
    while left > 0 {
        let room = (PAGE - at % PAGE) / ENTRY;
        let needed = left.div_ceil(PAGE);
        let mut entries = vec![0; (room.min(needed) * ENTRY) as usize];
        ram.read_slice(at, &mut entries).map_err(|_| Status::DATA)?;
        let mut entries =
            entries.chunks_exact(8).map(|entry| entry.try_into().map_or(0, u64::from_le_bytes));
        let data = if needed > room { room - 1 } else { needed };
        for page in entries.by_ref().take(data as usize) {
            if !page.is_multiple_of(PAGE) {
                return Err(Status::PRP_OFFSET);
            }
            let part = left.min(PAGE);
            push(buffers, page, part)?;
            left -= part;
        }
        if let Some(next) = entries.next() {
            // Only the first list may begin inside its page, so each one after it has entries for
            // data: the chain ends.
            if !next.is_multiple_of(PAGE) {
                return Err(Status::PRP_OFFSET);
            }
            at = next;
        }
    }
    Ok(())
}

fn push(buffers: &mut IoBuffers, gpa: u64, len: u64) -> Result<(), Status> {
    buffers.push(gpa, len).map_err(|_| Status::DATA)
}
