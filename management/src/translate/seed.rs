//! The drive in which a guest finds its cloud-init seed.

use std::path::Path;

use vmm_protocol::config::Machine;
use xml::DomainDef;
use xml::device::DeviceAddress;
use xml::device::address::DriveAddress;
use xml::device::disk::{Disk, DiskBus, DiskDevice, DiskSource, DiskType, Location};

use super::board_of;
use super::report::Report;

/// Put the seed at `path` into a drive of its own, unless it is in one already.
pub(super) fn attach(def: &mut DomainDef, path: &Path, report: &mut Report<'_>) {
    if names(def, path) {
        return;
    }
    let (device, bus, prefix) = match board_of(def) {
        Machine::Q35 => (DiskDevice::Cdrom, DiskBus::Sata, "sd"),
        Machine::Pc => (DiskDevice::Cdrom, DiskBus::Ide, "hd"),
        // It has no board that a CD-ROM drive could be on.
        Machine::Microvm => (DiskDevice::Disk, DiskBus::Virtio, "vd"),
    };
    let disk = |letter: char| {
        let mut disk = Disk::named(format!("{prefix}{letter}"), bus);
        disk.kind = Some(DiskType::File);
        disk.device = Some(device);
        disk.read_only = true;
        disk.source = Some(DiskSource { file: Some(path.to_owned()), ..DiskSource::default() });
        disk
    };
    let free = |disk: &Disk| {
        let place = disk.default_drive();
        !def.devices.disks.iter().any(|other| {
            other.target.dev == disk.target.dev
                || (other.target.bus() == bus && place.is_some() && drive_of(other) == place)
        })
    };
    match ('a'..='z').map(disk).find(free) {
        Some(disk) => def.devices.disks.push(disk),
        None => {
            let message = format!("no place is left on {bus} for the drive of the cloud-init seed");
            report.invalid("/domain/devices", message);
        }
    }
}

fn drive_of(disk: &Disk) -> Option<DriveAddress> {
    match &disk.address {
        Some(DeviceAddress::Drive(drive)) => Some(*drive),
        _ => disk.default_drive(),
    }
}

/// Whether one of the domain's drives holds this file.
pub(crate) fn names(def: &DomainDef, path: &Path) -> bool {
    def.devices.disks.iter().any(|disk| disk.location() == Location::File(path))
}
