//! From what a definition asks of its CPU to the features that the guest gets on this host, or what
//! the host lacks for it.

use kvm_bindings::kvm_cpuid_entry2;

use super::features::{self, Feature, Register};
use super::models::{Model, Vendor};
use super::table::Table;
use super::{CpuModel, host_model};

/// What becomes of a single feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// There, whether or not the host can do it.
    Force,
    /// There, or the guest does not start.
    Require,
    /// There if the host can.
    Optional,
    /// Not there.
    Disable,
    /// Not there, and neither on the host.
    Forbid,
}

/// How a named model and the host go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Match {
    /// The model, and what the host has beyond it.
    Minimum,
    #[default]
    Exact,
    /// Only on a host that has no more than the model.
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub model: CpuModel,
    pub matching: Match,
    /// Refuse a host that lacks features of a named model; otherwise the guest goes without.
    pub check: bool,
    /// Only on a host of this vendor.
    pub vendor: Option<Vendor>,
    pub policies: Vec<(Feature, Policy)>,
    /// See [`CpuSpec`](super::CpuSpec).
    pub tsc_deadline: bool,
}

/// Features to be set and cleared in what the model leaves of the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub on: Vec<Feature>,
    pub off: Vec<Feature>,
    /// Of a named model: keep what the host has beyond `on`.
    pub keep_others: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    #[error("this host cannot give the CPU model {model} its features: it lacks {}", .lacking.join(", "))]
    ModelLacking { model: &'static str, lacking: Vec<&'static str> },
    #[error("this host cannot give the required CPU features: it lacks {}", .lacking.join(", "))]
    Lacking { lacking: Vec<&'static str> },
    #[error("this host has CPU features that are forbidden: {}", .found.join(", "))]
    Forbidden { found: Vec<&'static str> },
    #[error(
        "this host has more CPU features than the model {model}, which match='strict' does not allow: {}",
        .more.join(", ")
    )]
    More { model: &'static str, more: Vec<&'static str> },
    #[error("the CPU shall be of {wanted}, and this host's is of {found}")]
    Vendor { wanted: &'static str, found: &'static str },
    #[error("{wanted} physical address bits are more than the {offered} that this host offers")]
    PhysicalBits { wanted: u32, offered: u8 },
}

/// What the guest gets of what is asked.
pub fn select(supported: &[kvm_cpuid_entry2], request: &Request) -> Result<Selection, CpuError> {
    let host = Host { table: Table::new(supported), tsc_deadline: request.tsc_deadline };
    host.check_vendor(request.vendor)?;
    let of = |policy| {
        let chosen = request.policies.iter().filter(move |(_, given)| *given == policy);
        chosen.map(|(feature, _)| *feature)
    };
    let names = |features: &[Feature]| features.iter().map(|f| f.name).collect::<Vec<_>>();
    let forbidden: Vec<_> = of(Policy::Forbid).filter(|feature| host.has(feature)).collect();
    if !forbidden.is_empty() {
        return Err(CpuError::Forbidden { found: names(&forbidden) });
    }
    let required: Vec<_> = of(Policy::Require).collect();
    let lacking: Vec<_> = required.iter().filter(|f| !host.has(f)).copied().collect();
    if !lacking.is_empty() {
        return Err(CpuError::Lacking { lacking: names(&lacking) });
    }
    let off: Vec<_> = of(Policy::Disable).chain(of(Policy::Forbid)).collect();
    let mut on = match request.model {
        CpuModel::Named(model) => host.of_model(model, &off, request)?,
        CpuModel::HostPassthrough | CpuModel::HostModel => Vec::new(),
    };
    on.extend(required);
    on.extend(of(Policy::Optional).filter(|feature| host.has(feature)));
    on.extend(of(Policy::Force));
    on.sort_unstable();
    on.dedup();
    if let (CpuModel::Named(Model { name, .. }), Match::Strict) = (request.model, request.matching)
    {
        let more: Vec<_> =
            host.features().into_iter().filter(|f| !on.contains(f) && !off.contains(f)).collect();
        if !more.is_empty() {
            return Err(CpuError::More { model: name, more: names(&more) });
        }
    }
    Ok(Selection { on, off, keep_others: request.matching == Match::Minimum })
}

