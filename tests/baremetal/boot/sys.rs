//! The one KVM call that needs `unsafe`: lending guest memory.
#![allow(unsafe_code, reason = "KVM takes host addresses of guest memory")]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use memory::GuestRam;

/// Give `ram` to `vm`, which must be dropped before it.
pub(crate) fn lend(vm: &VmFd, ram: &GuestRam) {
    for (slot, region) in (0..).zip(ram.regions()) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.gpa,
            memory_size: region.len,
            userspace_addr: region.hva,
        };
        // SAFETY: the range is the mapping of `ram`, which the caller keeps for longer than the VM.
        unsafe { vm.set_user_memory_region(region) }.expect("memory slot");
    }
}
