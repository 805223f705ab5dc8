//! Snapshots of domains.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Job;

/// A snapshot as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    #[schema(example = "before-upgrade")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the domain did: `running`, `paused`, `shutoff`; `disk-snapshot`: of its disks alone.
    #[schema(example = "running")]
    pub state: String,
    /// Seconds since 1970.
    pub created: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The domain goes on from it.
    pub current: bool,
    /// Some part of it lies in files of its own.
    pub external: bool,
    pub children: usize,
    pub descendants: usize,
}

/// All snapshots of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotList {
    pub snapshots: Vec<Snapshot>,
}

/// A snapshot to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// libvirt snapshot XML. Without a name in it, the time becomes that.
    #[schema(example = "<domainsnapshot><name>before-upgrade</name></domainsnapshot>")]
    pub xml: String,
    /// Nothing of the memory, and disks go on in overlays where nothing else is said.
    #[serde(default)]
    pub disk_only: bool,
    /// The overlays are there already.
    #[serde(default)]
    pub reuse_external: bool,
    /// Nobody is to know of it afterwards.
    #[serde(default)]
    pub no_metadata: bool,
    /// The guest's agent holds its file systems still meanwhile.
    #[serde(default)]
    pub quiesce: bool,
    /// Power is cut when it is made.
    #[serde(default)]
    pub halt: bool,
    /// The guest runs while most of its memory is kept, and waits for the rest alone.
    #[serde(default)]
    pub live: bool,
}

/// A snapshot told anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedefineSnapshot {
    /// libvirt snapshot XML, with a name.
    pub xml: String,
    /// It is the current one from now on.
    #[serde(default)]
    pub current: bool,
}

/// Whose snapshot it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotName {
    #[schema(example = "before-upgrade")]
    pub name: String,
}

/// What was begun, and of which snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotJob {
    #[schema(example = "before-upgrade")]
    pub name: String,
    pub job: Job,
}

/// How a domain goes back to a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Revert {
    /// Whether the guest is to run then, or to wait; if it is not said: as it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Also where something may be lost that is not told otherwise.
    pub force: bool,
    /// Make the firmware's variables anew.
    pub reset_nvram: bool,
}

/// Which snapshots are deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotReach {
    /// It alone: its children become its parent's.
    #[default]
    One,
    /// With everything below it.
    WithDescendants,
    /// What is below it, and it stays.
    DescendantsOnly,
}
