//! Disks and interfaces as the definition has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// `file`, `block` …
    #[serde(rename = "type")]
    #[schema(example = "file")]
    pub kind: String,
    /// `disk`, `cdrom` …
    #[schema(example = "disk")]
    pub device: String,
    #[schema(example = "vda")]
    pub target: String,
    pub source: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// The tap on the host; none while the domain is off and the definition names none.
    pub target: Option<String>,
    /// `bridge`, `ethernet` …
    #[serde(rename = "type")]
    #[schema(example = "bridge")]
    pub kind: String,
    #[schema(example = "br0")]
    pub source: Option<String>,
    pub model: Option<String>,
    #[schema(example = "52:54:00:12:34:56")]
    pub mac: String,
    pub link: LinkState,
}

/// An address that a guest's interface has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceAddress {
    /// The tap on the host.
    #[schema(example = "vnet0")]
    pub interface: String,
    #[schema(example = "52:54:00:12:34:56")]
    pub mac: String,
    #[schema(example = "192.168.122.42")]
    pub address: String,
    #[schema(example = 24)]
    pub prefix: u8,
}

/// Whether an interface's cable is plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    Up,
    Down,
}

impl LinkState {
    /// libvirt's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What becomes of an interface's cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub state: LinkState,
}

/// What is done to a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MediumAction {
    Eject,
    /// Only into an empty drive.
    Insert,
    Update,
}

/// A change of a drive's medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Medium {
    pub action: MediumAction,
    /// The new image: an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/srv/iso/debian.iso")]
    pub source: Option<String>,
    /// The source is a block device.
    #[serde(default)]
    pub block: bool,
    /// Also of a drive that the guest has locked.
    #[serde(default)]
    pub force: bool,
}

/// What became of a device that was to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// It is out of the domain. Else its guest has been asked and has not let go of it yet.
    pub gone: bool,
}

/// How large a disk is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskSize {
    #[schema(example = 21_474_836_480_u64)]
    pub bytes: u64,
}

/// How large a disk is, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskSizes {
    /// As the guest sees it.
    pub capacity: u64,
    /// What the host has given for it.
    pub allocation: u64,
    /// Of its image, with holes.
    pub physical: u64,
}

/// How much memory a guest is left with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Rounded down to KiB.
    #[schema(example = 1_073_741_824_u64)]
    pub bytes: u64,
}

/// A place in the file of an image; absent: nobody wants to hear of it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskThreshold {
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// How often a guest is asked for its memory statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsPeriod {
    /// 0: not at all.
    pub period_s: u32,
}

/// What becomes of a domain that ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LifecycleAction {
    /// `poweroff`, `reboot` or `crash`.
    #[schema(example = "crash")]
    pub event: String,
    /// `destroy`, `restart` or `preserve`.
    #[schema(example = "preserve")]
    pub action: String,
}

/// Which definition a change touches; if none is named, the live one of a running domain, else the
/// stored one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affects {
    pub live: bool,
    pub config: bool,
}
