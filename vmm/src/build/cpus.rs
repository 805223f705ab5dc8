//! Step 6: the vCPUs, on threads of their own, parked.

use std::io;
use std::sync::Arc;

use arch::cpuid::{CpuModel, CpuSpec, cpuid};
use arch::topology::Topology;
use kvm_bindings::CpuId;
use rustix::thread::{CpuSet, sched_setaffinity};
use vmm_protocol::config;
use vmm_protocol::config::MachineConfig;

use super::{BuildError, zones};
use crate::kvm::{KvmError, Vm, install_kick_handler};
use crate::machine::Cpus;
use crate::sandbox::{Kind, Sandbox};
use crate::vcpu::{Buses, Handle, Inbox, Surroundings};

/// What the guest and its saved states can count on.
const MAX_VCPUS: u16 = 64;

pub(super) fn build(
    config: &MachineConfig,
    vm: &Vm,
    supported: &CpuId,
    buses: &Buses,
    inbox: &Arc<Inbox>,
    sandbox: &Sandbox,
) -> Result<Cpus, BuildError> {
    let spec = spec(config, vm, supported)?;
    install_kick_handler()?;
    let zones = zones::waiting(&config.boot).zones;
    let mut coalesced = None;
    let mut handles = Vec::with_capacity(config.cpus.count.into());
    for index in 0..config.cpus.count {
        let vcpu = vm.vcpu(spec.topology.apic_id(index.into()))?;
        let leaves = cpuid(supported.as_slice(), &spec, index.into());
        let leaves = CpuId::from_entries(&leaves).map_err(|_| KvmError::State { what: "CPUID" })?;
        vcpu.set_cpuid(&leaves)?;
        if index == 0 {
            coalesced = vm.coalesce(&vcpu, zones)?.map(Arc::new);
        }
        let around = Surroundings {
            buses: buses.clone(),
            coalesced: coalesced.clone(),
            ram: vm.ram().clone(),
            inbox: inbox.clone(),
        };
        let allowed = config.cpus.affinity.get(usize::from(index)).cloned().unwrap_or_default();
        let confine = sandbox.entering(Kind::Vcpu);
        let prepare = Box::new(move || pin(&allowed).and_then(|()| confine()));
        handles.push(Handle::spawn(index, vcpu, around, prepare)?);
    }
    Ok(Cpus::new(handles, vm.saved_msrs()?)?)
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
    Ok(CpuSpec {
        model: match config.cpus.model {
            config::CpuModel::HostPassthrough => CpuModel::HostPassthrough,
            config::CpuModel::HostModel => CpuModel::HostModel,
        },
        topology: topology(config)?,
        phys_bits: arch::cpuid::host_phys_bits(supported.as_slice()),
        kvmclock: config.clock.kvmclock,
        pmu: false,
        tsc_deadline: vm.has_tsc_deadline_timer(),
        tsc_khz: None,
    })
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
