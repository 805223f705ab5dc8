//! Memory of a device that the guest reaches as it reaches RAM, without an exit, while it is mapped
//! (on KVM: a memslot that comes and goes with a BAR).

use std::io;
use std::sync::Arc;

use memory::GuestRam;

/// Makes room in the guest's address space for device memory.
pub trait MemoryMapper: Send + Sync {
    /// A place for `memory`, all of its one region, mapped nowhere yet.
    fn window(&self, memory: &GuestRam, access: GuestAccess) -> io::Result<Arc<dyn MemoryWindow>>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAccess {
    ReadWrite,
    /// What the guest writes is an exit, and reaches the device.
    ReadOnly,
}

/// One device's memory in the guest's address space.
pub trait MemoryWindow: Send + Sync {
    /// Be at `base` from now on, or nowhere. After an error it is nowhere, and accesses are exits.
    fn place(&self, base: Option<u64>) -> io::Result<()>;
}
