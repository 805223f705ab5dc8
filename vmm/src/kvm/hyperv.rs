//! What KVM does as Hyper-V does it (`KVM_CAP_HYPERV*` in `Documentation/virt/kvm/api.rst`).

use arch::cpuid::{Enlightenment, HyperV};
use kvm_bindings::{
    CpuId, KVM_CAP_HYPERV_DIRECT_TLBFLUSH, KVM_CAP_HYPERV_ENLIGHTENED_VMCS, KVM_CAP_HYPERV_SYNIC2,
    KVM_CAP_SYS_HYPERV_CPUID, kvm_cpuid2, kvm_enable_cap,
};
use vmm_sys_util::ioctl::ioctl_with_mut_ptr;
use vmm_sys_util::ioctl_iowr_nr;

use super::{KvmError, Vcpu, Vm, failed};

/// More than the leaves from 0x4000_0000 to 0x4000_000a, and those of its debugger.
const MOST_LEAVES: usize = 64;

ioctl_iowr_nr!(KVM_GET_SUPPORTED_HV_CPUID, 0xae, 0xc1, kvm_cpuid2);

impl Vm {
    /// The leaves of all that this host's KVM can do.
    pub fn supported_hyperv_cpuid(&self) -> Result<CpuId, KvmError> {
        if self.kvm().check_extension_raw(KVM_CAP_SYS_HYPERV_CPUID.into()) <= 0 {
            let (capability, purpose) = ("KVM_CAP_SYS_HYPERV_CPUID", "Hyper-V enlightenments");
            return Err(KvmError::Missing { capability, purpose });
        }
        let state = |_| KvmError::State { what: "CPUID" };
        let mut leaves = CpuId::new(MOST_LEAVES).map_err(state)?;
        // SAFETY: the structure has room for the entries that its count says, and KVM writes no
        // more; what it sets the count to is at most that.
        let result = unsafe {
            ioctl_with_mut_ptr(
                self.kvm(),
                KVM_GET_SUPPORTED_HV_CPUID(),
                leaves.as_mut_fam_struct_ptr(),
            )
        };
        if result < 0 {
            return Err(failed("list its Hyper-V enlightenments")(kvm_ioctls::Error::last()));
        }
        Ok(leaves)
    }
}

impl Vcpu {
    /// Turn on what a vCPU does not have by its CPUID alone; before the CPUID is set.
    pub fn enable_hyperv(&self, hyperv: &HyperV) -> Result<(), KvmError> {
        if hyperv.has(Enlightenment::Synic) {
            self.enable(KVM_CAP_HYPERV_SYNIC2, 0, "give a vCPU Hyper-V's interrupt controller")?;
        }
        if hyperv.has(Enlightenment::TlbFlushDirect) {
            let action = "serve Hyper-V's flushes of nested guests";
            self.enable(KVM_CAP_HYPERV_DIRECT_TLBFLUSH, 0, action)?;
        }
        if hyperv.has(Enlightenment::Evmcs) {
            // KVM writes here which versions there are, what CPUID has told already.
            let mut versions = 0_u16;
            let place = (&raw mut versions).expose_provenance() as u64;
            self.enable(KVM_CAP_HYPERV_ENLIGHTENED_VMCS, place, "give a vCPU Hyper-V's VMCS")?;
        }
        Ok(())
    }

    fn enable(&self, cap: u32, argument: u64, action: &'static str) -> Result<(), KvmError> {
        let cap = kvm_enable_cap { cap, args: [argument, 0, 0, 0], ..Default::default() };
        self.fd.enable_cap(&cap).map_err(failed(action))
    }
}
