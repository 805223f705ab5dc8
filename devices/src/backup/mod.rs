//! Backups of disks in use: which parts of a disk were written to since when, and the disk as it was
//! at one moment while the guest writes on.
//!
//! ```text
//! guest's write ─▶ Tracked ─▶ old bytes to the scratch file, if the moment still needs them
//!                     │     ─▶ bits of the active bitmaps
//!                     ▼
//!                    disk            reader of the moment: scratch file, else disk
//!                                      ├─▶ NBD clients (pull)
//!                                      └─▶ target image (push)
//! ```
//! Bits are set, and old bytes are safe, before a write begins: so a moment is exact if nothing is in
//! flight when it begins, and a bitmap never lacks a write that the guest was told of. Readers are
//! slow or dead without the guest noticing: it waits for the scratch file at most, and where that
//! fails, the backup does.

mod copy;
mod dirty;
mod keeper;
mod moment;
pub mod nbd;
#[cfg(test)]
mod tests;
mod tracked;

pub use copy::{Target, copy};
pub use dirty::Dirty;
pub use keeper::{Keeper, Outcome, Work};
pub use moment::{BLOCK, Moment};
pub use tracked::{Tracked, Tracking};
