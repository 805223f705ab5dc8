//! What must be there before a machine is built, so that a lack is named at once.

use kvm_bindings as kvm;
use kvm_ioctls::Kvm;

use super::KvmError;

/// Capability, its name, and what it is for. The newest of them came with Linux 4.20.
const REQUIRED: &[(u32, &str, &str)] = &[
    (kvm::KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "an interrupt controller in the kernel"),
    (kvm::KVM_CAP_PIT2, "KVM_CAP_PIT2", "a timer chip in the kernel"),
    (kvm::KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory"),
    (kvm::KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "real mode"),
    (kvm::KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR", "real mode"),
    (kvm::KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "interrupts from I/O threads"),
    (kvm::KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING", "message-signalled interrupts"),
    (kvm::KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "queue notifications without an exit"),
    (
        kvm::KVM_CAP_IOEVENTFD_ANY_LENGTH,
        "KVM_CAP_IOEVENTFD_ANY_LENGTH",
        "queue notifications without an exit",
    ),
    (kvm::KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "pausing a vCPU"),
    (kvm::KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "the guest's CPUID"),
    (kvm::KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "more than one vCPU"),
    (kvm::KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "saving a vCPU"),
    (kvm::KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "saving a vCPU"),
    (kvm::KVM_CAP_XCRS, "KVM_CAP_XCRS", "saving a vCPU"),
    (kvm::KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "saving the guest's clock"),
];

/// Refuse a KVM that cannot carry a machine of `vcpus` vCPUs.
pub(super) fn check(kvm: &Kvm, vcpus: usize) -> Result<(), KvmError> {
    match kvm.get_api_version() {
        12 => {}
        found if found < 0 => {
            return Err(KvmError::NotKvm { source: kvm_ioctls::Error::last() });
        }
        found => return Err(KvmError::ApiVersion { found }),
    }
    for &(capability, name, purpose) in REQUIRED {
        if kvm.check_extension_raw(capability.into()) <= 0 {
            return Err(KvmError::Missing { capability: name, purpose });
        }
    }
    let limit = kvm.get_max_vcpus();
    if vcpus > limit {
        return Err(KvmError::TooManyVcpus { wanted: vcpus, limit });
    }
    Ok(())
}
