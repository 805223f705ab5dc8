//! Backups and checkpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is to be backed up of a running domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginBackup {
    /// libvirt's `<domainbackup>`.
    #[schema(example = "<domainbackup/>")]
    pub xml: String,
    /// libvirt's `<domaincheckpoint>`, made at the same moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Targets of a push are there already.
    #[serde(default)]
    pub reuse_external: bool,
}

/// A checkpoint to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCheckpoint {
    /// libvirt's `<domaincheckpoint>`; if it is not there: of all disks, named by the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
    /// Only what is known of it is changed: its bitmaps are there.
    #[serde(default)]
    pub redefine: bool,
    /// And it is seen whether they are.
    #[serde(default)]
    pub validate: bool,
    /// The guest's agent holds its file systems still meanwhile.
    #[serde(default)]
    pub quiesce: bool,
}

/// A moment since which writes are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The latest one.
    pub current: bool,
}

/// The oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointList {
    pub checkpoints: Vec<Checkpoint>,
}
