//! How much a disk may do.

use serde::{Deserialize, Serialize};

/// The limits of one disk, or of several that share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskLimits {
    /// The disk's.
    pub id: String,
    /// Disks of one group have its limits together: the latest that it was given.
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default)]
    pub total_bytes: IoRate,
    #[serde(default)]
    pub read_bytes: IoRate,
    #[serde(default)]
    pub write_bytes: IoRate,
    #[serde(default)]
    pub total_requests: IoRate,
    #[serde(default)]
    pub read_requests: IoRate,
    #[serde(default)]
    pub write_requests: IoRate,
    /// Longer requests count as several; 0: any is one.
    #[serde(default)]
    pub request_size: u64,
}

/// So much each second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoRate {
    /// 0: any amount.
    pub average: u64,
    /// In a burst; 0: there are none.
    #[serde(default)]
    pub burst: u64,
    /// How long a burst may last.
    #[serde(default)]
    pub burst_seconds: u64,
}
