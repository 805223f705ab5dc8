//! Which device firmware tries first, second …: each device says so itself (`<boot order='1'/>`), or
//! `<os>` names kinds of devices (`<boot dev='hd'/>`), of each of which the first one is meant.

use xml::DomainDef;
use xml::device::disk::{Disk, DiskDevice};
use xml::domain::os::BootDevice;

/// Place of a disk in the order, from 1.
pub(super) fn of_disk(def: &DomainDef, disk: &Disk) -> Option<u32> {
    if let Some(boot) = &disk.boot {
        return Some(boot.order);
    }
    let first = def.devices.disks.iter().find(|other| kind(other) == kind(disk))?;
    let is_first = first.target.dev == disk.target.dev;
    is_first.then(|| of_kind(def, kind(disk))).flatten()
}

/// Place of an interface, by its index in the definition.
pub(crate) fn of_interface(def: &DomainDef, index: usize) -> Option<u32> {
    let own = def.devices.interfaces.get(index)?.boot.as_ref().map(|boot| boot.order);
    own.or_else(|| of_kind(def, BootDevice::Network).filter(|_| index == 0))
}

fn kind(disk: &Disk) -> BootDevice {
    match disk.device {
        Some(DiskDevice::Cdrom) => BootDevice::Cdrom,
        Some(DiskDevice::Floppy) => BootDevice::Fd,
        Some(DiskDevice::Disk | DiskDevice::Lun) | None => BootDevice::Hd,
    }
}

fn of_kind(def: &DomainDef, device: BootDevice) -> Option<u32> {
    (1..).zip(&def.os.boot).find(|(_, named)| **named == device).map(|(order, _)| order)
}
