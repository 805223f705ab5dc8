//! What of the guest's time KVM can be told: the rate of its TSC, and what becomes of ticks of the
//! timer chip that it had no time for.

use kvm_bindings::kvm_reinject_control;
use kvm_ioctls::Cap;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_io_nr;

use super::{KvmError, Vcpu, Vm, failed};

ioctl_io_nr!(KVM_REINJECT_CONTROL, 0xae, 0x71);

impl Vm {
    /// Drop ticks of the PIT that the guest missed, instead of delivering them later.
    pub fn drop_missed_ticks(&self) -> Result<(), KvmError> {
        let control = kvm_reinject_control::default();
        // SAFETY: KVM reads the structure, which outlives the call, and keeps nothing of it.
        let result = unsafe { ioctl_with_ref(self.fd(), KVM_REINJECT_CONTROL(), &control) };
        if result < 0 {
            let action = "drop ticks of the timer chip";
            return Err(failed(action)(kvm_ioctls::Error::last()));
        }
        Ok(())
    }

    /// Whether the host's processor scales a guest's TSC.
    pub fn scales_tsc(&self) -> bool {
        self.kvm().check_extension(Cap::TscControl)
    }
}

impl Vcpu {
    /// Kilohertz; none when the host does not say.
    pub fn tsc_khz(&self) -> Option<u32> {
        self.fd.get_tsc_khz().ok()
    }

    /// Before the vCPU first runs.
    pub fn set_tsc_khz(&self, khz: u32) -> Result<(), KvmError> {
        self.fd.set_tsc_khz(khz).map_err(failed("run a vCPU at this TSC frequency"))
    }
}
