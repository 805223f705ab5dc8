//! A definition and its open resources as the VMM's configuration.

use vmm_protocol::Version;
use vmm_protocol::config::{
    Action, Boot, Cpus, Firmware, Identity, Lifecycle, Machine, MachineConfig, Memory,
    MemoryBacking, Platform, ProcessFiles, Topology, Vnc,
};
use xml::DomainDef;
use xml::OnOff;
use xml::device::panic::PanicModel;
use xml::domain::lifecycle::{CrashAction, LifecycleAction};
use xml::domain::memory::{AllocationMode, MemoryAccess, MemorySource};

use super::io_threads::{IoThreads, cpus};
use super::{
    Resources, clock, disk_errors, disk_limits, display, firmware, machine_devices, numa, sysinfo,
};
use crate::error::{Code, Error};

/// What a start adds to the definition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Start {
    pub identity: Identity,
    /// The platform version pinned at define.
    pub platform: u16,
    pub process: ProcessFiles,
    pub paused: bool,
    pub now: jiff::Timestamp,
}

const MIB: u64 = 1 << 20;

pub(crate) fn machine(
    def: &DomainDef,
    resources: &Resources,
    start: Start,
) -> Result<MachineConfig, Error> {
    let mut io_threads = IoThreads::new(def);
    let vcpus = cpus_of(def);
    let pci = machine_devices::pci(def, resources, vcpus.count, &mut io_threads)?;
    Ok(MachineConfig {
        version: Version::CURRENT,
        identity: start.identity,
        platform: Platform { machine: super::board_of(def), version: start.platform },
        memory: memory(def),
        numa: numa::numa(def, vcpus.count),
        cpus: vcpus,
        clock: clock::clock(def, start.now)?,
        boot: boot(def, resources)?,
        smbios: sysinfo::smbios(def),
        generation: def.genid.as_ref().and_then(|genid| genid.id),
        fw_cfg: sysinfo::fw_cfg(def, &resources.fw_cfg),
        lifecycle: lifecycle(def),
        io_threads: io_threads.into_threads(),
        pci,
        disk_limits: disk_limits::disk_limits(def),
        disk_errors: disk_errors::disk_errors(def),
        serial: machine_devices::serials(def, resources),
        pvpanic: def.devices.panics.iter().any(|panic| panic.model != Some(PanicModel::Hyperv)),
        ramfb: machine_devices::ramfb(&def.devices, resources)?,
        vnc: vnc(def, resources),
        process: start.process,
        restore: None,
        start_paused: start.paused,
    })
}

/// Nobody is let in to a guest without a graphics card.
fn vnc(def: &DomainDef, resources: &Resources) -> Vec<Vnc> {
    let server = display::server(&def.devices).filter(|_| display::card(&def.devices).is_some());
    server.map(|server| display::vnc(server, &resources.vnc)).into_iter().collect()
}

pub(super) fn memory(def: &DomainDef) -> Memory {
    let backing = def.memory_backing.as_ref();
    let shared = backing.is_some_and(|backing| {
        backing.access == Some(MemoryAccess::Shared) || backing.source == Some(MemorySource::Memfd)
    });
    let shared = shared || numa::is_shared(def);
    // As libvirt, up to the next MiB.
    let whole = |bytes: u64| bytes.div_ceil(MIB).saturating_mul(MIB);
    let size = numa::memory(def).unwrap_or(whole(def.memory.size.bytes()));
    let huge = backing.and_then(|backing| backing.huge_pages.as_ref());
    let locked = backing.is_some_and(|backing| backing.locked);
    let allocation = backing.and_then(|backing| backing.allocation.as_ref());
    let prefault = allocation.and_then(|a| a.mode) == Some(AllocationMode::Immediate);
    let backing = match huge {
        Some(huge) => {
            MemoryBacking::Huge { page: huge.pages.first().map(|page| page.size.bytes()) }
        }
        None if shared => MemoryBacking::Shared,
        None => MemoryBacking::Anonymous,
    };
    // Only private memory is looked at.
    let own = def.memory_backing.as_ref().is_some_and(|backing| backing.no_share_pages);
    let mergeable = backing == MemoryBacking::Anonymous && !own;
    Memory { size, backing, locked, prefault, mergeable }
}

