//! SCSI host (virtio 1.2 §5.6): logical units behind one control, one event and several request
//! queues, all served by one worker, so that a task management function sees every task.

mod control;
mod device;
mod event;
mod spec;
mod task;
#[cfg(test)]
mod tests;
mod worker;

pub use device::{Scsi, ScsiHandle, ScsiSpec, UnitAt};
