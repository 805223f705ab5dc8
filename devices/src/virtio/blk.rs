//! Block device (virtio 1.2 §5.2): multi-queue, each queue with its own worker and its own channel
//! to the disk.

mod device;
mod request;
mod spec;
mod worker;

#[cfg(test)]
mod tests;

pub use crate::backend::stats::BlockStats;
pub use device::{Block, BlockHandle, BlockSpec};
