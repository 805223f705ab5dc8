//! What a domain gets of the host: read from a definition, and changed in a running guest, in its
//! definition, or in both.
//!
//! ```text
//! Tuning ─apply→ live definition ─written down→ record ─enforce (what differs)→ cgroup, threads, VMM, tap
//!       └─apply→ stored definition
//! ```
//! The record of a running domain is the intent: a daemon that comes after one that was killed in
//! between puts into force what is written there.

mod apply;
mod enforce;
mod numa;
mod read;
mod sizes;
mod vcpus;

/// What of a domain is tuned. In a change, what is not said stays, and 0 means that there is no such
/// limit any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaTuning {
    /// `strict`, `preferred` or `interleave`.
    pub mode: Option<String>,
    /// Of the host; none of them: wherever there is memory.
    pub nodes: Option<Vec<u16>>,
}

/// What the guest starts with: it cannot change while the guest runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    pub vcpus: Option<u16>,
    pub max_vcpus: Option<u16>,
    pub max_memory_bytes: Option<u64>,
}

/// `<cputune>`. Microseconds; a negative quota is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuTuning {
    pub shares: Option<u64>,
    pub period_us: Option<u64>,
    pub quota_us: Option<i64>,
    pub global_period_us: Option<u64>,
    pub global_quota_us: Option<i64>,
    pub emulator_period_us: Option<u64>,
    pub emulator_quota_us: Option<i64>,
    pub iothread_period_us: Option<u64>,
    pub iothread_quota_us: Option<i64>,
}

/// Host CPUs; none: all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    pub vcpus: Vec<Pin>,
    pub emulator: Option<Vec<u16>>,
    pub iothreads: Vec<Pin>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pin {
    /// Of the vCPU or io thread.
    pub id: u32,
    pub cpus: Vec<u16>,
}

/// `<memtune>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTuning {
    pub hard_limit_bytes: Option<u64>,
    pub soft_limit_bytes: Option<u64>,
    pub swap_hard_limit_bytes: Option<u64>,
}

/// `<blkiotune>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockTuning {
    pub weight: Option<u32>,
    pub devices: Vec<BlockDeviceTuning>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockDeviceTuning {
    pub path: String,
    pub weight: Option<u32>,
    pub read_iops_sec: Option<u32>,
    pub write_iops_sec: Option<u32>,
    pub read_bytes_sec: Option<u64>,
    pub write_bytes_sec: Option<u64>,
}

/// `<iotune>` of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskTuning {
    /// Its target, or its source.
    pub disk: String,
    /// Disks of one name share what they are given.
    pub group_name: Option<String>,
    pub total_bytes_sec: Option<u64>,
    pub read_bytes_sec: Option<u64>,
    pub write_bytes_sec: Option<u64>,
    pub total_iops_sec: Option<u64>,
    pub read_iops_sec: Option<u64>,
    pub write_iops_sec: Option<u64>,
    pub total_bytes_sec_max: Option<u64>,
    pub read_bytes_sec_max: Option<u64>,
    pub write_bytes_sec_max: Option<u64>,
    pub total_iops_sec_max: Option<u64>,
    pub read_iops_sec_max: Option<u64>,
    pub write_iops_sec_max: Option<u64>,
    pub total_bytes_sec_max_length: Option<u64>,
    pub read_bytes_sec_max_length: Option<u64>,
    pub write_bytes_sec_max_length: Option<u64>,
    pub total_iops_sec_max_length: Option<u64>,
    pub read_iops_sec_max_length: Option<u64>,
    pub write_iops_sec_max_length: Option<u64>,
    pub size_iops_sec: Option<u64>,
}

/// `<bandwidth>` of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceTuning {
    /// Its MAC address, or its tap.
    pub interface: String,
    /// Towards the guest.
    pub inbound: Option<RateTuning>,
    pub outbound: Option<RateTuning>,
}

/// Kilobytes each second, and KiB at once; an average of 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateTuning {
    pub average: u32,
    pub peak: Option<u32>,
    pub burst: Option<u32>,
}
