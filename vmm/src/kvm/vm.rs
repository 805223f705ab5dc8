//! [`Vm`]: one KVM virtual machine with its irqchip, timer and memory.

use std::ops::Range;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arch::layout;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use memory::{GuestRam, PAGE, Pages};

use super::doorbell::IoEvents;
use super::line::Lines;
use super::msi::Messages;
use super::routes::Routes;
use super::window::Windows;
use super::{KvmError, Vcpu, capabilities, failed};

pub struct Vm {
    kvm: Kvm,
    fd: Arc<VmFd>,
    routes: Arc<Routes>,
    /// Kept here because KVM reads and writes it for as long as the machine exists.
    ram: GuestRam,
    /// Of RAM, what the guest does not see: accesses to it are exits.
    hole: Option<Range<u64>>,
    /// The next memslot for a device's memory.
    windows: Arc<AtomicU32>,
}

impl Vm {
    /// A machine with irqchip, PIT and `ram`, on the open `/dev/kvm`.
    pub fn new(kvm: OwnedFd, ram: &GuestRam, vcpus: usize) -> Result<Self, KvmError> {
        // SAFETY: the descriptor is owned and passes to `Kvm`, which closes it. If it is not KVM,
        // its ioctls fail, and the check below says so.
        let kvm = unsafe { Kvm::from_raw_fd(kvm.into_raw_fd()) };
        capabilities::check(&kvm, vcpus)?;
        let fd = kvm.create_vm().map_err(failed("create a virtual machine"))?;
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(failed("place the identity map"))?;
        fd.set_tss_address(layout::KVM_TSS as usize).map_err(failed("place the TSS"))?;
        fd.create_irq_chip().map_err(failed("create the interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(pit).map_err(failed("create the timer chip"))?;
        set_slots(&fd, ram, None, 0)?;
        let fd = Arc::new(fd);
        let routes = Arc::new(Routes::new(fd.clone()));
        routes.publish().map_err(failed("route interrupts"))?;
        let windows = Windows::counter();
        Ok(Self { kvm, fd, routes, ram: ram.clone(), hole: None, windows })
    }

    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// What this host's KVM can give a guest.
    pub fn supported_cpuid(&self) -> Result<CpuId, KvmError> {
        self.kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("list the supported CPUID"))
    }

    /// Whether the local APIC's timer has the TSC deadline mode.
    pub fn has_tsc_deadline_timer(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }

    /// MSRs that make up a vCPU's state on this host.
    pub fn saved_msrs(&self) -> Result<Vec<u32>, KvmError> {
        let list = self.kvm.get_msr_index_list().map_err(failed("list the MSRs"))?;
        Ok(list.as_slice().to_vec())
    }

    /// Bytes of a vCPU's extended register area.
    pub fn xsave_size(&self) -> usize {
        usize::try_from(self.fd.check_extension_int(Cap::Xsave2)).unwrap_or(0)
    }

    /// A vCPU whose local APIC answers to `apic_id`.
    pub fn vcpu(&self, apic_id: u32) -> Result<Vcpu, KvmError> {
        Vcpu::new(&self.fd, apic_id, self.xsave_size())
    }

    pub fn messages(&self) -> Arc<Messages> {
        Arc::new(Messages::new(self.fd.clone(), self.routes.clone()))
    }

    pub fn lines(&self) -> Lines {
        Lines::new(self.fd.clone())
    }

    pub fn doorbells(&self) -> Arc<dyn devices::irq::Doorbells> {
        Arc::new(IoEvents::new(self.fd.clone()))
    }

    pub fn windows(&self) -> Arc<dyn devices::device_memory::MemoryMapper> {
        Arc::new(Windows::new(self.fd.clone(), self.windows.clone()))
    }

    /// Take a range out of RAM, page aligned and inside its first region, before the guest runs:
    /// a device answers there.
    pub fn cut(&mut self, hole: Range<u64>) -> Result<(), KvmError> {
        for slot in 0..slots(&self.ram, None).len() as u32 {
            let gone = kvm_userspace_memory_region { slot, ..Default::default() };
            // SAFETY: no memory is given to KVM, one slot is taken away.
            unsafe { self.fd.set_user_memory_region(gone) }.map_err(failed("map guest memory"))?;
        }
        self.hole = Some(hole);
        set_slots(&self.fd, &self.ram, self.hole.as_ref(), 0)
    }

    pub(super) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    pub(super) fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// Log from now on which pages vCPUs write to, or stop.
    pub fn log_dirty_pages(&self, on: bool) -> Result<(), KvmError> {
        let flags = if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        set_slots(&self.fd, &self.ram, self.hole.as_ref(), flags)
    }

    /// Add the pages that vCPUs have written to since the last time.
    pub fn take_dirty_pages(&self, pages: &mut Pages) -> Result<(), KvmError> {
        for (slot, (gpa, len, _)) in (0..).zip(slots(&self.ram, self.hole.as_ref())) {
            let size = usize::try_from(len).unwrap_or(usize::MAX);
            let words = self.fd.get_dirty_log(slot, size);
            let words = words.map_err(failed("say which pages were written to"))?;
            let region = self.ram.regions().iter().rfind(|region| region.gpa <= gpa);
            let start = region.map_or(0, |region| region.file_offset + (gpa - region.gpa));
            pages.insert_words(start / PAGE, words);
        }
        Ok(())
    }
}

/// Guest address, length and host address of each slot: the regions, but for the hole.
fn slots(ram: &GuestRam, hole: Option<&Range<u64>>) -> Vec<(u64, u64, u64)> {
    let mut slots = Vec::new();
    for region in ram.regions() {
        let end = region.gpa + region.len;
        let inside = hole.filter(|hole| region.gpa <= hole.start && hole.end <= end);
        let (first, second) = match inside {
            Some(hole) => (region.gpa..hole.start, hole.end..end),
            None => (region.gpa..end, end..end),
        };
        slots.extend([first, second].into_iter().filter(|part| !part.is_empty()).map(|part| {
            (part.start, part.end - part.start, region.hva + (part.start - region.gpa))
        }));
    }
    slots
}

fn set_slots(
    fd: &VmFd,
    ram: &GuestRam,
    hole: Option<&Range<u64>>,
    flags: u32,
) -> Result<(), KvmError> {
    for (slot, (gpa, len, hva)) in (0..).zip(slots(ram, hole)) {
        let slot = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: gpa,
            memory_size: len,
            userspace_addr: hva,
        };
        // SAFETY: the range is part of a live mapping; `Vm` holds a clone of `ram` beside the VM
        // descriptor, so it stays mapped while KVM may use it. Ranges don't overlap.
        unsafe { fd.set_user_memory_region(slot) }.map_err(failed("map guest memory"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use memory::Backing;

    use super::*;

    #[test]
    fn a_hole_splits_its_region_and_leaves_the_others() {
        let ram = GuestRam::new(&[(0, 4 << 20), (1 << 32, 2 << 20)], &Backing::Anonymous).unwrap();
        let [low, high] = ram.regions() else { panic!() };
        let upper = (0xc_0000, (4 << 20) - 0xc_0000, low.hva + 0xc_0000);
        let above = (1 << 32, 2 << 20, high.hva);
        assert_eq!(slots(&ram, None), [(0, 4 << 20, low.hva), above]);
        let hole = 0xa_0000..0xc_0000;
        assert_eq!(slots(&ram, Some(&hole)), [(0, 0xa_0000, low.hva), upper, above]);
    }
}