/// Features that a saved guest was given, and may use, and that this host has not; those `given`
/// here by force are not missed.
#[must_use]
pub fn lacking(
    saved: &[kvm_cpuid_entry2],
    given: &[kvm_cpuid_entry2],
    supported: &[kvm_cpuid_entry2],
    tsc_deadline: bool,
) -> Vec<&'static str> {
    let host = Host { table: Table::new(supported), tsc_deadline };
    let (saved, given) = (Table::new(saved), Table::new(given));
    features::all()
        .filter(|feature| saved.feature(feature) && !given.feature(feature) && !host.has(feature))
        .map(|feature| feature.name)
        .filter(|name| !UNPROVIDED.contains(name))
        .collect()
}

struct Host {
    table: Table,
    tsc_deadline: bool,
}

/// What Manor does itself, whatever KVM says, and what it has no part for.
const OWN: &[&str] = &["hypervisor", "x2apic", "arat"];
const UNPROVIDED: &[&str] = &["monitor", "sgx", "intel-pt", "osxsave", "ospke"];

impl Host {
    fn has(&self, feature: &Feature) -> bool {
        match feature.name {
            "tsc-deadline" => self.tsc_deadline,
            name if OWN.contains(&name) => true,
            name if UNPROVIDED.contains(&name) => false,
            _ => self.table.feature(feature),
        }
    }

    fn check_vendor(&self, wanted: Option<Vendor>) -> Result<(), CpuError> {
        let is = |vendor: &Vendor| vendor.id().is_some_and(|id| self.table.vendor() == *id);
        let Some(wanted) = wanted.filter(|wanted| !is(wanted)) else { return Ok(()) };
        let found = [Vendor::Intel, Vendor::Amd, Vendor::Hygon].into_iter().find(is);
        let found = found.map_or("another vendor", Vendor::name);
        Err(CpuError::Vendor { wanted: wanted.name(), found })
    }

    /// What a guest of this host can have by the fixed list of `host-model`.
    fn features(&self) -> Vec<Feature> {
        let mut narrowed = self.table.clone();
        host_model::narrow(&mut narrowed);
        features::all().filter(|feature| narrowed.feature(feature)).collect()
    }

    fn of_model(
        &self,
        model: &'static Model,
        off: &[Feature],
        request: &Request,
    ) -> Result<Vec<Feature>, CpuError> {
        let chosen = |feature: &Feature| {
            let by_name = request.policies.iter().any(|(given, _)| given == feature);
            !off.contains(feature) && !by_name
        };
        let wanted = model.features().into_iter().filter_map(features::find).filter(chosen);
        let (there, lacking): (Vec<_>, Vec<_>) = wanted.partition(|feature| self.has(feature));
        if request.check && !lacking.is_empty() {
            let lacking = lacking.iter().map(|feature| feature.name).collect();
            return Err(CpuError::ModelLacking { model: model.name, lacking });
        }
        Ok(there)
    }
}

/// Leave of every register that has named bits those of the selection, or change it by them.
pub(super) fn apply(table: &mut Table, model: CpuModel, selection: &Selection) {
    let named = matches!(model, CpuModel::Named(_));
    if !named && *selection == Selection::default() {
        return;
    }
    let mut registers: Vec<(u32, u32, Register)> =
        features::all().map(|f| (f.leaf, f.index, f.register)).collect();
    registers.dedup();
    for (leaf, index, register) in registers {
        let mask = |list: &[Feature]| {
            let here =
                list.iter().filter(|f| (f.leaf, f.index, f.register) == (leaf, index, register));
            here.fold(0_u32, |mask, feature| mask | 1 << feature.bit)
        };
        let (on, off) = (mask(&selection.on), mask(&selection.off));
        let only = named && !selection.keep_others;
        table.change(leaf, index, register, |value| if only { on } else { value & !off | on });
    }
    if let CpuModel::Named(model) = model {
        name(table, model);
    }
    amd_copies(table);
    host_model::fit_xsave(table);
}

