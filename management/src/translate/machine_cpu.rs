//! The CPU model of a definition in the VMM's configuration.

use vmm_protocol::config::{self, CpuCaches, CpuDetails, CpuModel};
use xml::DomainDef;
use xml::domain::cpu::{
    Cpu, CpuCacheMode, CpuCheck, CpuMatch, CpuMode, FeaturePolicy, PhysAddrMode,
};
use xml::domain::features::{Kvm, State};

use super::hyperv;

pub(super) fn cpu(def: &DomainDef) -> (CpuModel, CpuDetails) {
    let (model, of_cpu) = match &def.cpu {
        Some(cpu) => (model(cpu), details(cpu)),
        None => (CpuModel::HostModel, CpuDetails::default()),
    };
    let kvm = def.features.as_ref().and_then(|features| features.kvm.as_ref());
    let state = |of: fn(&Kvm) -> &Option<State>| kvm.and_then(|kvm| of(kvm).as_ref());
    let details = CpuDetails {
        hide_kvm: state(|kvm| &kvm.hidden).is_some_and(State::is_on),
        dedicated: state(|kvm| &kvm.hint_dedicated).is_some_and(State::is_on),
        poll_control: state(|kvm| &kvm.poll_control).map(State::is_on),
        without_pv_ipi: state(|kvm| &kvm.pv_ipi).is_some_and(|state| !state.is_on()),
        hyperv: hyperv::hyperv(def),
        ..of_cpu
    };
    (model, details)
}

fn model(cpu: &Cpu) -> CpuModel {
    match (cpu.mode.unwrap_or(CpuMode::Custom), name(cpu)) {
        (CpuMode::HostPassthrough | CpuMode::Maximum, _) => CpuModel::HostPassthrough,
        (CpuMode::Custom, Some(name)) => CpuModel::Named(name.to_owned()),
        (CpuMode::HostModel | CpuMode::Custom, _) => CpuModel::HostModel,
    }
}

/// A custom model without a model is no model at all: libvirt's default.
pub(super) fn name(cpu: &Cpu) -> Option<&str> {
    cpu.model.as_ref().and_then(|model| model.name.as_deref()).map(str::trim)
}

fn details(cpu: &Cpu) -> CpuDetails {
    let address = cpu.max_phys_addr.as_ref();
    let emulated = address.filter(|address| address.mode == PhysAddrMode::Emulate);
    CpuDetails {
        matching: match cpu.matching {
            Some(CpuMatch::Minimum) => config::CpuMatch::Minimum,
            Some(CpuMatch::Strict) => config::CpuMatch::Strict,
            Some(CpuMatch::Exact) | None => config::CpuMatch::Exact,
        },
        unchecked: cpu.check == Some(CpuCheck::None),
        vendor: cpu.vendor.as_ref().map(|vendor| vendor.trim().to_owned()),
        vendor_id: cpu.model.as_ref().and_then(|model| model.vendor_id.clone()),
        features: cpu
            .features
            .iter()
            .map(|feature| (feature.name.clone(), policy(feature.policy)))
            .collect(),
        physical_bits: emulated.and_then(|address| address.bits),
        physical_bits_limit: address.and_then(|address| address.limit),
        caches: match cpu.cache.as_ref().map(|cache| cache.mode) {
            None | Some(CpuCacheMode::Passthrough) => CpuCaches::Host,
            Some(CpuCacheMode::Disable) => CpuCaches::Hidden,
            Some(CpuCacheMode::Emulate) => CpuCaches::Emulated,
        },
        ..CpuDetails::default()
    }
}

fn policy(policy: Option<FeaturePolicy>) -> config::FeaturePolicy {
    match policy {
        Some(FeaturePolicy::Force) => config::FeaturePolicy::Force,
        Some(FeaturePolicy::Require) | None => config::FeaturePolicy::Require,
        Some(FeaturePolicy::Optional) => config::FeaturePolicy::Optional,
        Some(FeaturePolicy::Disable) => config::FeaturePolicy::Disable,
        Some(FeaturePolicy::Forbid) => config::FeaturePolicy::Forbid,
    }
}
