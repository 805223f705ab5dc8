//! The host, and what it can do.

use crate::auth::Access;
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::manager::{Context, Operation};

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
        let mut node = blocking(|| Ok(crate::host::details())).await?;
        node.quarantined.clone_from(&cx.quarantined);
        node.degraded.clone_from(&cx.degraded);
        Ok(node)
    }
}

/// What guests can be given here, as libvirt's capabilities XML (virConnectGetCapabilities).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetCapabilities;

impl Operation for GetCapabilities {
    type Output = String;
    const NAME: &'static str = "node.capabilities";
    const ACCESS: Access = Access::Read;

    async fn run(self, _cx: &Context) -> Result<String, Error> {
        blocking(|| Ok(crate::host::capabilities())).await
    }
}
