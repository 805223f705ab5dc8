//! Virtio devices (virtio 1.2): queues, the PCI transport, and the device types.
//!
//! ```text
//!   driver ── registers ──→ transport ── activate(queues) ──→ VirtioDevice
//!     │ kick (ioeventfd)        ▲ stop: queue progress            │ starts
//!     └──────────────→ QueueWorker on an IoThread ←───────────────┘
//!                           │ complete → Notify → MSI-X (irqfd)
//! ```
//! A device type implements [`VirtioDevice`] (identity, features, configuration space) and one or
//! more [`QueueWorker`]s (the requests). The transport owns the device; each worker is owned by its
//! io thread and owns its queues, so a request takes no lock and no exit to user space.

pub mod balloon;
pub mod blk;
mod chain;
pub mod console;
pub mod device;
mod handed;
pub mod input;
pub mod net;
pub mod pci;
pub mod queue;
pub mod rng;
pub mod scsi;
pub mod vsock;
pub mod worker;

#[cfg(test)]
pub(crate) mod rig;

pub use chain::{BadChain, Chain, Place, Range, StatusByte};
pub use device::{ActivateError, Activation, Notify, VirtioDevice, features};
pub use queue::{QueueConfig, QueueError, QueueProgress};
pub use worker::{ActiveQueue, Context, QueueWorker, Workers};
