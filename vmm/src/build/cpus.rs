//! Step 6: the vCPUs, on threads of their own, parked.

use std::io;
use std::sync::Arc;

use arch::cpuid::models::{self, Vendor};
use arch::cpuid::{
    Caches, CpuError, CpuModel, CpuSpec, Enlightenment, HyperV, KvmHints, MICROSOFT, Match, Policy,
    Request, cpuid, features, synic_msrs,
};
use arch::topology::Topology;
use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use rustix::thread::{CpuSet, sched_setaffinity};
use vmm_protocol::config;
use vmm_protocol::config::{CpuCaches, CpuMatch, FeaturePolicy, MachineConfig};

use super::{BuildError, Parts, timers, zones};
use crate::kvm::{KvmError, Vm, install_kick_handler};
use crate::machine::Cpus;
use crate::sandbox::{Kind, Sandbox};
use crate::state::{ImageError, Saved};
use crate::vcpu::{Handle, Inbox, Surroundings};

/// What the guest and its saved states can count on.
const MAX_VCPUS: u16 = 64;
/// What every 64-bit processor has, and room for RAM and windows in it.
const LEAST_PHYSICAL_BITS: u8 = 36;

pub(super) fn build(
    config: &MachineConfig,
    vm: &Vm,
    supported: &CpuId,
    parts: &Parts,
    inbox: &Arc<Inbox>,
    sandbox: &Sandbox,
    saved: Option<&Saved>,
) -> Result<Cpus, BuildError> {
    let spec = spec(config, vm, supported)?;
    install_kick_handler()?;
    let zones = zones::waiting(&config.boot).zones;
    let mut coalesced = None;
    let mut handles = Vec::with_capacity(config.cpus.count.into());
    for index in 0..config.cpus.count {
        let vcpu = vm.vcpu(spec.topology.apic_id(index.into()))?;
        timers::set_tsc(config, vm, &vcpu)?;
        if let Some(hyperv) = &spec.hyperv {
            vcpu.enable_hyperv(hyperv)?;
        }
        let leaves = cpuid(supported.as_slice(), &spec, index.into());
        let leaves = CpuId::from_entries(&leaves).map_err(|_| KvmError::State { what: "CPUID" })?;
        vcpu.set_cpuid(&leaves)?;
        if let (0, Some(saved)) = (index, saved) {
            // As KVM tells it, which is how it was saved: not all of them tell what they were told.
            check_saved(saved, &vcpu.cpuid()?, vm, supported)?;
        }
        if index == 0 {
            coalesced = vm.coalesce(&vcpu, zones)?.map(Arc::new);
        }
        let around = Surroundings {
            buses: parts.buses.clone(),
            coalesced: coalesced.clone(),
            ram: vm.ram().clone(),
            inbox: inbox.clone(),
        };
        let allowed = config.cpus.affinity.get(usize::from(index)).cloned().unwrap_or_default();
        let confine = sandbox.entering(Kind::Vcpu);
        let prepare = Box::new(move || pin(&allowed).and_then(|()| confine()));
        handles.push(Handle::spawn(index, vcpu, around, prepare)?);
    }
    let mut msrs = vm.saved_msrs()?;
    if spec.hyperv.is_some_and(|hyperv| hyperv.has(Enlightenment::Synic)) {
        msrs.extend(synic_msrs());
        msrs.sort_unstable();
        msrs.dedup();
    }
    Ok(Cpus::new(handles, parts.processors.clone(), msrs)?)
}

/// Whether this host can be the processor that a saved guest knows.
fn check_saved(
    saved: &Saved,
    given: &[kvm_cpuid_entry2],
    vm: &Vm,
    supported: &CpuId,
) -> Result<(), ImageError> {
    let Some(vcpu) = saved.vcpus.first() else { return Ok(()) };
    let timer = vm.has_tsc_deadline_timer();
    let lacking = arch::cpuid::lacking(vcpu.cpuid(), given, supported.as_slice(), timer);
    if lacking.is_empty() {
        return Ok(());
    }
    Err(ImageError::Processor { features: lacking.join(", ") })
}

/// Count and topology, checked.
pub(super) fn topology(config: &MachineConfig) -> Result<Topology, BuildError> {
    let count = config.cpus.count;
    if count == 0 || count > MAX_VCPUS {
        return Err(BuildError::config("vCPU count", count, "must be 1 to 64"));
    }
    let given = config.cpus.topology;
    let topology = Topology {
        sockets: given.sockets.into(),
        dies: given.dies.into(),
        cores: given.cores.into(),
        threads: given.threads.into(),
    };
    topology.check(count.into())?;
    Ok(topology)
}

