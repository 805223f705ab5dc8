//! qcow2, versions 2 and 3, by QEMU's `docs/interop/qcow2.txt`.
//!
//! ```text
//! guest offset ─ L1 table ─→ L2 table ─→ cluster in the file   (data, compressed, zeros, or none:
//!                                         then the backing image has it)
//! every cluster of the file has a reference count: refcount table ─→ refcount block ─→ count
//! ```
//!
//! **Order.** A crash at any point may lose clusters, never use one twice: reference counts reach
//! the file before tables that use the clusters, tables before the L1 entries that use them, with a
//! sync between. A cluster that nothing uses any more *rests* until the tables that no longer name
//! it are durable; only then its count falls and it can be used again.
//!
//! **Snapshots** change many counts, flags and tables at once. They are all made anew in free
//! clusters ([`rewrite`]), and one write of the header puts them in the place of the old ones.
//!
//! **Locks.** `inflight`, then `tables`. Data moves under a shared hold of `inflight` with `tables`
//! free; resting clusters are released under an exclusive one, so no request still uses them.

mod bitmap;
mod cache;
mod check;
mod compressed;
mod create;
mod header;
mod image;
mod lookup;
#[cfg(test)]
mod properties;
mod rebase;
mod refcount;
mod relink;
mod resize;
mod rewrite;
mod snapshot;
mod snapshots;
mod spec;
mod tables;
#[cfg(test)]
mod tests;
mod write;

pub use bitmap::{BitmapInfo, DirtyBitmap};
pub use check::{CheckReport, Repair, check};
pub use create::{CreateOptions, create};
pub use header::describe;
pub use image::{OpenOptions, Qcow2};
pub use rebase::rebase;
pub use relink::relink;
pub use snapshot::SnapshotRef;
pub use snapshots::NewSnapshot;
pub use spec::{Compression, MAGIC};
