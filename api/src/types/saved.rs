//! Saved states.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How to save a running domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveDomain {
    /// Absolute path on the domain's host. A saved state that is there is replaced.
    #[schema(example = "/var/backups/web.save")]
    pub file: String,
    /// Another definition to go on with: what the guest sees must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
    /// Whether it is to run when it goes on; if it is not said: if it runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Leave nothing of it in the host's page cache.
    #[serde(default)]
    pub bypass_cache: bool,
    /// If it is not said: as the daemon is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SaveFormat>,
}

/// How memory lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SaveFormat {
    /// As it is, with holes where it is zero: whoever goes on maps it, and runs at once.
    Raw,
    /// Packed: smaller, slower to write, and read as a whole before anybody goes on.
    Zstd,
}

/// How to save a running domain for its next start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagedSave {
    /// Whether it is to run when it goes on; if it is not said: if it runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Leave nothing of it in the host's page cache.
    #[serde(default)]
    pub bypass_cache: bool,
    /// The host goes down: the guest goes on by itself when it is back, marked for autostart or not.
    #[serde(default)]
    pub with_host: bool,
    /// If it is not said: as the daemon is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<SaveFormat>,
}

/// How to go on from a saved state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreDomain {
    /// Absolute path on this host.
    #[schema(example = "/var/backups/web.save")]
    pub file: String,
    /// Another definition to go on with: what the guest sees must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
    /// Whether it is to run; if it is not said: as it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Go on also over disks that have changed since, which damages what is on them.
    #[serde(default)]
    pub force: bool,
    /// Read all memory first, and compare its checksums.
    #[serde(default)]
    pub verify: bool,
    /// Make the firmware's variables anew.
    #[serde(default)]
    pub reset_nvram: bool,
}

/// What of a saved state is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DefineSaved {
    /// Absolute path on this host; of a managed save nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Another definition to go on with: what the guest sees must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
    /// Whether it is to run when it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
}

/// A saved state of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedFile {
    /// Absolute path.
    #[schema(example = "/var/backups/web.save")]
    pub file: String,
}

/// Where a core of a guest goes, and what becomes of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpDomain {
    /// Absolute path on the domain's host, of a file that is not there yet.
    #[schema(example = "/var/crash/web.core")]
    pub file: String,
    #[serde(default)]
    pub mode: DumpMode,
}

/// What a guest does while it is dumped, and afterwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DumpMode {
    /// It waits, and goes on as it was.
    #[default]
    Paused,
    /// It runs on: its memory is not all of one moment.
    Live,
    /// It waits, and its power is cut.
    Crash,
    /// It waits, and is reset.
    Reset,
}

/// Another domain like one there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneDomain {
    #[schema(example = "web2")]
    pub name: String,
}

/// Another domain from a saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneSaved {
    /// Absolute path on this host.
    #[schema(example = "/srv/template.save")]
    pub file: String,
    #[schema(example = "web2")]
    pub name: String,
}

/// Who goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    pub name: String,
    pub uuid: uuid::Uuid,
}
