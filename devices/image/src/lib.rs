//! Disk image formats over open files: what is in them, reading, writing, checking and making them.
//!
//! Nothing here opens a path. An image that needs others (a backing image, a data file, extents)
//! says their names in its [`Description`], which is read before anything else; the caller opens
//! what it sees fit and hands the files in. Formats are declared by the caller and never guessed.
//!
//! Images are hostile: every number in them is checked before use, tables are bounded, and a
//! contradiction found later makes one request fail.

mod blocks;
mod bytes;
pub mod chain;
pub mod copy;
mod describe;
mod description;
mod error;
mod format;
pub mod mirror;
mod new;
pub mod qcow2;
mod raw;
pub mod storage;
#[doc(hidden)]
pub mod torture;
mod vdi;
mod vhd;
mod vhdx;
mod view;
mod vmdk;
mod window;
pub mod work;

pub use describe::{describe, guess};
pub use description::{Description, Inspected, Reference, SnapshotInfo};
pub use error::ImageError;
pub use format::{Format, UnknownFormat};
pub use new::NewImage;
pub use raw::Raw;
pub use storage::{FileStorage, MemoryStorage, Storage, Watermark};
pub use view::{Extent, ExtentKind, Image};
