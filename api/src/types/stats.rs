//! Counters of running domains.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DomainSummary;

/// Counters count from the domain's start. Asking never waits for a guest: `age_ms` says how old
/// the figures are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainStats {
    #[serde(flatten)]
    pub summary: DomainSummary,
    /// Since the VMM gave these figures; absent: it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Resident memory of the VMM process, guest RAM included.
    pub resident_bytes: u64,
    /// Of a guest with a memory balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<BalloonStats>,
    pub vcpu_stats: Vec<VcpuStats>,
    pub block_stats: Vec<BlockStats>,
    pub interface_stats: Vec<InterfaceStats>,
    /// Numbers of its io threads.
    #[serde(default)]
    pub io_threads: Vec<u32>,
    /// How much memory it writes to, where that was measured, or is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_rate: Option<DirtyRate>,
    /// Bus accesses of the guest that no device answered.
    pub unhandled_accesses: u64,
}

/// What the guest says of its memory; what it does not say is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalloonStats {
    /// What the guest has at present.
    pub actual_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_in_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_out_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor_faults: Option<u64>,
    /// Used for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_bytes: Option<u64>,
    /// All that the guest's kernel manages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// What programs could have without swapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_caches_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugetlb_allocations: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugetlb_failures: Option<u64>,
    /// When it said so, seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<u64>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VcpuStats {
    pub cpu_time_ns: u64,
    /// Exits that reached the VMM process.
    pub exits: u64,
    /// The host's CPU on which it ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The guest has it at present: vCPUs come and go.
    #[serde(default = "yes")]
    pub online: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockStats {
    #[schema(example = "vda")]
    pub target: String,
    pub source: Option<String>,
    pub read_requests: u64,
    pub read_bytes: u64,
    pub write_requests: u64,
    pub write_bytes: u64,
    pub flush_requests: u64,
    /// Nanoseconds that requests of each kind took, all together.
    #[serde(default)]
    pub read_time_ns: u64,
    #[serde(default)]
    pub write_time_ns: u64,
    #[serde(default)]
    pub flush_time_ns: u64,
    /// Of the image that the guest uses: an event tells when it is written to beyond this place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_bytes: Option<u64>,
    /// Requests that the host failed, whatever the disk's policy made of them.
    pub errors: u64,
    /// Why the guest is paused because of this disk: `no space` or `unspecified error`
    /// (virDomainGetDiskErrors). Absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "no space")]
    pub fault: Option<String>,
    /// Of a network disk: it has its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStats {
    /// The tap on the host.
    #[schema(example = "vnet0")]
    pub target: String,
    pub source: Option<String>,
    pub mac: String,
    pub receive_packets: u64,
    pub receive_bytes: u64,
    pub receive_drops: u64,
    pub transmit_packets: u64,
    pub transmit_bytes: u64,
    pub transmit_drops: u64,
}

/// Counters of every domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsList {
    pub domains: Vec<DomainStats>,
}

/// How much of its memory a guest writes to, as measured once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirtyRate {
    /// Seconds since 1970
    pub started: u64,
    /// For how long it was measured, or is
    pub seconds: u32,
    /// MiB in a second; absent: it is being measured
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mib_per_second: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasureDirtyRate {
    /// 1 to 60
    pub seconds: u32,
}
