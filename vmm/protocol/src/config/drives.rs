//! Controllers with drives on them: the buses of disks that are no PCI devices of their own.

use serde::{Deserialize, Serialize};

use super::{Medium, PciKind};

/// A disk or a CD-ROM drive on a controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// The drive's alias: its name in events and statistics.
    pub id: String,
    pub place: DrivePlace,
    pub kind: DriveKind,
    /// None: a drive without a medium.
    pub medium: Option<Medium>,
    pub identity: DriveIdentity,
    /// Place in the firmware's boot order, from 1; none: not named there.
    #[serde(default)]
    pub boot_index: Option<u32>,
}

/// Where on its controller, in libvirt's words: the target and unit of SCSI, the port of SATA as
/// unit, the channel of IDE as bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrivePlace {
    pub bus: u8,
    pub target: u8,
    pub unit: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriveKind {
    Disk,
    Cdrom,
}

/// What the guest reads of the drive; what is empty has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DriveIdentity {
    pub vendor: String,
    pub product: String,
    pub serial: String,
    pub wwn: Option<u64>,
    /// Rotations per minute; 1: solid state; 0: not told.
    pub rotation_rate: u16,
    pub removable: bool,
}

/// A virtio SCSI host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scsi {
    pub drives: Vec<Drive>,
    /// Request queues.
    pub queues: u16,
    /// Entries of each queue: a power of two, at most 1024.
    pub queue_size: u16,
    pub io_thread: usize,
}

/// An AHCI adapter with six ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ahci {
    pub drives: Vec<Drive>,
    pub io_thread: usize,
}

/// The IDE function of the PIIX3, at 00:01.1 of the `pc` board: two channels with two drives each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ide {
    pub drives: Vec<Drive>,
    pub io_thread: usize,
}

/// An NVMe controller. A drive's unit is the number of its namespace, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvme {
    pub drives: Vec<Drive>,
    /// Up to 20 bytes.
    pub serial: String,
    /// Queue pairs beside the admin queue.
    pub queues: u16,
    pub io_thread: usize,
}

impl PciKind {
    /// The drives of a controller.
    #[must_use]
    pub fn drives(&self) -> &[Drive] {
        match self {
            Self::Scsi(scsi) => &scsi.drives,
            Self::Ahci(ahci) => &ahci.drives,
            Self::Ide(ide) => &ide.drives,
            Self::Nvme(nvme) => &nvme.drives,
            _ => &[],
        }
    }
}
