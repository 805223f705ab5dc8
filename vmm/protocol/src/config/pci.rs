//! Where PCI devices are, and which there are.

use serde::{Deserialize, Serialize};

use super::{
    Ahci, Balloon, Blk, Console, Ide, Input, Net, Nvme, Rng, Scsi, Video, Vsock, Watchdog,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciAddress {
    /// Index of the PCI controller the device is plugged into: 0 is the root bus.
    pub bus: u8,
    /// 0 to 31.
    pub slot: u8,
    /// 0 to 7.
    pub function: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    /// The device's alias: unique, and its name in events and statistics.
    pub id: String,
    pub address: PciAddress,
    pub multifunction: bool,
    /// Place in the firmware's boot order, from 1; none: not named there.
    #[serde(default)]
    pub boot_index: Option<u32>,
    pub kind: PciKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PciKind {
    RootPort(RootPort),
    Blk(Blk),
    Scsi(Scsi),
    Ahci(Ahci),
    Ide(Ide),
    Nvme(Nvme),
    Net(Net),
    Console(Console),
    Rng(Rng),
    Video(Video),
    Balloon(Balloon),
    Watchdog(Watchdog),
    Vsock(Vsock),
    Input(Input),
}

/// A `pcie-root-port`; devices behind it name `controller` as their bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootPort {
    /// Index of the controller in the definition.
    pub controller: u8,
    pub chassis: u8,
    pub port: u8,
}
