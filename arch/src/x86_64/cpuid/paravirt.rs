//! KVM's paravirtual leaves, 0x4000_0000 and up, or 0x4000_0100 where Hyper-V has the first place.

use kvm_bindings::kvm_cpuid_entry2;

use super::table::Table;
use super::{CpuModel, CpuSpec, hyperv};

const SIGNATURE: u32 = 0x4000_0000;
const FEATURES: u32 = 0x4000_0001;
const FREQUENCIES: u32 = 0x4000_0010;

const CLOCKSOURCE: u32 = 1 << 0;
/// Port 0x80 need not be written to wait: saves an exit for each slow port access of Linux.
const NOP_IO_DELAY: u32 = 1 << 1;
const CLOCKSOURCE2: u32 = 1 << 3;
const ASYNC_PF: u32 = 1 << 4;
const STEAL_TIME: u32 = 1 << 5;
/// End of interrupt by memory write instead of an exit.
const PV_EOI: u32 = 1 << 6;
const PV_UNHALT: u32 = 1 << 7;
const PV_TLB_FLUSH: u32 = 1 << 9;
const ASYNC_PF_VMEXIT: u32 = 1 << 10;
const PV_SEND_IPI: u32 = 1 << 11;
const POLL_CONTROL: u32 = 1 << 12;
const PV_SCHED_YIELD: u32 = 1 << 13;
const ASYNC_PF_INT: u32 = 1 << 14;
const CLOCKSOURCE_STABLE: u32 = 1 << 24;

/// In edx: vCPUs are never preempted for an unlimited time.
const HINT_REALTIME: u32 = 1 << 0;

const CLOCKS: u32 = CLOCKSOURCE | CLOCKSOURCE2 | CLOCKSOURCE_STABLE;
/// All that the kernel does alone. Left out: features that user space must serve (extended MSI
/// destinations, page encryption hypercalls, migration control) and the shadow-paging relic.
const OFFERED: u32 = CLOCKS
    | NOP_IO_DELAY
    | ASYNC_PF
    | STEAL_TIME
    | PV_EOI
    | PV_UNHALT
    | PV_TLB_FLUSH
    | ASYNC_PF_VMEXIT
    | PV_SEND_IPI
    | POLL_CONTROL
    | PV_SCHED_YIELD
    | ASYNC_PF_INT;

/// KVM's LAPIC timer ticks at 1 GHz.
const LAPIC_BUS_KHZ: u32 = 1_000_000;

pub(super) fn set(table: &mut Table, supported: &[kvm_cpuid_entry2], spec: &CpuSpec) {
    let by_kvm = supported.iter().find(|entry| entry.function == FEATURES);
    let mut features = by_kvm.map_or(0, |entry| entry.eax) & OFFERED;
    if !spec.kvmclock {
        features &= !CLOCKS;
    }
    // A guest that may be moved must not rely on polling that only this host's KVM does.
    let passthrough = spec.model == CpuModel::HostPassthrough;
    if !spec.hints.poll_control.unwrap_or(passthrough) {
        features &= !POLL_CONTROL;
    }
    if spec.hints.without_pv_ipi {
        features &= !PV_SEND_IPI;
    }
    let hints = if spec.hints.dedicated { HINT_REALTIME } else { 0 };
    // Guests look for the frequencies at the fixed place only, which Hyper-V's own leaves have then.
    let khz = spec.tsc_khz.filter(|_| spec.hyperv.is_none());
    let moved = if spec.hyperv.is_some() { hyperv::KVM_BASE - SIGNATURE } else { 0 };
    let last = moved + if khz.is_some() { FREQUENCIES } else { FEATURES };
    let mut leaf = |function: u32, [eax, ebx, ecx, edx]: [u32; 4]| {
        let function = function + moved;
        table.push(kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() });
    };
    let word = |bytes| u32::from_le_bytes(bytes);
    leaf(SIGNATURE, [last, word(*b"KVMK"), word(*b"VMKV"), word(*b"M\0\0\0")]);
    leaf(FEATURES, [features, 0, 0, hints]);
    if let Some(khz) = khz {
        leaf(FREQUENCIES, [khz, LAPIC_BUS_KHZ, 0, 0]);
    }
}
