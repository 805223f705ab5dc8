//! [`Windows`]: memslots for the memory of devices, which come and go as the guest moves BARs.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use devices::device_memory::{GuestAccess, MemoryMapper, MemoryWindow};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use memory::{GuestRam, RegionInfo};

/// Slots below are RAM's.
const FIRST_SLOT: u32 = 64;
/// KVM has 32764 of them; this is what a guest of ours can come to.
const MOST_SLOTS: u32 = 256;

pub(super) struct Windows {
    fd: Arc<VmFd>,
    next: Arc<AtomicU32>,
}

struct Window {
    fd: Arc<VmFd>,
    slot: u32,
    flags: u32,
    region: RegionInfo,
    /// Where it is now. Held while it moves: two vCPUs may move it at once.
    base: Mutex<Option<u64>>,
    /// Kept because KVM reads and writes it for as long as the slot exists.
    _memory: GuestRam,
}

impl Windows {
    pub(super) fn new(fd: Arc<VmFd>, next: Arc<AtomicU32>) -> Self {
        Self { fd, next }
    }

    /// Slots are never given back: a machine has few devices, and each asks once.
    pub(super) fn counter() -> Arc<AtomicU32> {
        Arc::new(AtomicU32::new(FIRST_SLOT))
    }
}

impl MemoryMapper for Windows {
    fn window(&self, memory: &GuestRam, access: GuestAccess) -> io::Result<Arc<dyn MemoryWindow>> {
        let &[region] = memory.regions() else {
            return Err(io::Error::other("device memory is one region"));
        };
        let slot = self.next.fetch_add(1, Ordering::Relaxed);
        if slot >= FIRST_SLOT + MOST_SLOTS {
            return Err(io::Error::other("too many devices with memory of their own"));
        }
        let flags = match access {
            GuestAccess::ReadWrite => 0,
            GuestAccess::ReadOnly => KVM_MEM_READONLY,
        };
        let (base, _memory) = (Mutex::new(None), memory.clone());
        Ok(Arc::new(Window { fd: self.fd.clone(), slot, flags, region, base, _memory }))
    }
}

impl Window {
    /// `len` of zero takes the slot away.
    fn set(&self, gpa: u64, len: u64) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            slot: self.slot,
            flags: self.flags,
            guest_phys_addr: gpa,
            memory_size: len,
            userspace_addr: self.region.hva,
        };
        // SAFETY: the region is a live mapping of exactly this length; `_memory` keeps it while the
        // slot exists, and the slot is taken away in Drop. KVM refuses slots that overlap.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(io::Error::from)
    }
}

impl MemoryWindow for Window {
    fn place(&self, base: Option<u64>) -> io::Result<()> {
        let mut now = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == base {
            return Ok(());
        }
        // KVM moves a slot as well, but not all its versions a read-only one.
        if now.take().is_some() {
            self.set(0, 0)?;
        }
        if let Some(gpa) = base {
            self.set(gpa, self.region.len)?;
            *now = base;
        }
        Ok(())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Of a machine that is gone anyway, or of a slot that is not there.
        let _ = self.place(None);
    }
}
