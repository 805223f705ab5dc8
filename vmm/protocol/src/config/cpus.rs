//! The processors.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpus {
    /// vCPUs that the machine has or may get, 1 to 64.
    pub count: u16,
    /// Present at start; the others may come while the guest runs, and all but the first may go. None:
    /// all, for good.
    #[serde(default)]
    pub present: Option<u16>,
    pub model: CpuModel,
    #[serde(default)]
    pub details: CpuDetails,
    pub topology: Topology,
    /// Host CPUs each vCPU may run on, by vCPU index; an empty list or a missing entry means any.
    #[serde(default)]
    pub affinity: Vec<Vec<u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuModel {
    HostPassthrough,
    HostModel,
    /// One of libvirt's names (`Skylake-Server`).
    Named(String),
}

/// What a definition says of the CPU beside its model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuDetails {
    pub matching: CpuMatch,
    /// Start also where the host lacks features of a named model; the guest goes without.
    pub unchecked: bool,
    /// Only on a host of this vendor: `Intel`, `AMD`, `Hygon`.
    pub vendor: Option<String>,
    /// What the guest sees as vendor: 12 bytes.
    pub vendor_id: Option<String>,
    /// By libvirt's names.
    pub features: Vec<(String, FeaturePolicy)>,
    /// Physical address bits; none: the host's.
    pub physical_bits: Option<u32>,
    /// At most so many of the host's.
    pub physical_bits_limit: Option<u32>,
    pub caches: CpuCaches,
    /// Nothing tells the guest that it runs on KVM.
    pub hide_kvm: bool,
    /// vCPUs are never preempted, and the guest knows.
    pub dedicated: bool,
    /// The guest may choose whether the host polls when it halts; none: as the model has it.
    pub poll_control: Option<bool>,
    /// Interrupts between processors by KVM's hypercall are not offered.
    pub without_pv_ipi: bool,
    pub hyperv: Option<Hyperv>,
}

/// What the guest is told of caches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuCaches {
    #[default]
    Host,
    Hidden,
    /// The same on every host.
    Emulated,
}

/// What KVM does as Hyper-V would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hyperv {
    /// All that the host's KVM can, beside what follows.
    pub passthrough: bool,
    /// By libvirt's names; `stimer-direct`, `tlbflush-direct`, `tlbflush-ext` of the parts of
    /// others, `hypervclock` of the timer, `crash` of the panic device.
    pub enlightenments: Vec<String>,
    /// How often a guest tries a lock before it tells the hypervisor; none: it never tells.
    pub spinlock_retries: Option<u32>,
    /// At most 12 bytes; none: Microsoft's.
    pub vendor_id: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuMatch {
    Minimum,
    #[default]
    Exact,
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeaturePolicy {
    Force,
    Require,
    Optional,
    Disable,
    Forbid,
}

/// `sockets * dies * cores * threads` equals [`Cpus::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    pub sockets: u16,
    pub dies: u16,
    pub cores: u16,
    pub threads: u16,
}
