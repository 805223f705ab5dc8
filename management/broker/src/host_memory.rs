//! What the host does with its memory: pages that are put aside, and pages that are the same.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::BrokerError;

/// A number of the kernel's in /sys (`Documentation/admin-guide/mm/{hugetlbpage,ksm}.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostMemory {
    /// Huge pages of `size` KiB that there are to be: of one NUMA cell, or of the host.
    HugePages { size: u64, cell: Option<u32>, count: u64 },
    /// How the kernel looks for pages that are the same.
    SamePages { setting: SamePages, value: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamePages {
    PagesToScan,
    SleepMillisecs,
    MergeAcrossNodes,
}

impl SamePages {
    /// The kernel's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PagesToScan => "pages_to_scan",
            Self::SleepMillisecs => "sleep_millisecs",
            Self::MergeAcrossNodes => "merge_across_nodes",
        }
    }
}

impl HostMemory {
    fn place(&self) -> PathBuf {
        match self {
            Self::HugePages { size, cell: None, .. } => {
                format!("kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages").into()
            }
            Self::HugePages { size, cell: Some(cell), .. } => {
                let pool = format!("node{cell}/hugepages/hugepages-{size}kB/nr_hugepages");
                Path::new("devices/system/node").join(pool)
            }
            Self::SamePages { setting, .. } => Path::new("kernel/mm/ksm").join(setting.name()),
        }
    }

    /// On the host whose /sys this is.
    pub fn set(&self, sys: &Path) -> Result<(), BrokerError> {
        let path = sys.join(self.place());
        let number = match self {
            Self::HugePages { count, .. } => *count,
            Self::SamePages { value, .. } => u64::from(*value),
        };
        // It is there, or the kernel does not have it.
        let write = |path: &Path| {
            let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
            file.write_all(format!("{number}\n").as_bytes())
        };
        write(&path).map_err(|error| BrokerError::open("write", "the host's setting", &path, error))
    }
}
