//! What of a definition's CPU can be had on any host. What this host lacks is told at the start.

use arch::cpuid::{features, models};
use xml::domain::cpu::{Cpu, CpuCacheMode, CpuMode, PhysAddrMode};

use super::machine_cpu;
use super::report::Report;

const VENDORS: [&str; 3] = ["Intel", "AMD", "Hygon"];

pub(super) fn check(cpu: &Cpu, report: &mut Report<'_>) {
    let at = |name: &str| format!("/domain/cpu/{name}");
    let custom = cpu.mode.unwrap_or(CpuMode::Custom) == CpuMode::Custom;
    if let Some(name) = machine_cpu::name(cpu).filter(|_| custom)
        && models::find(name).is_none()
    {
        let known: Vec<_> = models::names().collect();
        let message = format!("the CPU model {name}; there are {}", known.join(", "));
        report.refuse(&at("model"), message);
    }
    let id = cpu.model.as_ref().and_then(|model| model.vendor_id.as_deref());
    if let Some(id) = id.filter(|id| id.len() != 12) {
        let message = format!("a vendor id has 12 characters, {id:?} has {}", id.len());
        report.invalid(&at("model/@vendor_id"), message);
    }
    let vendor = cpu.vendor.as_deref().map(str::trim);
    if let Some(vendor) = vendor.filter(|vendor| !VENDORS.contains(vendor)) {
        report.refuse(&at("vendor"), format!("the vendor {vendor}; use Intel, AMD or Hygon"));
    }
    for (number, feature) in (1..).zip(&cpu.features) {
        if features::find(&feature.name).is_none() {
            let message = format!("the CPU feature {:?}", feature.name);
            report.refuse(&at(&format!("feature[{number}]/@name")), message);
        }
    }
    if let Some(address) = &cpu.max_phys_addr {
        let lacking = address.mode == PhysAddrMode::Emulate && address.bits.is_none();
        if lacking {
            report.missing(&at("maxphysaddr"), "mode='emulate' needs bits='…'");
        }
        if let Some(bits) = address.bits.filter(|bits| !(36..=57).contains(bits)) {
            let message = format!("{bits} physical address bits; there can be 36 to 57");
            report.invalid(&at("maxphysaddr/@bits"), message);
        }
    }
    let emulated = cpu.cache.as_ref().is_some_and(|cache| cache.mode == CpuCacheMode::Emulate);
    report.warn_if(emulated, &at("cache"), "the guest sees the host's cache sizes");
}
