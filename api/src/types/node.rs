//! The host.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    pub hostname: String,
    /// Manor's version.
    #[schema(example = "0.1.0")]
    pub version: String,
    pub kernel: String,
    #[schema(example = "x86_64")]
    pub architecture: String,
    pub cpu_model: String,
    /// Logical CPUs that are online.
    pub cpus: u32,
    pub cpu_mhz: u32,
    pub numa_nodes: u32,
    /// Per NUMA node.
    pub sockets: u32,
    /// Per socket.
    pub cores: u32,
    /// Per core.
    pub threads: u32,
    pub memory_bytes: u64,
    pub free_memory_bytes: u64,
    /// Since the host booted.
    pub uptime_s: u64,
    #[serde(default)]
    pub counters: NodeCounters,
    /// Definitions that could not be read and were put aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
    /// What the daemon lacks and works without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

/// What the host's CPUs have done since it booted, and where its memory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NodeCounters {
    pub user_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: u64,
    /// Used for nothing at all; `free_memory_bytes` counts what can be had.
    pub unused_bytes: u64,
    pub buffers_bytes: u64,
    pub cached_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    pub file: String,
    pub reason: String,
}
