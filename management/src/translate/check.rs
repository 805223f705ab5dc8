//! What of a definition can be had: everything outside `<devices>`.
//!
//! Three outcomes: honoured (nothing is said), refused by name, and accepted with a warning where
//! the guest does not need it. Defaults are not filled in yet: only what was written is spoken of.

use xml::device::memballoon::BalloonModel;
use xml::domain::features::State;
use xml::domain::lifecycle::{CrashAction, LifecycleAction};
use xml::domain::memory::{MemorySource, Placement};
use xml::domain::os::OsKind;
use xml::{DomainDef, OnOff, YesNo};

use super::io_threads::IoThreads;
use super::machine::has_vcpu_hotplug;
use super::report::Report;
use super::{check_cpu, check_devices, clock, firmware, hyperv, numa, sysinfo, tuning};

pub(crate) const MOST_VCPUS: u16 = 64;
pub(crate) const LEAST_MEMORY_KIB: u64 = 32 << 10;
pub(crate) const MOST_IO_THREADS: u32 = 64;

pub(super) fn check(def: &DomainDef, report: &mut Report<'_>) {
    check_os(def, report);
    check_memory(def, report);
    check_cpus(def, report);
    numa::check(def, report);
    hyperv::check(def, report);
    check_features(def, report);
    clock::check(def, report);
    check_lifecycle(def, report);
    check_tuning(def, report);
    check_devices::check(def, report);
}

fn check_os(def: &DomainDef, report: &mut Report<'_>) {
    let os = &def.os;
    if let Some(arch) = os.kind.arch.as_deref().filter(|arch| *arch != "x86_64") {
        report.refuse("/domain/os/type/@arch", format!("guests are x86_64 here, not {arch}"));
    }
    if os.kind.kind != OsKind::Hvm {
        let message = format!("an operating system of type {}; use hvm", os.kind.kind);
        report.refuse("/domain/os/type", message);
    }
    if let Some(machine) = os.kind.machine.as_deref()
        && super::board(machine).is_none()
    {
        let message = format!("the machine type {machine}; use q35, pc or microvm");
        report.refuse("/domain/os/type/@machine", message);
    }
    firmware::check(def, report);
    sysinfo::check(def, report);
    let timeout = os.bios.as_ref().is_some_and(|bios| bios.reboot_timeout.is_some());
    report.warn_if(timeout, "/domain/os/bios/@rebootTimeout", "a BIOS that finds nothing waits");
}

fn check_memory(def: &DomainDef, report: &mut Report<'_>) {
    let all = numa::memory(def).unwrap_or(def.memory.size.bytes());
    if all < LEAST_MEMORY_KIB << 10 {
        report.invalid("/domain/memory", "a guest has at least 32 MiB of memory");
    }
    let less = def.current_memory.is_some_and(|current| current < def.memory.size);
    let without = def.devices.mem_balloon.as_ref().is_some_and(|b| b.model == BalloonModel::None);
    let message = "without a balloon the guest has all of <memory>";
    report.warn_if(less && without, "/domain/currentMemory", message);
    report.refuse_if(def.max_memory.is_some(), "/domain/maxMemory", "memory hotplug");
    if let Some(backing) = &def.memory_backing {
        let at = |name: &str| format!("/domain/memoryBacking/{name}");
        let pages = backing.huge_pages.iter().flat_map(|huge| &huge.pages);
        let in_part = |nodes: &xml::CpuSet| !numa::covers_all_cells(def, nodes);
        let of_nodes = pages.clone().any(|page| page.nodeset.as_ref().is_some_and(in_part));
        let count = pages.clone().count();
        let several = count > 1 || of_nodes;
        report.refuse_if(
            several,
            &at("hugepages/page"),
            "pages of different sizes for guest nodes",
        );
        let odd = pages.clone().any(|page| !page.size.0.is_power_of_two());
        if odd {
            report.invalid(&at("hugepages/page/@size"), "a page's size is a power of two");
        }
        let file = backing.source == Some(MemorySource::File);
        report.refuse_if(file, &at("source/@type"), "memory backed by a file");
        report.warn_if(backing.discard, &at("discard"), "memory is always discarded at the end");
    }
}

