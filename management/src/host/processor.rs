//! The host's processor in libvirt's words, by what the kernel tells of it (`/proc/cpuinfo`), and
//! processors compared with it (virConnectCompareCPU, virConnectBaselineCPU).

use std::collections::BTreeSet;

use arch::cpuid::features;
use arch::cpuid::models::{self, Model, Vendor};
use xml::CpuDef;
use xml::domain::cpu::{CpuFeature, CpuMatch, CpuMode, CpuModel, FeaturePolicy, ModelFallback};

use super::{Host, field};
use crate::error::{Code, Error};
use crate::translate::invalid;

const ARCHITECTURE: &str = "x86_64";

/// A processor by what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processor {
    /// None: any.
    vendor: Option<Vendor>,
    features: BTreeSet<&'static str>,
}

/// How a processor stands to the host's (virCPUCompareResult).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuComparison {
    /// It has what the host has not, and why.
    Incompatible,
    Identical,
    /// The host has all of it, and more.
    Superset,
}

/// Where the kernel's names differ by more than their punctuation.
const KERNEL_NAMES: [(&str, &str); 6] = [
    ("pclmuldq", "pclmulqdq"),
    ("tsc-deadline", "tsc_deadline_timer"),
    ("spec-ctrl", "ibrs"),
    ("amd-ssbd", "ssbd"),
    ("amd-stibp", "stibp"),
    ("invtsc", "nonstop_tsc"),
];

impl Processor {
    /// The host's own.
    pub(crate) fn own(host: &Host) -> Self {
        let cpuinfo = host.read("proc/cpuinfo");
        let first = cpuinfo.split("\n\n").next().unwrap_or_default();
        let bare = |name: &str| name.replace(['_', '-', '.'], "");
        let flags = field(first, "flags").unwrap_or_default().split_whitespace();
        let flags: BTreeSet<_> = flags.map(bare).collect();
        let is_there = |name: &str| {
            let of_kernel = KERNEL_NAMES.iter().find(|(ours, _)| *ours == name);
            flags.contains(&bare(of_kernel.map_or(name, |(_, kernel)| kernel)))
        };
        let vendor = vendors().find(|vendor| {
            vendor.id().is_some_and(|id| field(first, "vendor_id").map(str::as_bytes) == Some(id))
        });
        let features = features::all().map(|feature| feature.name).filter(|name| is_there(name));
        Self { vendor, features: features.collect() }
    }

    /// What a definition's processor has at least.
    fn of(cpu: &CpuDef, host: &Self) -> Result<Self, Error> {
        let invalid = |text: String| Err(Error::new(Code::InvalidArgument, text));
        if let Some(arch) = cpu.arch.as_deref().map(str::trim).filter(|arch| *arch != ARCHITECTURE)
        {
            return invalid(format!("a processor of {arch}; the host's is of {ARCHITECTURE}"));
        }
        let name = cpu.model.as_ref().and_then(|model| model.name.as_deref()).map(str::trim);
        let mut found = match (cpu.mode, name) {
            (None | Some(CpuMode::Custom), Some(name)) => {
                let Some(model) = models::find(name) else {
                    let known: Vec<_> = models::names().collect();
                    let text = format!("the CPU model {name:?}; there are {}", known.join(", "));
                    return invalid(text);
                };
                Self { vendor: None, features: model.features().into_iter().collect() }
            }
            (Some(CpuMode::HostPassthrough | CpuMode::Maximum | CpuMode::HostModel), _) => {
                host.clone()
            }
            (_, None) => return invalid("a processor without a <model>".to_owned()),
        };
        for CpuFeature { name, policy } in &cpu.features {
            let Some(feature) = features::find(name) else {
                return invalid(format!("there is no CPU feature {name:?}"));
            };
            match policy {
                Some(FeaturePolicy::Disable | FeaturePolicy::Forbid) => {
                    found.features.remove(feature.name);
                }
                Some(FeaturePolicy::Optional) => {}
                Some(FeaturePolicy::Force | FeaturePolicy::Require) | None => {
                    found.features.insert(feature.name);
                }
            }
        }
        if let Some(vendor) = cpu.vendor.as_deref().map(str::trim) {
            found.vendor =
                Some(vendors().find(|known| known.name() == vendor).ok_or_else(|| {
                    let text = format!("the CPU vendor {vendor:?}; there are Intel, AMD and Hygon");
                    Error::new(Code::InvalidArgument, text)
                })?);
        }
        Ok(found)
    }

