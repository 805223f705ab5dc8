//! Pools and volumes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Job;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolList {
    pub pools: Vec<Pool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    #[schema(example = "default")]
    pub name: String,
    pub uuid: Uuid,
    #[serde(rename = "type")]
    #[schema(example = "dir")]
    pub kind: String,
    #[schema(example = "/var/lib/libvirt/images")]
    pub path: String,
    pub active: bool,
    /// Stored; one that is not vanishes when it is stopped.
    pub persistent: bool,
    pub autostart: bool,
    /// Of its file system; 0 while the pool is not active, as what follows.
    pub capacity_bytes: u64,
    pub allocation_bytes: u64,
    pub available_bytes: u64,
    pub volumes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeList {
    pub volumes: Vec<Volume>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    #[schema(example = "web.qcow2")]
    pub name: String,
    #[schema(example = "default")]
    pub pool: String,
    /// Also its key.
    pub path: String,
    /// `file`
    #[serde(rename = "type")]
    pub kind: String,
    #[schema(example = "qcow2")]
    pub format: String,
    /// As a guest sees it.
    pub capacity_bytes: u64,
    /// What the host has really given to it.
    pub allocation_bytes: u64,
    /// Size of its file.
    pub physical_bytes: u64,
    /// The image below it, as its header has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_format: Option<String>,
    /// Why it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
}

/// A volume that was made, or the job that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MadeVolume {
    Volume(Box<Volume>),
    Job(Box<Job>),
}

/// A copy of a volume in its own pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneVolume {
    #[schema(example = "copy.qcow2")]
    pub name: String,
    #[serde(default)]
    pub mode: CloneMode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CloneMode {
    /// Blocks are shared where the file system can, and copied where not.
    #[default]
    Copy,
    /// Blocks are shared, or it fails.
    Reflink,
    /// A qcow2 image with the original below it, which must not change from now on.
    Overlay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeVolume {
    #[schema(example = 10_737_418_240_u64)]
    pub capacity_bytes: u64,
    /// The capacity is by how much it grows (with `shrink`: shrinks).
    #[serde(default)]
    pub delta: bool,
    /// What is new is allocated at once.
    #[serde(default)]
    pub allocate: bool,
    /// It may become smaller, and lose what lies behind the new end.
    #[serde(default)]
    pub shrink: bool,
}
