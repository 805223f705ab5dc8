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
    /// Definitions that could not be read and were put aside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
    /// What the daemon lacks and works without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    pub file: String,
    pub reason: String,
}