fn spec(config: &MachineConfig, vm: &Vm, supported: &CpuId) -> Result<CpuSpec, BuildError> {
    let details = &config.cpus.details;
    let request = request(config, vm.has_tsc_deadline_timer())?;
    Ok(CpuSpec {
        model: request.model,
        selection: arch::cpuid::select(supported.as_slice(), &request)?,
        vendor_id: details.vendor_id.as_deref().map(vendor_id).transpose()?,
        caches: match details.caches {
            CpuCaches::Host => Caches::Host,
            CpuCaches::Hidden => Caches::Hidden,
            CpuCaches::Emulated => Caches::Emulated,
        },
        hide_kvm: details.hide_kvm,
        hints: KvmHints {
            dedicated: details.dedicated,
            poll_control: details.poll_control,
            without_pv_ipi: details.without_pv_ipi,
        },
        hyperv: details.hyperv.as_ref().map(|hyperv| self::hyperv(hyperv, vm)).transpose()?,
        topology: topology(config)?,
        phys_bits: physical_bits(config, supported)?,
        kvmclock: config.clock.kvmclock,
        pmu: false,
        tsc_deadline: vm.has_tsc_deadline_timer(),
        tsc_khz: None,
    })
}

fn hyperv(given: &config::Hyperv, vm: &Vm) -> Result<HyperV, BuildError> {
    let supported = vm.supported_hyperv_cpuid()?;
    let mut vendor = MICROSOFT;
    if let Some(id) = &given.vendor_id {
        vendor = [0; 12];
        let room = vendor.get_mut(..id.len());
        let reason = "must be at most 12 bytes long";
        room.ok_or_else(|| BuildError::config("Hyper-V vendor id", id, reason))?
            .copy_from_slice(id.as_bytes());
    }
    if given.passthrough {
        return Ok(HyperV::passthrough(supported.as_slice(), vendor));
    }
    let find = |name: &String| {
        Enlightenment::find(name).ok_or_else(|| {
            BuildError::config("Hyper-V enlightenment", name, "is none that this version knows")
        })
    };
    let wanted = given.enlightenments.iter().map(find).collect::<Result<_, _>>()?;
    Ok(HyperV::new(supported.as_slice(), wanted, given.spinlock_retries, vendor)?)
}

fn request(config: &MachineConfig, tsc_deadline: bool) -> Result<Request, BuildError> {
    let details = &config.cpus.details;
    let model = match &config.cpus.model {
        config::CpuModel::HostPassthrough => CpuModel::HostPassthrough,
        config::CpuModel::HostModel => CpuModel::HostModel,
        config::CpuModel::Named(name) => {
            let found = models::find(name);
            CpuModel::Named(found.ok_or_else(|| {
                BuildError::config("CPU model", name, "is none that this version knows")
            })?)
        }
    };
    let policy = |(name, policy): &(String, FeaturePolicy)| {
        let feature = features::find(name).ok_or_else(|| {
            BuildError::config("CPU feature", name, "is none that this version knows")
        })?;
        let policy = match policy {
            FeaturePolicy::Force => Policy::Force,
            FeaturePolicy::Require => Policy::Require,
            FeaturePolicy::Optional => Policy::Optional,
            FeaturePolicy::Disable => Policy::Disable,
            FeaturePolicy::Forbid => Policy::Forbid,
        };
        Ok((feature, policy))
    };
    let vendor = |name: &String| {
        let all = [Vendor::Intel, Vendor::Amd, Vendor::Hygon];
        let found = all.into_iter().find(|vendor| vendor.name() == name);
        found.ok_or_else(|| BuildError::config("CPU vendor", name, "is none that is known"))
    };
    Ok(Request {
        model,
        matching: match details.matching {
            CpuMatch::Minimum => Match::Minimum,
            CpuMatch::Exact => Match::Exact,
            CpuMatch::Strict => Match::Strict,
        },
        check: !details.unchecked,
        vendor: details.vendor.as_ref().map(vendor).transpose()?,
        policies: details.features.iter().map(policy).collect::<Result<_, BuildError>>()?,
        tsc_deadline,
    })
}

fn vendor_id(text: &str) -> Result<[u8; 12], BuildError> {
    let id = text.as_bytes().try_into();
    id.map_err(|_| BuildError::config("CPU vendor id", text, "must be 12 bytes long"))
}

/// Physical address bits that the guest sees: the map of its addresses follows them.
pub(super) fn physical_bits(config: &MachineConfig, supported: &CpuId) -> Result<u8, BuildError> {
    let offered = arch::cpuid::host_phys_bits(supported.as_slice());
    let details = &config.cpus.details;
    match details.physical_bits {
        Some(wanted) => u8::try_from(wanted)
            .ok()
            .filter(|bits| (LEAST_PHYSICAL_BITS..=offered).contains(bits))
            .ok_or_else(|| CpuError::PhysicalBits { wanted, offered }.into()),
        None => {
            let limit = details.physical_bits_limit.and_then(|limit| u8::try_from(limit).ok());
            Ok(limit.map_or(offered, |limit| offered.min(limit.max(LEAST_PHYSICAL_BITS))))
        }
    }
}

/// Restrict the calling thread to these host CPUs; none means any.
pub(super) fn pin(allowed: &[u16]) -> io::Result<()> {
    if allowed.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in allowed {
        if usize::from(*cpu) >= CpuSet::MAX_CPU {
            return Err(io::Error::other(format!("there is no host CPU {cpu}")));
        }
        set.set((*cpu).into());
    }
    Ok(sched_setaffinity(None, &set)?)
}
