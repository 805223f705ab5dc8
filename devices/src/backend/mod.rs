//! The host side of devices: where their bytes come from and go to.

mod answers;
mod as_image;
mod blocking;
pub mod chardev;
pub mod disk;
mod faults;
#[cfg(test)]
pub(crate) mod held;
mod image;
mod io_uring;
pub mod lane;
pub mod nbd;
pub mod packet;
mod pool;
mod raw;
pub mod stats;
pub mod stream;
mod swap;
mod sys;
pub mod tap;
pub mod throttle;
pub(crate) mod times;
pub mod vhost;

pub use as_image::DiskAsImage;
pub use blocking::{Blocking, BlockingChannel};
pub use disk::{Action, Cache, Channel, Disk, DiskInfo, Finished, Request};
pub use faults::Guarded;
pub use image::{ImageDisk, ImageSpec};
pub use io_uring::Rings;
pub use pool::Pool;
pub use raw::{DiskIo, DiskSpec, RawDisk};
pub use swap::Swappable;
