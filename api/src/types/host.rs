//! The host's memory and processors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CellList {
    pub cells: Vec<Cell>,
}

/// What a CPU has done since the host booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CpuCounters {
    pub user_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: u64,
}

/// Memory, and the CPUs that it is nearest to (a NUMA node).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cell {
    pub id: u32,
    pub memory_bytes: u64,
    pub free_bytes: u64,
    /// By size; ordinary ones first.
    pub pages: Vec<Pages>,
    #[schema(example = json!([0, 1]))]
    pub cpus: Vec<u32>,
}

/// Pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pages {
    #[schema(example = 2_097_152)]
    pub size_bytes: u64,
    pub total: u64,
    pub free: u64,
}

/// How many huge pages are put aside for guests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HugePages {
    #[schema(example = 2_097_152)]
    pub size_bytes: u64,
    pub count: u64,
    /// The cell they are in; without it, wherever the host has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<u32>,
    /// Beside those that there are; else in place of them.
    #[serde(default)]
    pub add: bool,
}

/// How the kernel keeps pages of guests that are the same once (KSM). What the host does not have is
/// absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharedMemory {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages_to_scan: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_across_nodes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub pages_shared: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub pages_sharing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub pages_unshared: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub pages_volatile: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    pub full_scans: Option<u64>,
}

/// How the kernel shall look for pages that are the same; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SharedMemoryTuning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages_to_scan: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_ms: Option<u32>,
    /// Can be changed only while nothing is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_across_nodes: Option<bool>,
}

/// How a processor stands to the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CpuResult {
    /// It has what the host has not.
    Incompatible,
    Identical,
    /// The host has all of it, and more.
    Superset,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CpuComparison {
    pub result: CpuResult,
    /// What the host lacks of it.
    #[schema(example = json!(["avx2"]))]
    pub lacking: Vec<String>,
}

/// Processors of which the richest common one is sought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CpuBaseline {
    /// libvirt's `<cpu>`, each.
    pub cpus: Vec<String>,
    /// Tell all of its features by name.
    #[serde(default)]
    pub expand: bool,
}
