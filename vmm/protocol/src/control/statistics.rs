//! What a VMM counts.

use serde::{Deserialize, Serialize};

/// Why requests of a disk are kept until the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFault {
    NoSpace,
    Unspecified,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// By vCPU index.
    pub vcpus: Vec<VcpuStatistics>,
    /// Resident set of the process, bytes.
    pub resident: u64,
    pub blocks: Vec<(String, BlockStatistics)>,
    pub interfaces: Vec<(String, InterfaceStatistics)>,
    /// Of a guest with a balloon.
    #[serde(default)]
    pub balloon: Option<BalloonStatistics>,
    /// Bus accesses no device answered.
    pub unhandled_accesses: u64,
    /// The last that was measured, or is.
    #[serde(default)]
    pub dirty_rate: Option<Box<DirtyRate>>,
}

/// How much of its memory the guest writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyRate {
    /// Seconds since 1970.
    pub started: u64,
    /// For how long it is measured.
    pub seconds: u32,
    /// MiB in a second; none: not yet known.
    pub rate: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VcpuStatistics {
    /// Time on a host CPU, nanoseconds.
    pub time_ns: u64,
    /// Exits that reached this process.
    pub exits: u64,
    /// It is not there at present.
    #[serde(default)]
    pub absent: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockStatistics {
    pub read_requests: u64,
    pub read_bytes: u64,
    pub write_requests: u64,
    pub write_bytes: u64,
    pub flush_requests: u64,
    /// Nanoseconds that requests of each kind took, all together.
    #[serde(default)]
    pub read_time: u64,
    #[serde(default)]
    pub write_time: u64,
    #[serde(default)]
    pub flush_time: u64,
    /// Of the image that the guest uses: where a write tells that it went beyond, as nothing has yet.
    #[serde(default)]
    pub threshold: Option<u64>,
    /// Requests that the host failed.
    pub errors: u64,
    /// Requests that it failed are kept: the guest is paused, and they are retried when it goes on.
    #[serde(default)]
    pub fault: Option<DiskFault>,
    /// Of a network disk: it has its server.
    #[serde(default)]
    pub connected: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatistics {
    /// The host's kernel moves the packets: its counters of the tap are those that count.
    #[serde(default)]
    pub by_kernel: bool,
    pub receive_packets: u64,
    pub receive_bytes: u64,
    pub receive_drops: u64,
    pub transmit_packets: u64,
    pub transmit_bytes: u64,
    pub transmit_drops: u64,
}

/// Bytes, and counts of events. What the guest does not say is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BalloonStatistics {
    /// What the guest has at present.
    pub memory: u64,
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    pub major_faults: Option<u64>,
    pub minor_faults: Option<u64>,
    pub free: Option<u64>,
    pub total: Option<u64>,
    pub available: Option<u64>,
    pub caches: Option<u64>,
    pub huge_allocations: Option<u64>,
    pub huge_failures: Option<u64>,
    /// Seconds since the Unix epoch; 0: it never said anything.
    pub updated: u64,
}
