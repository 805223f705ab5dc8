//! Meta contexts: what is said of each extent of an export.

use std::io;

use image::ExtentKind;

use super::Export;
use crate::backend::nbd::spec::state;

const ALLOCATION: u32 = 0;
const DIRTY: u32 = 1;
const ALLOCATION_NAME: &str = "base:allocation";
const DIRTY_PREFIX: &str = "qemu:dirty-bitmap:";

/// Those that an export has, with the numbers that they go by.
pub(super) fn contexts(export: &Export) -> Vec<(u32, String)> {
    let mut all = vec![(ALLOCATION, ALLOCATION_NAME.to_owned())];
    if let Some((name, _)) = &export.marked {
        all.push((DIRTY, format!("{DIRTY_PREFIX}{name}")));
    }
    all
}

/// Whether a query means a context. To choose one it is named in full; a list may be asked for all
/// of a kind.
pub(super) fn asks_for(query: &[u8], context: &str, set: bool) -> bool {
    let of_kind = [&b"base:"[..], b"qemu:", DIRTY_PREFIX.as_bytes()];
    let whole_kind = !set && of_kind.contains(&query) && context.as_bytes().starts_with(query);
    query == context.as_bytes() || whole_kind
}

/// What context `id` says at `offset`: its flags, and for how many bytes up to `len` they hold.
pub(super) fn status(export: &Export, id: u32, offset: u64, len: u64) -> io::Result<(u32, u64)> {
    match (id, &export.marked) {
        (DIRTY, Some((_, marked))) => {
            let (is_marked, run) = marked.run(offset, len);
            Ok((if is_marked { state::DIRTY } else { 0 }, run))
        }
        _ => {
            let extent = export.moment.map(offset, len)?;
            let flags = match extent.kind {
                ExtentKind::Data | ExtentKind::Compressed => 0,
                ExtentKind::Zero => state::ZERO,
                ExtentKind::Hole => state::ZERO | state::HOLE,
            };
            Ok((flags, extent.len))
        }
    }
}
