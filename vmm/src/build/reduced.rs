//! Whether a machine tells its guest of the hardware of old PCs.
//!
//! A `microvm` does not: its ACPI is of the hardware-reduced kind, which is what QEMU's machine of
//! that name has, and a third of the exits of a boot are spared. The chips are there all the same
//! (KVM makes PICs and IOAPIC together), for kernels that do not ask the tables.

use vmm_protocol::config::{Boot, Machine, MachineConfig};

/// Without PIT and PM timer, kvmclock is all that a kernel can measure time by.
pub(super) fn is_reduced(config: &MachineConfig) -> bool {
    config.platform.machine == Machine::Microvm
        && config.clock.kvmclock
        && !config.cpus.details.hide_kvm
        && matches!(config.boot, Boot::Kernel { .. })
}

/// kvmclock tells UTC: only a clock that is set otherwise makes a difference.
pub(super) fn shows_rtc(config: &MachineConfig) -> bool {
    !is_reduced(config) || config.clock.offset != 0
}
