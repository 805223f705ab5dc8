//! The host, and what it can do.

use crate::auth::Access;
use crate::domain::actor::blocking;
use crate::domain_capabilities::{self, Wanted};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};
use vmm_protocol::config::Machine;

pub use crate::domain_capabilities::{MAX_VCPUS, cpu_model_names};

/// What the host's CPUs have done since it booted, nanoseconds (virNodeGetCPUStats), and where its
/// memory is, KiB (virNodeGetMemoryStats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounters {
    pub user: u64,
    pub system: u64,
    pub idle: u64,
    pub iowait: u64,
    pub free: u64,
    pub buffers: u64,
    pub cached: u64,
}

/// The host in figures (virNodeGetInfo).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeDetails {
    pub hostname: String,
    /// Manor's version.
    pub version: String,
    pub kernel: String,
    pub architecture: String,
    pub cpu_model: String,
    /// Logical CPUs that are online.
    pub cpus: u32,
    pub mhz: u32,
    pub nodes: u32,
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
    /// KiB.
    pub memory: u64,
    pub free_memory: u64,
    /// Since the host booted, seconds.
    pub uptime: u64,
    pub counters: NodeCounters,
    /// Definitions that could not be read and were put aside, with the reason.
    pub quarantined: Vec<(String, String)>,
    /// What the daemon lacks and works without (`cgroup v2: not mounted …`).
    pub degraded: Vec<String>,
}

/// The host in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetNode;

impl Operation for GetNode {
    type Output = NodeDetails;
    const NAME: &'static str = "node.get";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<NodeDetails, Error> {
        let host = cx.node.host.clone();
        let mut node = blocking(move || Ok(crate::host::details(&host))).await?;
        node.quarantined.clone_from(&cx.quarantined);
        node.degraded.clone_from(&cx.degraded);
        Ok(node)
    }
}

/// What one of the host's CPUs has done since it booted (virNodeGetCPUStats).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetCpuCounters {
    pub cpu: u32,
}

impl Operation for GetCpuCounters {
    type Output = NodeCounters;
    const NAME: &'static str = "node.cpu-counters";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<NodeCounters, Error> {
        let (host, cpu) = (cx.node.host.clone(), self.cpu);
        let missing =
            Error::new(Code::InvalidArgument, format!("the host has no CPU {cpu} that is on"));
        blocking(move || crate::host::cpu_counters(&host, cpu).ok_or(missing)).await
    }
}

/// What the host's firmware says of it, as libvirt's `<sysinfo>` (virConnectGetSysinfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetSysinfo;

impl Operation for GetSysinfo {
    type Output = String;
    const NAME: &'static str = "node.sysinfo";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let host = cx.node.host.clone();
        blocking(move || crate::host::sysinfo(&host)).await
    }
}

/// What guests can be given here, as libvirt's capabilities XML (virConnectGetCapabilities).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetCapabilities;

impl Operation for GetCapabilities {
    type Output = String;
    const NAME: &'static str = "node.capabilities";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let host = cx.node.host.clone();
        blocking(move || Ok(crate::host::capabilities(&host))).await
    }
}

/// What a guest of one kind can have here, as XML (virConnectGetDomainCapabilities).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetDomainCapabilities {
    pub architecture: Option<String>,
    pub machine: Option<String>,
    pub virt_type: Option<String>,
}

impl Operation for GetDomainCapabilities {
    type Output = String;
    const NAME: &'static str = "node.domain-capabilities";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let (firmware, driver) = (cx.node.firmware(), cx.node.host.driver);
        blocking(move || {
            let efi = [Machine::Q35, Machine::Pc].map(|machine| firmware.efi(machine, false));
            let mut efi: Vec<_> = efi.into_iter().flatten().map(|found| found.code).collect();
            efi.dedup();
            domain_capabilities::describe(Wanted {
                architecture: self.architecture.as_deref(),
                machine: self.machine.as_deref(),
                virt_type: self.virt_type.as_deref(),
                driver,
                efi: &efi,
            })
        })
        .await
    }
}