    /// The model that is most of it, and what it has beside that.
    pub(crate) fn named(&self) -> Option<(&'static Model, Vec<&'static str>)> {
        let fits = |model: &&Model| {
            let is_of_vendor = model.vendor == Vendor::Host || Some(model.vendor) == self.vendor;
            is_of_vendor && model.features().iter().all(|name| self.features.contains(name))
        };
        let known = models::names().filter_map(models::find);
        // Of models that are as rich, the newest stands last.
        let model = known.filter(fits).max_by_key(|model| model.features().len())?;
        let has = model.features();
        let beside = self.features.iter().copied().filter(|name| !has.contains(name));
        Some((model, beside.collect()))
    }

    pub(crate) fn vendor_name(&self) -> Option<&'static str> {
        self.vendor.map(Vendor::name)
    }
}

fn vendors() -> impl Iterator<Item = Vendor> {
    [Vendor::Intel, Vendor::Amd, Vendor::Hygon].into_iter()
}

fn parse(xml: &str) -> Result<CpuDef, Error> {
    Ok(CpuDef::parse(xml).map_err(invalid)?.value)
}

/// How the processor of a document stands to the host's, and what is in the way.
pub(crate) fn compare(host: &Host, xml: &str) -> Result<(CpuComparison, Vec<String>), Error> {
    let (cpu, own) = (parse(xml)?, Processor::own(host));
    let wanted = Processor::of(&cpu, &own)?;
    let mut lacking: Vec<_> =
        wanted.features.difference(&own.features).map(|name| (*name).to_owned()).collect();
    let forbidden = cpu.features.iter().filter(|feature| {
        feature.policy == Some(FeaturePolicy::Forbid)
            && own.features.contains(feature.name.as_str())
    });
    lacking.extend(forbidden.map(|feature| format!("no {}", feature.name)));
    if let Some(vendor) = wanted.vendor.filter(|vendor| Some(*vendor) != own.vendor) {
        lacking.push(format!("the vendor {}", vendor.name()));
    }
    let is_identical = wanted.features == own.features;
    if cpu.matching == Some(CpuMatch::Strict) && !is_identical && lacking.is_empty() {
        lacking.push("nothing beside this (match='strict')".to_owned());
    }
    Ok(match (lacking.is_empty(), is_identical) {
        (false, _) => (CpuComparison::Incompatible, lacking),
        (true, true) => (CpuComparison::Identical, lacking),
        (true, false) => (CpuComparison::Superset, lacking),
    })
}

