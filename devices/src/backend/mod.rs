//! The host side of devices: where their bytes come from and go to.

mod blocking;
pub mod chardev;
pub mod disk;
mod io_uring;
pub mod packet;
mod raw;
mod sys;
pub mod tap;

pub use blocking::{Blocking, BlockingChannel};
pub use disk::{Action, Cache, Channel, Disk, DiskInfo, Finished, Request};
pub use raw::{DiskIo, DiskSpec, RawDisk};
