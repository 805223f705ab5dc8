//! Device models: what a guest sees on its buses, and the backends behind them.
//!
//! Nothing here knows KVM, an async runtime or XML. What a device needs from the machine around it
//! (interrupts, doorbells, time) comes in through the small traits of [`irq`] and [`clock`], so a
//! test needs neither a guest nor a sleep.

pub mod ahci;
pub mod alarm;
pub mod ata;
pub mod backend;
pub mod backup;
pub mod bus;
pub mod chipset;
pub mod clock;
pub mod component;
pub mod device_memory;
pub mod display;
mod engine;
pub mod i6300esb;
pub mod ide;
pub mod input;
pub mod io_thread;
pub mod irq;
pub mod limit;
pub mod nvme;
pub mod pci;
pub mod scsi;
pub mod standby;
mod sync;
#[cfg(test)]
mod testing;
pub mod torture;
pub mod virtio;