/// Vendor, signature and brand.
fn name(table: &mut Table, model: &Model) {
    if let Some(id) = model.vendor.id() {
        table.set_vendor(id);
    }
    table.edit(1, 0, |leaf| leaf.eax = model.signature());
    if model.brand.is_empty() {
        return;
    }
    let mut brand = [0; 48];
    brand[..model.brand.len().min(47)]
        .copy_from_slice(&model.brand.as_bytes()[..model.brand.len().min(47)]);
    let (words, _) = brand.as_chunks::<4>();
    for (function, part) in (0x8000_0002..).zip(words.chunks(4)) {
        if let &[eax, ebx, ecx, edx] = part {
            let registers = [eax, ebx, ecx, edx].map(u32::from_le_bytes);
            table.set_leaf(function, registers);
        }
    }
}

/// AMD tells the classic features twice.
fn amd_copies(table: &mut Table) {
    const COPIED: u32 = 0x0183_f3ff;
    let classic = table.get(1, 0).map_or(0, |leaf| leaf.edx) & COPIED;
    let amd = table.is_amd();
    table.edit(0x8000_0001, 0, |leaf| {
        leaf.edx = leaf.edx & !COPIED | if amd { classic } else { 0 };
    });
}

#[cfg(test)]
mod tests {
    use super::super::models;
    use super::super::tests::{amd, entry, everything, intel, leaf, spec};
    use super::*;
    use crate::cpuid::{CpuSpec, cpuid};

    fn request(model: &str) -> Request {
        Request {
            model: CpuModel::Named(models::find(model).unwrap()),
            matching: Match::Exact,
            check: true,
            vendor: None,
            policies: Vec::new(),
            tsc_deadline: true,
        }
    }

    fn with(model: &str, name: &str, policy: Policy) -> Request {
        let mut request = request(model);
        request.policies.push((features::find(name).unwrap(), policy));
        request
    }

    /// A host without these features.
    fn without(names: &[&str]) -> Vec<kvm_cpuid_entry2> {
        let mut table = Table::new(&intel());
        for name in names {
            let feature = features::find(name).unwrap();
            table
                .change(feature.leaf, feature.index, feature.register, |v| v & !(1 << feature.bit));
        }
        table.into_entries()
    }

    fn guest(supported: &[kvm_cpuid_entry2], request: &Request) -> Vec<kvm_cpuid_entry2> {
        let selection = select(supported, request).unwrap();
        cpuid(supported, &CpuSpec { selection, ..spec(request.model) }, 0)
    }

    fn has(table: &[kvm_cpuid_entry2], name: &str) -> bool {
        Table::new(table).feature(&features::find(name).unwrap())
    }

    #[test]
    fn a_guest_of_a_model_has_its_features_and_no_others() {
        let table = guest(&intel(), &request("Westmere"));
        for name in ["aes", "sse4.2", "lm", "nx", "hypervisor"] {
            assert!(has(&table, name), "{name}");
        }
        for name in ["avx", "xsave", "avx2", "rdtscp", "spec-ctrl", "rdrand", "invtsc"] {
            assert!(!has(&table, name), "{name}");
        }
        assert_eq!(leaf(&table, 1, 0).eax, 0x2_06c1);
        let brand = leaf(&table, 0x8000_0002, 0);
        assert_eq!(brand.eax.to_le_bytes(), *b"West");
        assert_eq!(leaf(&table, 0xd, 0).eax, 0, "no state beyond what FXSAVE saves");
    }

    #[test]
    fn the_state_of_a_model_is_as_large_as_its_features_need() {
        let state = |model| leaf(&guest(&intel(), &request(model)), 0xd, 0).eax;
        assert_eq!(state("SandyBridge"), 7);
        assert_eq!(state("Skylake-Server"), 0x2e7);
        let mut request = with("Skylake-Server", "pku", Policy::Disable);
        request.check = false;
        assert_eq!(leaf(&guest(&intel(), &request), 0xd, 0).eax, 0xe7);
    }

