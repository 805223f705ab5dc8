//! Which disk of the definition a guest's disk is.

use xml::DomainDef;
use xml::device::address::DeviceAddress;
use xml::device::disk::{Disk, DiskBus};

use super::replies::{DiskAddress, PciController};

/// The target (`vda`) of the disk at this place, as libvirt finds it: by the PCI address of the disk
/// or of its controller. A serial number finds it where a guest counts its buses in its own way.
pub(crate) fn target(def: &DomainDef, found: &DiskAddress) -> Option<String> {
    let disks = &def.devices.disks;
    let by_place = disks.iter().find(|disk| is_at(def, disk, found));
    let by_serial = || {
        let serial = found.serial.as_deref().filter(|serial| !serial.is_empty())?;
        let mut same = disks.iter().filter(|disk| disk.serial.as_deref() == Some(serial));
        let first = same.next()?;
        same.next().is_none().then_some(first)
    };
    by_place.or_else(by_serial).map(|disk| disk.target.dev.clone())
}

fn is_at(def: &DomainDef, disk: &Disk, found: &DiskAddress) -> bool {
    let Some(pci) = found.pci_controller else { return false };
    match &disk.address {
        Some(address @ DeviceAddress::Pci(_)) => {
            disk.target.bus() == DiskBus::Virtio && is_same(address, pci)
        }
        Some(DeviceAddress::Drive(drive)) => {
            let number = |written: Option<u32>| i64::from(written.unwrap_or(0));
            let place = (number(drive.bus), number(drive.target), number(drive.unit));
            let controller = def.devices.controllers.iter().find(|controller| {
                controller.kind.to_string() == disk.target.bus().to_string()
                    && controller.index.unwrap_or(0) == drive.controller.unwrap_or(0)
            });
            let controller = controller.and_then(|controller| controller.address.as_ref());
            place == (found.bus, found.target, found.unit)
                && controller.is_some_and(|address| is_same(address, pci))
        }
        _ => false,
    }
}

fn is_same(address: &DeviceAddress, pci: PciController) -> bool {
    address.pci().is_some_and(|at| {
        (i64::from(at.bus), i64::from(at.slot), i64::from(at.function))
            == (pci.bus, pci.slot, pci.function)
    })
}
