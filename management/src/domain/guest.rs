//! What a guest's agent tells of the guest. Its word: nothing here is known to be true.

use std::net::IpAddr;

/// Which parts of [`GuestInfo`] are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part that can be asked for")]
pub struct GuestParts {
    pub users: bool,
    pub os: bool,
    pub timezone: bool,
    pub hostname: bool,
    pub filesystems: bool,
    pub disks: bool,
    pub interfaces: bool,
}

impl GuestParts {
    pub const ALL: Self = Self {
        users: true,
        os: true,
        timezone: true,
        hostname: true,
        filesystems: true,
        disks: true,
        interfaces: true,
    };
}

/// Parts that were not asked for, or that this agent does not know, are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestInfo {
    pub users: Option<Vec<GuestUser>>,
    pub os: Option<GuestOs>,
    pub timezone: Option<GuestTimezone>,
    pub hostname: Option<String>,
    pub filesystems: Option<Vec<GuestFilesystem>>,
    pub disks: Option<Vec<GuestDisk>>,
    pub interfaces: Option<Vec<GuestInterface>>,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestUser {
    pub name: String,
    /// Of Windows.
    pub domain: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub login_time: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestOs {
    pub id: Option<String>,
    pub name: Option<String>,
    pub pretty_name: Option<String>,
    pub version: Option<String>,
    pub version_id: Option<String>,
    pub kernel_release: Option<String>,
    pub kernel_version: Option<String>,
    pub machine: Option<String>,
    pub variant: Option<String>,
    pub variant_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestTimezone {
    pub name: Option<String>,
    /// Seconds east of UTC.
    pub offset: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFilesystem {
    /// `vda1`
    pub name: String,
    pub mountpoint: String,
    /// `ext4`
    pub kind: String,
    /// Bytes.
    pub total: Option<u64>,
    pub used: Option<u64>,
    pub disks: Vec<GuestFilesystemDisk>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFilesystemDisk {
    /// The target in the definition (`vda`), where the disk was found there.
    pub target: Option<String>,
    pub serial: Option<String>,
    /// `/dev/vda1`
    pub device: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDisk {
    /// `/dev/vda`
    pub name: String,
    pub partition: bool,
    /// Devices that it stands on.
    pub dependencies: Vec<String>,
    pub target: Option<String>,
    pub serial: Option<String>,
    /// Its name for people in the guest.
    pub guest_alias: Option<String>,
    pub guest_bus: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInterface {
    /// In the guest: `eth0`.
    pub name: String,
    pub mac: Option<String>,
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A processor, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestVcpu {
    pub id: u32,
    pub online: bool,
    /// The guest can do without it.
    pub can_offline: bool,
}

/// What became of a program that an agent was asked to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestExecState {
    pub exited: bool,
    pub exit_code: Option<i64>,
    /// Of Linux; of Windows an exception.
    pub signal: Option<i64>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The agent kept only the beginning.
    pub truncated: bool,
}

/// What trimming did to a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrimmedFilesystem {
    pub path: String,
    /// Bytes.
    pub trimmed: Option<u64>,
    pub error: Option<String>,
}
