//! The guest's timers as far as the definition chooses what they do.

use vmm_protocol::config::{MachineConfig, MissedTicks};

use super::BuildError;
use crate::kvm::{Vcpu, Vm};

/// By as much the rates of two hosts of one kind differ, and KVM takes them for the same.
const TOLERANCE_PPM: u64 = 250;

pub(super) fn build(config: &MachineConfig, vm: &Vm) -> Result<(), BuildError> {
    match config.clock.timers.pit {
        MissedTicks::Deliver => Ok(()),
        MissedTicks::Drop => Ok(vm.drop_missed_ticks()?),
    }
}

/// Have a vCPU's TSC count as fast as the definition says; otherwise it counts as the host's does.
pub(super) fn set_tsc(config: &MachineConfig, vm: &Vm, vcpu: &Vcpu) -> Result<(), BuildError> {
    let Some(wanted) = config.clock.timers.tsc_khz else { return Ok(()) };
    let host = vcpu.tsc_khz().unwrap_or(0);
    // Without scaling, KVM would count on at the host's rate and move the TSC forwards at each exit.
    if !vm.scales_tsc() && !is_near(wanted, host) {
        return Err(BuildError::TscFrequency { wanted, host });
    }
    Ok(vcpu.set_tsc_khz(wanted)?)
}

fn is_near(wanted: u32, host: u32) -> bool {
    u64::from(wanted.abs_diff(host)) * 1_000_000 <= u64::from(host) * TOLERANCE_PPM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_like_hosts_are_near() {
        for (wanted, host, near) in [
            (2_000_000, 2_000_000, true),
            (2_000_500, 2_000_000, true),
            (2_000_501, 2_000_000, false),
            (u32::MAX, 1, false),
            (1, 0, false),
        ] {
            assert_eq!(is_near(wanted, host), near, "{wanted} {host}");
        }
    }
}
