//! How devices signal vCPUs and vCPUs signal devices, as traits the machine implements (on KVM:
//! irqfds, GSI routes and ioeventfds; in tests: counters).

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// One interrupt input (an ISA line, or a PCI INTx pin routed to a GSI).
pub trait IrqLine: Send + Sync {
    /// Drive the line. For an edge-triggered input `true` then `false` is one interrupt.
    fn set(&self, high: bool);
}

/// Makes MSI-X vectors. A function asks for as many as its table has entries, once, when built.
pub trait MsiController: Send + Sync {
    fn vector(&self) -> io::Result<Arc<dyn MsiVector>>;
}

/// One MSI-X table entry's way into the interrupt controller.
pub trait MsiVector: Send + Sync {
    /// Written to raise the interrupt: from any thread, without a lock. While the vector is
    /// masked, writes collect in it and are delivered by [`route`](Self::route).
    fn event(&self) -> &EventFd;

    /// Deliver as this message from now on (unmasked), what was raised meanwhile included.
    fn route(&self, message: MsiMessage) -> io::Result<()>;

    /// Deliver nothing (masked entry, or MSI-X off).
    fn mask(&self) -> io::Result<()>;

    /// Whether an interrupt was raised and not delivered while masked: the entry's pending bit.
    fn pending(&self) -> bool;
}

/// Address and data of a message-signalled interrupt, as the guest wrote them into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MsiMessage {
    pub address: u64,
    pub data: u32,
}

/// Binds guest writes to eventfds, so that a kick never leaves the kernel.
pub trait Doorbells: Send + Sync {
    /// A write of any width to `gpa` signals `event` from now on.
    fn bind(&self, gpa: u64, event: &EventFd) -> io::Result<()>;

    fn unbind(&self, gpa: u64, event: &EventFd) -> io::Result<()>;
}
