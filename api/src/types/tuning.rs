//! What a domain gets of the host.
//!
//! In a change, members that are absent stay as they are, and 0 means that there is no such limit.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What of a domain is tuned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    pub cpu: CpuTuning,
    pub pins: Pins,
    pub memory: MemoryTuning,
    pub block: BlockTuning,
    pub disks: Vec<DiskTuning>,
    pub interfaces: Vec<InterfaceTuning>,
    pub sizes: Sizes,
    pub numa: NumaTuning,
}

/// `<numatune>`, which counts at a start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NumaTuning {
    /// `strict`, `preferred` or `interleave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Of the host; none of them: wherever there is memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<u16>>,
}

/// What the guest starts with: it cannot change while the guest runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sizes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vcpus: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_bytes: Option<u64>,
}

/// `<cputune>`. Microseconds; a negative quota is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CpuTuning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_period_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_quota_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator_period_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator_quota_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iothread_period_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iothread_quota_us: Option<i64>,
}

/// Host CPUs; none: all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pins {
    pub vcpus: Vec<Pin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<Vec<u16>>,
    pub iothreads: Vec<Pin>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pin {
    /// Of the vCPU or io thread.
    pub id: u32,
    pub cpus: Vec<u16>,
}

/// `<memtune>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryTuning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_hard_limit_bytes: Option<u64>,
}

/// `<blkiotune>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BlockTuning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    pub devices: Vec<BlockDeviceTuning>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BlockDeviceTuning {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops_sec: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops_sec: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_sec: Option<u64>,
}

/// `<iotune>` of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiskTuning {
    /// Its target, or its source.
    pub disk: String,
    /// Disks of one name share what they are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_iops_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops_sec: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes_sec_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_sec_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_sec_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_iops_sec_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops_sec_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops_sec_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes_sec_max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_sec_max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_sec_max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_iops_sec_max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops_sec_max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops_sec_max_length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_iops_sec: Option<u64>,
}

/// `<bandwidth>` of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InterfaceTuning {
    /// Its MAC address, or its tap.
    pub interface: String,
    /// Towards the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<RateTuning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<RateTuning>,
}

/// Kilobytes each second, and KiB at once; an average of 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateTuning {
    pub average: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}