/// Whether vCPUs come and go while the guest runs: who says how many there are at first means that it may
/// change. By the events that a `microvm` has not.
pub(crate) fn has_vcpu_hotplug(def: &DomainDef) -> bool {
    let said = def.vcpu.as_ref().is_some_and(|vcpu| vcpu.current.is_some());
    said && super::board_of(def) != Machine::Microvm
}

/// vCPUs that the machine has or may get: a guest's devices are the same however many there are.
pub(super) fn vcpus(def: &DomainDef) -> u16 {
    let Some(vcpu) = &def.vcpu else { return 1 };
    if has_vcpu_hotplug(def) { vcpu.max } else { vcpu.current.unwrap_or(vcpu.max) }
}

fn cpus_of(def: &DomainDef) -> Cpus {
    let max = def.vcpu.as_ref().map_or(1, |vcpu| vcpu.max);
    let count = vcpus(def);
    let written = def.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref()).filter(|_| count == max);
    let part = |number: u32| u16::try_from(number).unwrap_or(1);
    let topology = match written {
        Some(topology) => Topology {
            sockets: part(topology.sockets),
            dies: part(topology.dies.unwrap_or(1)),
            cores: part(topology.cores),
            threads: part(topology.threads),
        },
        None => Topology { sockets: count, dies: 1, cores: 1, threads: 1 },
    };
    let present = has_vcpu_hotplug(def).then(|| super::tuning::vcpus(def));
    let (model, details) = super::machine_cpu::cpu(def);
    Cpus { count, present, model, details, topology, affinity: affinity(def, count) }
}

/// `<vcpupin>`, or `<vcpu cpuset=…>` for those without one.
fn affinity(def: &DomainDef, count: u16) -> Vec<Vec<u16>> {
    let all = def.vcpu.as_ref().and_then(|vcpu| vcpu.cpuset.as_ref()).map(cpus);
    let pins: Vec<_> = def.cpu_tune.iter().flat_map(|tune| &tune.vcpu_pins).collect();
    if all.is_none() && pins.is_empty() {
        return Vec::new();
    }
    let of = |vcpu| {
        let pin = pins.iter().find(|pin| pin.vcpu == vcpu);
        pin.map(|pin| cpus(&pin.cpuset)).or_else(|| all.clone()).unwrap_or_default()
    };
    (0..count).map(of).collect()
}

fn boot(def: &DomainDef, resources: &Resources) -> Result<Boot, Error> {
    if let Some(kernel) = resources.kernel {
        let cmdline = def.os.cmdline.as_deref().unwrap_or_default().trim().to_owned();
        return Ok(Boot::Kernel { kernel, initrd: resources.initrd, cmdline });
    }
    let image = resources.firmware.ok_or_else(|| {
        Error::new(Code::Internal, "neither a kernel nor firmware was opened for a start")
    })?;
    Ok(Boot::Firmware(Firmware {
        image,
        variables: resources.variables,
        menu: firmware::menu(&def.os),
        serial_text: firmware::serial_text(def),
    }))
}

pub(crate) fn lifecycle(def: &DomainDef) -> Lifecycle {
    let action = |action: Option<LifecycleAction>, default| match action {
        Some(LifecycleAction::Destroy) => Action::Destroy,
        Some(LifecycleAction::Restart) => Action::Restart,
        Some(LifecycleAction::Preserve) => Action::Preserve,
        Some(LifecycleAction::RenameRestart) | None => default,
    };
    Lifecycle {
        on_poweroff: action(def.on_poweroff, Action::Destroy),
        on_reboot: action(def.on_reboot, Action::Restart),
        on_crash: match def.on_crash {
            Some(CrashAction::Restart | CrashAction::CoredumpRestart) => Action::Restart,
            Some(CrashAction::Preserve) => Action::Preserve,
            _ => Action::Destroy,
        },
    }
}

pub(super) fn is_on(value: Option<OnOff>) -> bool {
    value != Some(OnOff::Off)
}
