//! CPUID of a guest: what KVM supports on this host, narrowed by the model, with the topology, the
//! vCPU's own ids and KVM's paravirtual leaves put in (Intel SDM vol. 2 CPUID, AMD APM vol. 3
//! appendix E, Linux `Documentation/virt/kvm/x86/cpuid.rst`).

mod caches;
pub mod features;
mod host_model;
mod hyperv;
mod identity;
pub mod models;
mod paravirt;
mod selection;
mod table;
#[cfg(test)]
mod tests;

use kvm_bindings::kvm_cpuid_entry2;

use super::topology::Topology;
pub use caches::Caches;
pub use hyperv::{Enlightenment, HyperV, HyperVError, MICROSOFT, synic_msrs};
use models::Model;
pub use selection::{CpuError, Match, Policy, Request, Selection, lacking, select};
use table::Table;

/// Which of the host's features a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuModel {
    /// All that KVM can give on this host.
    HostPassthrough,
    /// The host's share of a fixed, documented list of features: those that a later KVM on the
    /// same CPU, or a migration to a like CPU, gives again (see `host_model.rs`).
    HostModel,
    /// A model of a list, the same on every host.
    Named(&'static Model),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuSpec {
    pub model: CpuModel,
    /// What becomes of single features: [`select`] says it.
    pub selection: Selection,
    /// Another vendor than the model's.
    pub vendor_id: Option<[u8; 12]>,
    pub caches: Caches,
    /// Nothing tells the guest that it runs on KVM, or how to make use of that.
    pub hide_kvm: bool,
    pub hints: KvmHints,
    /// What KVM does as Hyper-V would; none: the guest hears nothing of that.
    pub hyperv: Option<HyperV>,
    /// Checked by [`Topology::check`].
    pub topology: Topology,
    /// Physical address bits that the guest sees; at most what the host offers is used.
    pub phys_bits: u8,
    /// KVM's paravirtual clock. Without it Linux calibrates the TSC against the PIT or PM timer.
    pub kvmclock: bool,
    /// The virtual PMU. Off saves the dozens of MSR exits of its driver's probe.
    pub pmu: bool,
    /// TSC deadline timer: KVM offers it by `KVM_CAP_TSC_DEADLINE_TIMER`, not (always) by CPUID.
    pub tsc_deadline: bool,
    /// The vCPUs' TSC rate (`KVM_GET_TSC_KHZ`) if it never changes under the guest: then the
    /// frequency leaf 0x4000_0010 is offered, which spares some guests the calibration.
    pub tsc_khz: Option<u32>,
}

/// What a definition says of single KVM features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvmHints {
    /// vCPUs are never preempted: the guest need not be prepared for it.
    pub dedicated: bool,
    /// The guest may choose whether the host polls when it halts; none: as the model has it.
    pub poll_control: Option<bool>,
    /// Interrupts between processors by hypercall are not offered.
    pub without_pv_ipi: bool,
}

/// Physical address bits that KVM offers to guests on this host (36 when it does not say).
#[must_use]
pub fn host_phys_bits(supported: &[kvm_cpuid_entry2]) -> u8 {
    let entry = supported.iter().find(|entry| entry.function == 0x8000_0008);
    match entry.map(|entry| entry.eax as u8) {
        Some(bits) if bits != 0 => bits,
        _ => 36,
    }
}

/// The leaves of vCPU `index`, for `KVM_SET_CPUID2`.
///
/// `supported` is what `KVM_GET_SUPPORTED_CPUID` returned. That a bit is in it means KVM can
/// virtualise it; bits that are set beyond it here are the ones KVM leaves to user space.
#[must_use]
pub fn cpuid(supported: &[kvm_cpuid_entry2], spec: &CpuSpec, index: u32) -> Vec<kvm_cpuid_entry2> {
    let mut table = Table::new(supported);
    if spec.model != CpuModel::HostPassthrough {
        host_model::narrow(&mut table);
    }
    drop_unprovided(&mut table);
    selection::apply(&mut table, spec.model, &spec.selection);
    if let Some(id) = &spec.vendor_id {
        table.set_vendor(id);
    }
    caches::set(&mut table, spec.caches);
    if !spec.pmu {
        drop_pmu(&mut table);
    }
    basic_features(&mut table, spec);
    let amd = table.is_amd();
    identity::set(&mut table, spec, index, amd);
    if let Some(hyperv) = &spec.hyperv {
        hyperv.set(&mut table);
    }
    if !spec.hide_kvm {
        paravirt::set(&mut table, supported, spec);
    }
    table.into_entries()
}

/// Features that KVM can virtualise but that need a part of the VMM that Manor does not have.
fn drop_unprovided(table: &mut Table) {
    // SGX needs enclave memory sections, processor trace a host configured for it.
    table.edit(7, 0, |leaf| {
        leaf.ebx &= !(1 << 2 | 1 << 25);
        leaf.ecx &= !(1 << 30); // SGX launch configuration
    });
    table.remove(0x12);
    table.remove(0x14);
    // MONITOR/MWAIT: KVM emulates them as no-ops unless exits are disabled; a guest would spin.
    table.edit(1, 0, |leaf| leaf.ecx &= !(1 << 3));
}

fn drop_pmu(table: &mut Table) {
    table.edit(1, 0, |leaf| {
        leaf.ecx &= !(1 << 15 | 1 << 2); // PDCM, DTES64
        leaf.edx &= !(1 << 21); // DS
    });
    table.edit(7, 0, |leaf| leaf.edx &= !(1 << 19)); // architectural LBR
    table.edit(0xa, 0, |leaf| (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0));
    table.remove(0x1c);
    table.edit(0x8000_0001, 0, |leaf| leaf.ecx &= !(1 << 23 | 1 << 24 | 1 << 28)); // PerfCtr*
    table.edit(0x8000_0022, 0, |leaf| (leaf.eax, leaf.ebx) = (0, 0));
}

fn basic_features(table: &mut Table, spec: &CpuSpec) {
    table.edit(1, 0, |leaf| {
        // "A hypervisor runs here": the guest then looks at leaf 0x4000_0000.
        leaf.ecx |= 1 << 31;
        // The in-kernel LAPIC always does x2APIC; its MSRs cost fewer and cheaper exits than MMIO.
        leaf.ecx |= 1 << 21;
        if spec.tsc_deadline {
            leaf.ecx |= 1 << 24;
        } else {
            leaf.ecx &= !(1 << 24);
        }
        // Follows CR4 at run time; KVM sets it.
        leaf.ecx &= !(1 << 27);
    });
    // Always-running APIC timer: true of KVM's, and Linux needs no broadcast timer then.
    table.edit(6, 0, |leaf| leaf.eax |= 1 << 2);
    let host_bits = table.get(0x8000_0008, 0).map_or(0, |leaf| leaf.eax as u8);
    table.edit(0x8000_0008, 0, |leaf| {
        let bits = if host_bits == 0 { spec.phys_bits } else { spec.phys_bits.min(host_bits) };
        // Bits 23:16 tell a guest what its own guests may use; ours says "the same".
        leaf.eax = leaf.eax & 0xff00_ff00 | u32::from(bits);
    });
}
