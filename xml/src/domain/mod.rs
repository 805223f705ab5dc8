//! `<domain>`: the whole definition of a guest.

pub mod clock;
pub mod cpu;
pub mod features;
pub mod lifecycle;
pub mod memory;
pub mod metadata;
pub mod name;
pub mod os;
pub mod tuning;

use uuid::Uuid;

use crate::device::Devices;
use crate::element::element;
use crate::value::names;
use crate::verbatim::Verbatim;

pub use clock::Clock;
pub use cpu::{Cpu, Vcpu, Vcpus};
pub use features::Features;
pub use lifecycle::{CrashAction, LifecycleAction, LockFailureAction, PowerManagement};
pub use memory::{Kib, MaxMemory, Memory, MemoryBacking, MemoryTune, NumaTune};
pub use metadata::{BadMetadata, Metadata};
pub use name::{BadName, Name};
pub use os::{Os, Sysinfo};
pub use tuning::{BlockIoTune, CpuTune, IoThreadIds};

names! {
    /// The hypervisors libvirt knows. A definition that parsed is of type `kvm` or `test`.
    pub enum DomainType {
        Kvm = "kvm", Qemu = "qemu", Kqemu = "kqemu", Xen = "xen", Lxc = "lxc", Uml = "uml", OpenVz = "openvz",
        Test = "test", VmWare = "vmware", HyperV = "hyperv", Vbox = "vbox", Phyp = "phyp", Parallels = "parallels",
        Vz = "vz", Bhyve = "bhyve", Hvf = "hvf",
    }
}

element! {
    /// What a user defined. Fields are in the order in which libvirt prints them.
    pub struct DomainDef {
        attr("type") kind: DomainType,
        /// Of a running domain; no part of a definition, and ignored in one.
        attr id: Option<i32>,
        child name: Name,
        child uuid: Option<Uuid>,
        child genid: Option<GenId>,
        child title: Option<String>,
        child description: Option<String>,
        child metadata: Option<Metadata>,
        child("maxMemory") max_memory: Option<MaxMemory>,
        child memory: Memory,
        child("currentMemory") current_memory: Option<Kib>,
        child("blkiotune") block_io_tune: Option<BlockIoTune>,
        child("memtune") memory_tune: Option<MemoryTune>,
        child("memoryBacking") memory_backing: Option<MemoryBacking>,
        child vcpu: Option<Vcpu>,
        child vcpus: Option<Vcpus>,
        child iothreads: Option<u32>,
        child("iothreadids") iothread_ids: Option<IoThreadIds>,
        child("cputune") cpu_tune: Option<CpuTune>,
        child("numatune") numa_tune: Option<NumaTune>,
        child resource: Option<Verbatim>,
        child("sysinfo") sysinfos: Vec<Sysinfo>,
        child os: Os,
        child features: Option<Features>,
        child cpu: Option<Cpu>,
        child clock: Option<Clock>,
        child("on_poweroff") on_poweroff: Option<LifecycleAction>,
        child("on_reboot") on_reboot: Option<LifecycleAction>,
        child("on_crash") on_crash: Option<CrashAction>,
        child("on_lockfailure") on_lock_failure: Option<LockFailureAction>,
        child pm: Option<PowerManagement>,
        child perf: Option<Verbatim>,
        section devices: Devices,
        child("seclabel") security_labels: Vec<Verbatim>,
    }
    refuse [
        "bootloader", "bootloader_args", "defaultiothread", "idmap", "keywrap", "launchSecurity", "throttlegroups",
    ];
    check crate::rules::check_domain;
}

element! {
    /// `<genid/>` asks for one to be made.
    #[derive(Default)]
    pub struct GenId {
        text id: Option<Uuid>,
    }
}
