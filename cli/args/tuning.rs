//! Verbs of what a domain gets of the host.

use clap::Args;

use super::Affects;

#[derive(Debug, Args)]
pub(crate) struct Schedinfo {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// parameter=value
    pub(crate) parameters: Vec<String>,
    /// parameter=value
    #[arg(long, value_name = "PARAMETER=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Memtune {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// Max memory, as scaled integer (default KiB); -1: no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) hard_limit: Option<String>,
    /// Memory during contention, as scaled integer (default KiB); -1: no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) soft_limit: Option<String>,
    /// Max memory plus swap, as scaled integer (default KiB); -1: no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) swap_hard_limit: Option<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct IothreadId {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// iothread for the IOThread
    pub(crate) id: u32,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Numatune {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// NUMA mode, one of strict, preferred and interleave
    #[arg(long)]
    pub(crate) mode: Option<String>,
    /// NUMA node selections to set
    #[arg(long, value_name = "NODES")]
    pub(crate) nodeset: Option<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Blkiotune {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// IO Weight
    #[arg(long, value_name = "NUMBER")]
    pub(crate) weight: Option<u32>,
    /// per-device IO Weights, in the form of /path/to/device,weight,...
    #[arg(long, value_name = "STRING")]
    pub(crate) device_weights: Option<String>,
    /// per-device read I/O limit per second, in the form of /path/to/device,read_iops_sec,...
    #[arg(long, value_name = "STRING")]
    pub(crate) device_read_iops_sec: Option<String>,
    /// per-device write I/O limit per second, in the form of /path/to/device,write_iops_sec,...
    #[arg(long, value_name = "STRING")]
    pub(crate) device_write_iops_sec: Option<String>,
    /// per-device bytes read per second, in the form of /path/to/device,read_bytes_sec,...
    #[arg(long, value_name = "STRING")]
    pub(crate) device_read_bytes_sec: Option<String>,
    /// per-device bytes written per second, in the form of /path/to/device,write_bytes_sec,...
    #[arg(long, value_name = "STRING")]
    pub(crate) device_write_bytes_sec: Option<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Vcpupin {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// vcpu number
    #[arg(id = "vcpu_number", value_name = "vcpu")]
    pub(crate) vcpu: Option<u32>,
    /// host cpu number(s) to set, or 'r' for all
    #[arg(id = "cpu_list", value_name = "cpulist")]
    pub(crate) cpulist: Option<String>,
    /// vcpu number
    #[arg(long = "vcpu", value_name = "NUMBER", conflicts_with = "vcpu_number")]
    pub(crate) vcpu_option: Option<u32>,
    /// host cpu number(s) to set, or 'r' for all
    #[arg(long = "cpulist", value_name = "STRING", conflicts_with = "cpu_list")]
    pub(crate) cpulist_option: Option<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Emulatorpin {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// host cpu number(s) to set, or 'r' for all
    #[arg(id = "cpu_list", value_name = "cpulist")]
    pub(crate) cpulist: Option<String>,
    /// host cpu number(s) to set, or 'r' for all
    #[arg(long = "cpulist", value_name = "STRING", conflicts_with = "cpu_list")]
    pub(crate) cpulist_option: Option<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Iothreadpin {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// IOThread ID number
    pub(crate) iothread: u32,
    /// host cpu number(s) to set, or 'r' for all
    pub(crate) cpulist: String,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Iothreadinfo {
    /// domain name, id or uuid
    pub(crate) domain: String,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Blkdeviotune {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// block device
    pub(crate) device: String,
    /// total throughput limit, as scaled integer (default bytes)
    #[arg(long, alias = "total_bytes_sec", value_name = "NUMBER")]
    pub(crate) total_bytes_sec: Option<String>,
    /// read throughput limit, as scaled integer (default bytes)
    #[arg(long, alias = "read_bytes_sec", value_name = "NUMBER")]
    pub(crate) read_bytes_sec: Option<String>,
    /// write throughput limit, as scaled integer (default bytes)
    #[arg(long, alias = "write_bytes_sec", value_name = "NUMBER")]
    pub(crate) write_bytes_sec: Option<String>,
    /// total I/O operations limit per second
    #[arg(long, alias = "total_iops_sec", value_name = "NUMBER")]
    pub(crate) total_iops_sec: Option<u64>,
    /// read I/O operations limit per second
    #[arg(long, alias = "read_iops_sec", value_name = "NUMBER")]
    pub(crate) read_iops_sec: Option<u64>,
    /// write I/O operations limit per second
    #[arg(long, alias = "write_iops_sec", value_name = "NUMBER")]
    pub(crate) write_iops_sec: Option<u64>,
    /// total throughput max, as scaled integer (default bytes)
    #[arg(long, alias = "total_bytes_sec_max", value_name = "NUMBER")]
    pub(crate) total_bytes_sec_max: Option<String>,
    /// read throughput max, as scaled integer (default bytes)
    #[arg(long, alias = "read_bytes_sec_max", value_name = "NUMBER")]
    pub(crate) read_bytes_sec_max: Option<String>,
    /// write throughput max, as scaled integer (default bytes)
    #[arg(long, alias = "write_bytes_sec_max", value_name = "NUMBER")]
    pub(crate) write_bytes_sec_max: Option<String>,
    /// total I/O operations max per second
    #[arg(long, alias = "total_iops_sec_max", value_name = "NUMBER")]
    pub(crate) total_iops_sec_max: Option<u64>,
    /// read I/O operations max per second
    #[arg(long, alias = "read_iops_sec_max", value_name = "NUMBER")]
    pub(crate) read_iops_sec_max: Option<u64>,
    /// write I/O operations max per second
    #[arg(long, alias = "write_iops_sec_max", value_name = "NUMBER")]
    pub(crate) write_iops_sec_max: Option<u64>,
    /// I/O size in bytes
    #[arg(long, alias = "size_iops_sec", value_name = "NUMBER")]
    pub(crate) size_iops_sec: Option<String>,
    /// group name to share I/O quota between multiple drives
    #[arg(long, alias = "group_name", value_name = "STRING")]
    pub(crate) group_name: Option<String>,
    /// duration in seconds to allow total bytes max
    #[arg(long, alias = "total_bytes_sec_max_length", value_name = "NUMBER")]
    pub(crate) total_bytes_sec_max_length: Option<u64>,
    /// duration in seconds to allow read bytes max
    #[arg(long, alias = "read_bytes_sec_max_length", value_name = "NUMBER")]
    pub(crate) read_bytes_sec_max_length: Option<u64>,
    /// duration in seconds to allow write bytes max
    #[arg(long, alias = "write_bytes_sec_max_length", value_name = "NUMBER")]
    pub(crate) write_bytes_sec_max_length: Option<u64>,
    /// duration in seconds to allow total iops max
    #[arg(long, alias = "total_iops_sec_max_length", value_name = "NUMBER")]
    pub(crate) total_iops_sec_max_length: Option<u64>,
    /// duration in seconds to allow read iops max
    #[arg(long, alias = "read_iops_sec_max_length", value_name = "NUMBER")]
    pub(crate) read_iops_sec_max_length: Option<u64>,
    /// duration in seconds to allow write iops max
    #[arg(long, alias = "write_iops_sec_max_length", value_name = "NUMBER")]
    pub(crate) write_iops_sec_max_length: Option<u64>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Domiftune {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// interface device (MAC Address)
    pub(crate) interface: String,
    /// control domain's incoming traffics: average,peak,burst
    #[arg(long, value_name = "STRING")]
    pub(crate) inbound: Option<String>,
    /// control domain's outgoing traffics: average,peak,burst
    #[arg(long, value_name = "STRING")]
    pub(crate) outbound: Option<String>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Setvcpus {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// number of virtual CPUs
    pub(crate) count: u16,
    /// set maximum limit on next boot
    #[arg(long)]
    pub(crate) maximum: bool,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Setvcpu {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// ids of vcpus to manipulate
    pub(crate) vcpulist: String,
    /// enable cpus specified by cpumap
    #[arg(long)]
    pub(crate) enable: bool,
    /// disable cpus specified by cpumap
    #[arg(long)]
    pub(crate) disable: bool,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Setmaxmem {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// new maximum memory size, as scaled integer (default KiB)
    pub(crate) size: String,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Vcpucount {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// get maximum count of vcpus
    #[arg(long)]
    pub(crate) maximum: bool,
    /// get number of currently active vcpus
    #[arg(long, conflicts_with = "maximum")]
    pub(crate) active: bool,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Domblkstat {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// block device
    pub(crate) device: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Domifstat {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// interface device specified by name or MAC Address
    pub(crate) interface: String,
}