/// The richest processor that all of these can be, as XML; with `expand` each of its features by name.
pub(crate) fn baseline(host: &Host, documents: &[String], expand: bool) -> Result<String, Error> {
    let own = Processor::own(host);
    let each = documents.iter().map(|xml| Processor::of(&parse(xml)?, &own));
    let each = each.collect::<Result<Vec<_>, _>>()?;
    let Some(common) = each.into_iter().reduce(|a, b| Processor {
        vendor: a.vendor.filter(|vendor| Some(*vendor) == b.vendor),
        features: a.features.intersection(&b.features).copied().collect(),
    }) else {
        return Err(Error::new(Code::InvalidArgument, "of no processors there is no common one"));
    };
    let Some((model, beside)) = common.named() else {
        let text = "these processors have too little in common for any model";
        return Err(Error::new(Code::Unsupported, text));
    };
    let names = if expand { common.features.into_iter().collect() } else { beside };
    let feature =
        |name: &str| CpuFeature { policy: Some(FeaturePolicy::Require), name: name.to_owned() };
    let name = Some(model.name.to_owned());
    let cpu = CpuDef {
        mode: Some(CpuMode::Custom),
        matching: Some(CpuMatch::Exact),
        model: Some(CpuModel { fallback: Some(ModelFallback::Forbid), vendor_id: None, name }),
        vendor: common.vendor.map(|vendor| vendor.name().to_owned()),
        features: names.into_iter().map(feature).collect(),
        ..CpuDef::default()
    };
    Ok(cpu.to_xml())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what Westmere has, and one feature more.
    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let mut flags = models::find("Westmere").unwrap().features().join(" ");
        for (ours, kernels) in [(".", "_"), ("pclmuldq", "pclmulqdq")] {
            flags = flags.replace(ours, kernels);
        }
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let text = format!("vendor_id\t: GenuineIntel\nflags\t\t: {flags} rdtscp unheard_of\n\n");
        std::fs::write(dir.path().join("proc/cpuinfo"), text).unwrap();
        let host = Host::made_up(dir.path().to_owned());
        (dir, host)
    }

    #[test]
    fn the_hosts_processor_is_the_richest_model_that_it_has_all_of() {
        let (_dir, host) = host();
        let own = Processor::own(&host);
        let (model, beside) = own.named().unwrap();
        assert_eq!((model.name, beside), ("Westmere", vec!["rdtscp"]));
        assert_eq!(own.vendor_name(), Some("Intel"));
    }

    #[test]
    fn a_processor_fits_if_the_host_has_all_that_it_asks_for() {
        use CpuComparison::{Identical, Incompatible, Superset};
        let (_dir, host) = host();
        let result = |xml: &str| compare(&host, xml).unwrap();
        let of = |model: &str, rest: &str| {
            let xml = format!("<cpu match='exact'><model>{model}</model>{rest}</cpu>");
            result(&xml).0
        };
        assert_eq!(of("Nehalem", ""), Superset);
        assert_eq!(of("Westmere", "<feature policy='require' name='rdtscp'/>"), Identical);
        assert_eq!(of("Westmere", "<feature policy='disable' name='aes'/>"), Superset);
        assert_eq!(of("Nehalem", "<feature policy='forbid' name='aes'/>"), Incompatible);
        assert_eq!(of("Nehalem", "<vendor>AMD</vendor>"), Incompatible);
        let strict = result("<cpu match='strict'><model>Nehalem</model></cpu>");
        assert_eq!(strict.0, Incompatible);
        let (found, lacking) = result("<cpu><arch>x86_64</arch><model>Haswell</model></cpu>");
        assert_eq!(found, Incompatible);
        assert!(lacking.contains(&"avx2".to_owned()), "{lacking:?}");
        for (xml, why) in [
            ("<cpu/>", "without a <model>"),
            ("<cpu><model>Z80</model></cpu>", "Z80"),
            ("<cpu><model>qemu64</model><feature name='turbo'/></cpu>", "turbo"),
            ("<cpu><arch>ppc64</arch><model>POWER8</model></cpu>", "ppc64"),
            ("<cpus/>", "cpus"),
        ] {
            let error = compare(&host, xml).unwrap_err().chain();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_baseline_is_what_all_have() {
        let (_dir, host) = host();
        let cpu = |model: &str| format!("<cpu><model>{model}</model><vendor>Intel</vendor></cpu>");
        let found = baseline(&host, &[cpu("Haswell"), cpu("Westmere")], false).unwrap();
        assert!(found.starts_with("<cpu mode='custom' match='exact'>"), "{found}");
        assert!(found.contains("<model fallback='forbid'>Westmere</model>"), "{found}");
        assert!(found.contains("<vendor>Intel</vendor>") && !found.contains("avx"), "{found}");
        let expanded = baseline(&host, &[cpu("Westmere")], true).unwrap();
        assert!(expanded.contains("<feature policy='require' name='aes'/>"), "{expanded}");
        assert_eq!(baseline(&host, &[], false).unwrap_err().code, Code::InvalidArgument);
    }
}
