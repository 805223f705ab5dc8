//! What a guest's agent tells and does. Its word: nothing of it is checked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a guest says of itself. Parts that were not asked for, or that its agent does not know, are
/// absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<GuestUser>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<GuestOs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<GuestTimezone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "web1")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystems: Option<Vec<GuestFilesystem>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<Vec<GuestDisk>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<GuestInterface>>,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestUser {
    pub name: String,
    /// Of Windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Since the Unix epoch.
    pub login_time_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestOs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "debian")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretty_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestTimezone {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "CET")]
    pub name: Option<String>,
    /// East of UTC.
    pub offset_s: i32,
}

/// A file system that is mounted in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestFilesystem {
    #[schema(example = "vda1")]
    pub name: String,
    #[schema(example = "/")]
    pub mountpoint: String,
    #[schema(example = "ext4")]
    pub fstype: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    pub disks: Vec<GuestFilesystemDisk>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestFilesystemDisk {
    /// The disk in the domain's definition, where it was found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "vda")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/dev/vda1")]
    pub device: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestDisk {
    #[schema(example = "/dev/vda")]
    pub name: String,
    pub partition: bool,
    /// Devices that it stands on.
    pub dependencies: Vec<String>,
    /// The disk in the domain's definition, where it was found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_bus: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestInterface {
    /// In the guest.
    #[schema(example = "eth0")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    pub addresses: Vec<GuestAddress>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestAddress {
    #[schema(example = "192.168.122.42")]
    pub address: String,
    #[schema(example = 24)]
    pub prefix: u8,
}

/// The name that a guest has given itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestHostname {
    pub hostname: String,
}

/// Which file systems to freeze.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// All if there are none.
    #[serde(default)]
    pub mountpoints: Vec<String>,
}

/// How many file systems were frozen or thawed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesystemCount {
    pub filesystems: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trim {
    /// Free ranges that are shorter are left alone.
    #[serde(default)]
    pub minimum_bytes: u64,
}

/// What trimming did to a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trimmed {
    pub mountpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A password for a user of the guest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    pub password: String,
    /// It is one already, as `crypt` makes them.
    #[serde(default)]
    pub encrypted: bool,
}

/// A guest's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestTime {
    /// Since the Unix epoch. Absent when it is set: as the clock of the guest's hardware says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<i64>,
}

/// A program to run in a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestExec {
    #[schema(example = "/usr/bin/uname")]
    pub program: String,
    #[serde(default)]
    #[schema(example = json!(["-a"]))]
    pub arguments: Vec<String>,
    /// `NAME=value`
    #[serde(default)]
    pub environment: Vec<String>,
    /// What it reads, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_base64: Option<String>,
    /// Keep what it writes.
    #[serde(default)]
    pub capture: bool,
}

/// A program that was started in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestProcess {
    pub pid: i64,
}

/// What became of a program. The agent tells of its end once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestExecStatus {
    pub exited: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// That ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout_base64: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr_base64: String,
    /// The agent kept only the beginning.
    #[serde(default)]
    pub truncated: bool,
}

impl GuestExecStatus {
    /// What it wrote; nothing where that is no base64.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        STANDARD.decode(&self.stdout_base64).unwrap_or_default()
    }

    #[must_use]
    pub fn stderr(&self) -> Vec<u8> {
        STANDARD.decode(&self.stderr_base64).unwrap_or_default()
    }
}

/// A command in the agent's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentCommand {
    #[schema(value_type = Object, example = json!({"execute": "guest-ping"}))]
    pub command: serde_json::Value,
    /// To wait for the answer; at most 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
}
