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
    check_address(cpu, report);
    check_cache(cpu, report);
}

/// Whether the guest has the host's own processor.
pub(super) fn is_hosts(cpu: &Cpu) -> bool {
    matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum))
}

fn check_address(cpu: &Cpu, report: &mut Report<'_>) {
    let Some(address) = &cpu.max_phys_addr else { return };
    let at = |name: &str| format!("/domain/cpu/maxphysaddr{name}");
    match address.mode {
        PhysAddrMode::Emulate => {
            if address.bits.is_none() {
                report.missing(&at(""), "mode='emulate' needs bits='…'");
            }
            if address.limit.is_some() {
                report.invalid(&at("/@limit"), "a limit goes with mode='passthrough'");
            }
        }
        PhysAddrMode::Passthrough => {
            if address.bits.is_some() {
                report.invalid(&at("/@bits"), "bits go with mode='emulate'");
            }
            if !is_hosts(cpu) {
                let message = "the host's width goes with the host's CPU: mode='host-passthrough'";
                report.invalid(&at("/@mode"), message);
            }
        }
    }
    if let Some(bits) = address.bits.filter(|bits| !(36..=57).contains(bits)) {
        let message = format!("{bits} physical address bits; there can be 36 to 57");
        report.invalid(&at("/@bits"), message);
    }
}

fn check_cache(cpu: &Cpu, report: &mut Report<'_>) {
    let Some(cache) = &cpu.cache else { return };
    let at = |name: &str| format!("/domain/cpu/cache/@{name}");
    let third = cache.mode == CpuCacheMode::Emulate && cache.level == Some(3);
    if let Some(level) = cache.level.filter(|_| !third) {
        let message = format!("level {level} alone with mode='{}'; 3 with 'emulate'", cache.mode);
        report.refuse(&at("level"), message);
    }
    if cache.mode == CpuCacheMode::Passthrough && !is_hosts(cpu) {
        let message = "the host's caches go with the host's CPU: mode='host-passthrough'";
        report.invalid(&at("mode"), message);
    }
}