fn check_cpus(def: &DomainDef, report: &mut Report<'_>) {
    if let Some(vcpu) = &def.vcpu {
        let max = vcpu.max;
        if max > MOST_VCPUS {
            report.refuse("/domain/vcpu", format!("{max} vCPUs: there can be {MOST_VCPUS}"));
        }
        let fewer = vcpu.current.is_some_and(|current| current < max);
        report.warn_if(
            fewer && !has_vcpu_hotplug(def),
            "/domain/vcpu/@current",
            "a microvm gets no vCPUs while it runs",
        );
        let auto = vcpu.placement == Some(Placement::Auto);
        report.warn_if(auto, "/domain/vcpu/@placement", "the host's scheduler places the vCPUs");
    }
    report.refuse_if(def.vcpus.is_some(), "/domain/vcpus", "the state of single vCPUs");
    let Some(cpu) = &def.cpu else { return };
    let at = |name: &str| format!("/domain/cpu/{name}");
    check_cpu::check(cpu, report);
    let clusters = cpu.topology.as_ref().and_then(|topology| topology.clusters);
    let clustered = clusters.is_some_and(|clusters| clusters > 1);
    report.refuse_if(clustered, &at("topology/@clusters"), "CPU clusters");
}

fn check_features(def: &DomainDef, report: &mut Report<'_>) {
    let Some(features) = &def.features else { return };
    let at = |name: &str| format!("/domain/features/{name}");
    let smm = features.smm.as_ref().is_some_and(|smm| smm.state != Some(OnOff::Off));
    report.refuse_if(smm, &at("smm"), "system management mode");
    report.refuse_if(features.viridian, &at("viridian"), "Xen's Viridian features");
    if let Some(kvm) = &features.kvm {
        let dedicated = kvm.hint_dedicated.as_ref().is_some_and(State::is_on);
        let hosts = def.cpu.as_ref().is_some_and(check_cpu::is_hosts);
        if dedicated && !hosts {
            let message = "it goes with the host's CPU: <cpu mode='host-passthrough'/>";
            report.invalid(&at("kvm/hint-dedicated"), message);
        }
        report.warn_if(kvm.dirty_ring.is_some(), &at("kvm/dirty-ring"), "the dirty ring");
    }
    let vmport = features.vm_port.as_ref().is_some_and(State::is_on);
    report.warn_if(vmport, &at("vmport"), "VMware's I/O port");
    let core = features.vm_core_info.as_ref().is_some_and(State::is_on);
    report.warn_if(core, &at("vmcoreinfo"), "the vmcoreinfo device");
}

fn check_lifecycle(def: &DomainDef, report: &mut Report<'_>) {
    let rename = "restarting under another name";
    for (name, action) in [("on_poweroff", def.on_poweroff), ("on_reboot", def.on_reboot)] {
        let renamed = action == Some(LifecycleAction::RenameRestart);
        report.refuse_if(renamed, &format!("/domain/{name}"), rename);
    }
    let at = "/domain/on_crash";
    match def.on_crash {
        Some(CrashAction::RenameRestart) => report.refuse(at, rename),
        Some(CrashAction::CoredumpDestroy | CrashAction::CoredumpRestart) => {
            report.refuse(at, "core dumps of crashed guests; use destroy, restart or preserve");
        }
        _ => {}
    }
    let sleep = def
        .pm
        .as_ref()
        .is_some_and(|pm| [pm.suspend_to_mem, pm.suspend_to_disk].contains(&Some(YesNo::Yes)));
    report.warn_if(sleep, "/domain/pm", "the guest has no sleep states");
    report.warn_if(def.on_lock_failure.is_some(), "/domain/on_lockfailure", "locks are never lost");
}

fn check_tuning(def: &DomainDef, report: &mut Report<'_>) {
    tuning::check(def, report);
    if def.iothreads.is_some_and(|count| count > MOST_IO_THREADS) {
        let message = format!("more than {MOST_IO_THREADS} io threads");
        report.refuse("/domain/iothreads", message);
    }
    let threads = IoThreads::new(def);
    for (number, disk) in (1..).zip(&def.devices.disks) {
        let named = disk.driver.as_ref().and_then(|driver| driver.iothread);
        if let Some(id) = named.filter(|id| threads.defined(*id).is_none()) {
            let path = format!("/domain/devices/disk[{number}]/driver/@iothread");
            report.invalid(&path, format!("there is no io thread {id}; <iothreads> defines them"));
        }
    }
    report.warn_if(def.resource.is_some(), "/domain/resource", "the place in the cgroup tree");
    report.warn_if(def.perf.is_some(), "/domain/perf", "performance counters");
    let labels = !def.security_labels.is_empty();
    report.warn_if(labels, "/domain/seclabel", "security labels: a VMM opens no files by itself");
}
