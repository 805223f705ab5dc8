//! Verbs of the host's memory and processors.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Allocpages {
    /// page size, as scaled integer (default KiB)
    pub(crate) pagesize: String,
    /// page count
    pub(crate) pagecount: u64,
    /// NUMA cell number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cellno: Option<u32>,
    /// instead of setting new pool size add pages to it
    #[arg(long)]
    pub(crate) add: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CpuBaseline {
    /// file containing XML CPU descriptions, one after the other
    pub(crate) file: PathBuf,
    /// Show features that are part of the CPU model type
    #[arg(long)]
    pub(crate) features: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CpuCompare {
    /// file containing an XML CPU description
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Freecell {
    /// NUMA cell number
    #[arg(long, value_name = "NUMBER", conflicts_with = "all")]
    pub(crate) cellno: Option<u32>,
    /// show free memory for all NUMA cells
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Freepages {
    /// NUMA cell number
    #[arg(long, value_name = "NUMBER", conflicts_with = "all")]
    pub(crate) cellno: Option<u32>,
    /// page size, as scaled integer (default KiB)
    #[arg(long, value_name = "NUMBER", conflicts_with = "all")]
    pub(crate) pagesize: Option<String>,
    /// show free pages for all NUMA cells
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeMemoryTune {
    /// number of pages to scan before the shared memory service goes to sleep
    #[arg(long, value_name = "NUMBER")]
    pub(crate) shm_pages_to_scan: Option<u32>,
    /// number of milliseconds the shared memory service should sleep before next scan
    #[arg(long, value_name = "NUMBER")]
    pub(crate) shm_sleep_millisecs: Option<u32>,
    /// Specifies if pages from different numa nodes can be merged
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub(crate) shm_merge_across_nodes: Option<u8>,
}

#[derive(Debug, Args)]
pub(crate) struct Nodecpustats {
    /// prints specified cpu statistics only.
    #[arg(value_name = "CPU")]
    pub(crate) cpu: Option<u32>,
}
