//! The host side of devices: where their bytes come from and go to.

pub mod chardev;
pub mod disk;
mod io_uring;
mod raw;
mod sys;

pub use disk::{Action, Cache, Channel, Disk, DiskInfo, Finished, Request};
pub use raw::{DiskIo, DiskSpec, RawDisk};