    #[test]
    fn what_a_host_lacks_is_named_or_left_out_as_the_definition_says() {
        let host = without(&["aes", "pclmuldq"]);
        let lacking = vec!["aes", "pclmuldq"];
        let model = "Westmere";
        assert_eq!(select(&host, &request(model)), Err(CpuError::ModelLacking { model, lacking }));
        let unchecked = Request { check: false, ..request(model) };
        assert!(!has(&guest(&host, &unchecked), "aes"));
        for policy in [Policy::Disable, Policy::Optional] {
            let mut request = with(model, "aes", policy);
            request.policies.push((features::find("pclmuldq").unwrap(), policy));
            assert!(!has(&guest(&host, &request), "aes"), "{policy:?}");
        }
        assert!(has(&guest(&without(&["avx"]), &with(model, "avx", Policy::Force)), "avx"));
        let error = select(&without(&["avx"]), &with(model, "avx", Policy::Require)).unwrap_err();
        assert_eq!(error, CpuError::Lacking { lacking: vec!["avx"] });
        assert!(error.to_string().ends_with("it lacks avx"));
    }

    #[test]
    fn forbidden_and_superfluous_features_refuse_a_host() {
        let forbidden = select(&intel(), &with("Penryn", "avx", Policy::Forbid));
        assert_eq!(forbidden, Err(CpuError::Forbidden { found: vec!["avx"] }));
        assert!(select(&without(&["avx"]), &with("Penryn", "avx", Policy::Forbid)).is_ok());
        let strict = Request { matching: Match::Strict, ..request("Penryn") };
        assert!(matches!(select(&intel(), &strict), Err(CpuError::More { .. })));
        let minimum = Request { matching: Match::Minimum, ..request("Penryn") };
        let table = guest(&intel(), &minimum);
        assert!(has(&table, "avx512f") && !has(&table, "invtsc"));
    }

    #[test]
    fn policies_change_the_hosts_own_models_too() {
        for model in [CpuModel::HostPassthrough, CpuModel::HostModel] {
            let mut request = with("Penryn", "aes", Policy::Disable);
            request.model = model;
            request.policies.push((features::find("invtsc").unwrap(), Policy::Require));
            let table = guest(&intel(), &request);
            assert!(
                !has(&table, "aes") && has(&table, "invtsc") && has(&table, "avx2"),
                "{model:?}"
            );
        }
    }

    #[test]
    fn a_vendor_that_is_asked_for_must_be_the_hosts() {
        let asked = |vendor| Request { vendor: Some(vendor), ..request("kvm64") };
        assert!(select(&intel(), &asked(Vendor::Intel)).is_ok());
        let error = select(&amd(), &asked(Vendor::Intel)).unwrap_err();
        assert_eq!(error, CpuError::Vendor { wanted: "Intel", found: "AMD" });
    }

    #[test]
    fn the_vendor_of_a_model_is_what_the_guest_sees() {
        let table = guest(&amd(), &request("EPYC"));
        assert_eq!(Table::new(&table).vendor(), *b"AuthenticAMD");
        assert_eq!(
            leaf(&table, 0x8000_0001, 0).edx & 0x0183_f3ff,
            leaf(&table, 1, 0).edx & 0x0183_f3ff
        );
        let table = guest(&intel(), &request("kvm64"));
        assert_eq!(Table::new(&table).vendor(), *b"GenuineIntel");
        assert_eq!(leaf(&table, 0x8000_0001, 0).edx & 1, 0);
    }

    #[test]
    fn every_model_is_had_on_a_host_with_everything() {
        for name in models::names() {
            let host =
                everything(models::find(name).unwrap().vendor.id().unwrap_or(b"GenuineIntel"));
            let selection = select(&host, &request(name));
            assert!(selection.is_ok(), "{name}: {selection:?}");
        }
        let _ = entry(0, 0, [0; 4]);
    }
}
