//! Disks and CD-ROM drives on controllers: which can be had, where they are, and the controllers
//! that the machine has for them.

use std::collections::BTreeSet;

use vmm_protocol::config::{
    Ahci, Drive, DriveIdentity, DriveKind, DrivePlace, Ide, Machine, Medium, Nvme, PciDevice,
    PciKind, Scsi,
};
use xml::device::address::{DeviceAddress, DriveAddress};
use xml::device::controller::{Controller, ControllerModel, ControllerType};
use xml::device::disk::{Disk, DiskBus, DiskDevice};
use xml::{DomainDef, PciAddress};

use super::check_devices::{MOST_QUEUES, check_queues};
use super::io_threads::IoThreads;
use super::machine_devices::{device, medium};
use super::report::Report;
use super::{Resources, board_of, boot_order};
use crate::error::{Code, Error};

/// Entries of each queue of a virtio SCSI host.
const QUEUE_SIZE: u16 = 256;
/// Request queues of a host that names no number: one for each vCPU, and this many at most.
const MOST_DEFAULT_QUEUES: u16 = 4;

/// How many places there are: buses, targets and units of a controller.
fn places(bus: DiskBus) -> Option<(u32, u32, u32)> {
    match bus {
        DiskBus::Scsi => Some((1, 256, 0x4000)),
        DiskBus::Sata => Some((1, 1, 6)),
        DiskBus::Nvme => Some((1, 1, 256)),
        DiskBus::Ide => Some((2, 1, 2)),
        _ => None,
    }
}

/// The kind of controller that disks of this bus are on.
pub(super) fn controller_of(bus: DiskBus) -> Option<ControllerType> {
    match bus {
        DiskBus::Scsi => Some(ControllerType::Scsi),
        DiskBus::Sata => Some(ControllerType::Sata),
        DiskBus::Nvme => Some(ControllerType::Nvme),
        DiskBus::Ide => Some(ControllerType::Ide),
        _ => None,
    }
}

/// Whether the machine has this controller, which sits on PCI. Those that libvirt adds to every
/// machine of a kind are there for the drives on them only.
pub(super) fn is_built(def: &DomainDef, controller: &Controller) -> bool {
    match controller.kind {
        ControllerType::Scsi => true,
        ControllerType::Sata | ControllerType::Ide | ControllerType::Nvme => {
            has_drives(def, controller)
        }
        _ => false,
    }
}

/// Whether a disk is on this controller, by its address or, before it has one, by its name.
pub(super) fn has_drives(def: &DomainDef, controller: &Controller) -> bool {
    let index = controller.index.unwrap_or(0);
    def.devices.disks.iter().any(|disk| {
        let of = match &disk.address {
            Some(DeviceAddress::Drive(drive)) => Some(*drive),
            _ => disk.default_drive(),
        };
        controller_of(disk.target.bus()) == Some(controller.kind)
            && of.is_some_and(|drive| drive.controller.unwrap_or(0) == index)
    })
}

/// Where the board has a controller of its own.
pub(super) fn board_place(machine: Machine, controller: &Controller) -> Option<PciAddress> {
    match (machine, controller.kind, controller.index) {
        (Machine::Q35, ControllerType::Sata, Some(0)) => PciAddress::new(0, 0x1f, 2),
        (Machine::Pc, ControllerType::Ide, Some(0)) => PciAddress::new(0, 1, 1),
        _ => None,
    }
}

/// What of a disk's bus and device can be had.
pub(super) fn check_disk(machine: Machine, disk: &Disk, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    let bus = disk.target.bus();
    let device = disk.device();
    match (device, bus) {
        (DiskDevice::Disk, DiskBus::Virtio) => {}
        (DiskDevice::Disk, DiskBus::Nvme) => {}
        (DiskDevice::Disk | DiskDevice::Cdrom, bus)
            if places(bus).is_some()
                && bus != DiskBus::Nvme
                && (bus != DiskBus::Ide || machine == Machine::Pc) => {}
        (DiskDevice::Cdrom, DiskBus::Virtio | DiskBus::Nvme) => {
            let message = format!("a cdrom drive on {bus}; use {}", offered(machine, true));
            report.refuse(&at("@device"), message);
        }
        (DiskDevice::Disk | DiskDevice::Cdrom, bus) => {
            let cdrom = device == DiskDevice::Cdrom;
            let message = format!("the disk bus {bus}; use {}", offered(machine, cdrom));
            report.refuse(&at("target/@bus"), message);
        }
        (device, _) => report.refuse(&at("@device"), format!("a {device} drive")),
    }
    check_identity(disk, path, report);
    if bus == DiskBus::Virtio {
        return;
    }
    if let Some(driver) = &disk.driver {
        let own = driver.queues.is_some() || driver.queue_size.is_some();
        report.refuse_if(own, &at("driver/@queues"), "queues of a disk that is not on virtio");
        let message = "an I/O thread of a disk that is not on virtio; give its controller one";
        report.refuse_if(driver.iothread.is_some(), &at("driver/@iothread"), message);
    }
    let sector = disk.block_io.as_ref().and_then(|block| block.logical_block_size);
    let message = format!("sectors of 4096 bytes on {bus}, which has 512; use virtio or scsi");
    let fixed = !matches!(bus, DiskBus::Scsi | DiskBus::Nvme);
    let large = fixed && sector == Some(4096);
    report.refuse_if(large, &at("blockio/@logical_block_size"), &message);
    check_address(disk, bus, path, report);
}

/// What to use instead.
fn offered(machine: Machine, cdrom: bool) -> &'static str {
    if machine == Machine::Pc {
        return if cdrom {
            "bus='ide', 'sata' or 'scsi'"
        } else {
            "bus='virtio', 'scsi', 'ide', 'sata' or 'nvme'"
        };
    }
    if cdrom { "bus='sata' or 'scsi'" } else { "bus='virtio', 'scsi', 'sata' or 'nvme'" }
}

fn check_identity(disk: &Disk, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    let bus = disk.target.bus();
    let named = matches!(bus, DiskBus::Scsi | DiskBus::Sata | DiskBus::Ide);
    if let Some(name) = &disk.wwn {
        report.refuse_if(!named, &at("wwn"), &format!("a world wide name on {bus}"));
        if wwn(name).is_none() {
            report.invalid(
                &at("wwn"),
                format!("a world wide name has 16 hexadecimal digits, not {name:?}"),
            );
        }
    }
    for (name, text, longest) in [("vendor", &disk.vendor, 8), ("product", &disk.product, 16)] {
        let Some(text) = text else { continue };
        let message = format!("a {name} of a disk on {bus}; it is SCSI's");
        report.refuse_if(bus != DiskBus::Scsi, &at(name), &message);
        if text.len() > longest || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let message = format!("a {name} has at most {longest} characters of ASCII");
            report.invalid(&at(name), message);
        }
    }
    let longest = if bus == DiskBus::Scsi { 36 } else { 20 };
    if let Some(serial) = disk.serial.as_deref().filter(|serial| serial.len() > longest) {
        let message = format!(
            "a serial number has at most {longest} bytes on {bus}, this one {}",
            serial.len()
        );
        report.invalid(&at("serial"), message);
    }
    if let Some(rate) = disk.target.rotation_rate {
        report.refuse_if(
            !named,
            &at("target/@rotation_rate"),
            &format!("a rotation rate on {bus}"),
        );
        if rate != 1 && !(1025..=65_534).contains(&rate) {
            let message = format!("a rotation rate is 1 or from 1025 to 65534, not {rate}");
            report.invalid(&at("target/@rotation_rate"), message);
        }
    }
}

/// A written address is one that a drive can have.
fn check_address(disk: &Disk, bus: DiskBus, path: &str, report: &mut Report<'_>) {
    let path = format!("{path}/address");
    let Some((buses, targets, units)) = places(bus) else { return };
    let drive = match &disk.address {
        None | Some(DeviceAddress::Unassigned(_)) => return,
        Some(DeviceAddress::Drive(drive)) => drive,
        Some(_) => {
            return report
                .invalid(&path, format!("a disk on {bus} has an address of type='drive'"));
        }
    };
    let (at_bus, target, unit) = parts(drive);
    if at_bus >= buses || target >= targets || unit >= units {
        let message = format!(
            "a {bus} controller has buses to {}, targets to {} and units to {}; there is no \
             {at_bus}:{target}:{unit}",
            buses - 1,
            targets - 1,
            units - 1
        );
        report.invalid(&path, message);
    }
}

fn parts(drive: &DriveAddress) -> (u32, u32, u32) {
    (drive.bus.unwrap_or(0), drive.target.unwrap_or(0), drive.unit.unwrap_or(0))
}

/// Controllers of drives.
pub(super) fn check_controller(controller: &Controller, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    if let Some(serial) = controller.serial.as_deref().filter(|serial| serial.len() > 20) {
        let message = format!("a serial number has at most 20 bytes, this one {}", serial.len());
        report.invalid(&at("serial"), message);
    }
    match controller.model {
        None
        | Some(
            ControllerModel::Auto | ControllerModel::VirtioScsi | ControllerModel::NonTransitional,
        ) => {}
        Some(ControllerModel::Transitional) => {
            report.refuse(&at("@model"), "virtio from before version 1.0; use virtio-scsi");
        }
        Some(model) => {
            report.refuse(&at("@model"), format!("the SCSI controller {model}; use virtio-scsi"));
        }
    }
    if let Some(driver) = &controller.driver {
        check_queues(driver.queues, &at("driver/@queues"), report);
        let tuned = driver.cmd_per_lun.is_some() || driver.max_sectors.is_some();
        report.warn_if(tuned, &at("driver"), "cmd_per_lun and max_sectors are the host's own");
        let on = |value| value == Some(xml::OnOff::On);
        report.refuse_if(on(driver.iommu), &at("driver/@iommu"), "a virtual IOMMU");
        report.warn_if(on(driver.packed), &at("driver/@packed"), "packed rings");
    }
}

/// No two drives are at one place, and each is on a controller. Addresses are complete by now.
pub(super) fn check_places(def: &DomainDef, report: &mut Report<'_>) {
    let mut taken = BTreeSet::new();
    for (number, disk) in (1..).zip(&def.devices.disks) {
        let bus = disk.target.bus();
        let Some(kind) = controller_of(bus) else { continue };
        let path = format!("/domain/devices/disk[{number}]");
        let Some(DeviceAddress::Drive(drive)) = &disk.address else {
            let message =
                format!("{:?} names no place on {bus}; use a name like sda", disk.target.dev);
            report.invalid(&format!("{path}/target/@dev"), message);
            continue;
        };
        let controller = drive.controller.unwrap_or(0);
        if bus == DiskBus::Ide && controller > 0 {
            let message = "there is one IDE controller, with places for four drives";
            report.invalid(&path, message);
            continue;
        }
        let has = |c: &Controller| c.kind == kind && c.index == Some(controller);
        if !def.devices.controllers.iter().any(has) {
            let message = format!("there is no {kind} controller {controller}");
            report.invalid(&format!("{path}/address"), message);
        } else if !taken.insert((bus.name(), controller, parts(drive))) {
            let (at_bus, target, unit) = parts(drive);
            let message = format!(
                "disk {} is at {bus} {controller}:{at_bus}:{target}:{unit}, where another one is",
                disk.target.dev
            );
            report.invalid(&path, message);
        }
    }
}

/// The digits of a world wide name.
fn wwn(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("0x").unwrap_or(name);
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The controllers with their drives.
pub(super) fn pci(
    def: &DomainDef,
    resources: &Resources,
    vcpus: u16,
    io_threads: &mut IoThreads,
    found: &mut Vec<PciDevice>,
) -> Result<(), Error> {
    for controller in def.devices.controllers.iter().filter(|c| is_built(def, c)) {
        let drives = drives_of(def, resources, controller)?;
        let io_thread = thread(controller, io_threads)?;
        let driver = controller.driver.as_ref();
        let kind = match controller.kind {
            ControllerType::Scsi => {
                let queues = driver.and_then(|driver| driver.queues);
                let queues = queues.unwrap_or(vcpus.min(MOST_DEFAULT_QUEUES).into());
                let queues = queues.clamp(1, MOST_QUEUES) as u16;
                PciKind::Scsi(Scsi { drives, queues, queue_size: QUEUE_SIZE, io_thread })
            }
            ControllerType::Sata => PciKind::Ahci(Ahci { drives, io_thread }),
            ControllerType::Ide => PciKind::Ide(Ide { drives, io_thread }),
            ControllerType::Nvme => {
                let queues = vcpus.clamp(1, MOST_DEFAULT_QUEUES);
                let serial = nvme_serial(controller, &drives);
                PciKind::Nvme(Nvme { drives, serial, queues, io_thread })
            }
            _ => continue,
        };
        found.push(device(controller.alias.as_ref(), controller.address.as_ref(), kind)?);
    }
    Ok(())
}

/// The controller's own, or its first disk's, or one that tells it from the others.
fn nvme_serial(controller: &Controller, drives: &[Drive]) -> String {
    let own = controller.serial.clone().or_else(|| {
        drives.iter().map(|drive| drive.identity.serial.clone()).find(|serial| !serial.is_empty())
    });
    own.unwrap_or_else(|| format!("manor-nvme{}", controller.index.unwrap_or(0)))
}

fn thread(controller: &Controller, io_threads: &mut IoThreads) -> Result<usize, Error> {
    let index = controller.index.unwrap_or(0);
    match controller.driver.as_ref().and_then(|driver| driver.iothread) {
        Some(id) => io_threads.defined(id).ok_or_else(|| {
            let kind = controller.kind;
            let text = format!(
                "the {kind} controller {index} names io thread {id}, and <iothreads> defines none such"
            );
            Error::new(Code::InvalidXml, text)
        }),
        None => Ok(io_threads.own(controller.kind.name(), &index.to_string())),
    }
}

fn drives_of(
    def: &DomainDef,
    resources: &Resources,
    controller: &Controller,
) -> Result<Vec<Drive>, Error> {
    let mut drives = Vec::new();
    for (disk, open) in def.devices.disks.iter().zip(&resources.disks) {
        let here = controller_of(disk.target.bus()) == Some(controller.kind)
            && disk.drive_controller() == controller.index.unwrap_or(0);
        if here {
            let medium = open.as_ref().map(|open| medium(disk, open.image.clone()));
            drives.push(drive(def, disk, medium)?);
        }
    }
    Ok(drives)
}

/// The SCSI controller that a disk is, or would be, on.
pub(super) fn scsi_host<'a>(def: &'a DomainDef, disk: &Disk) -> Option<&'a Controller> {
    let index = match &disk.address {
        Some(DeviceAddress::Drive(drive)) => drive.controller,
        _ => disk.default_drive().and_then(|drive| drive.controller),
    };
    let mut all = def.devices.controllers.iter();
    all.find(|it| it.kind == ControllerType::Scsi && it.index == index.or(Some(0)))
}

pub(super) fn drive(def: &DomainDef, disk: &Disk, medium: Option<Medium>) -> Result<Drive, Error> {
    let lacks = |what: &str| {
        let text = format!("disk {} of a stored definition lacks {what}", disk.target.dev);
        Error::new(Code::Internal, text)
    };
    let Some(DeviceAddress::Drive(address)) = &disk.address else {
        return Err(lacks("a drive address"));
    };
    let (bus, target, unit) = parts(address);
    let place = DrivePlace {
        bus: u8::try_from(bus).map_err(|_| lacks("a bus that there is"))?,
        target: u8::try_from(target).map_err(|_| lacks("a target that there is"))?,
        unit: u16::try_from(unit).map_err(|_| lacks("a unit that there is"))?,
    };
    let rate = disk.target.rotation_rate.and_then(|rate| u16::try_from(rate).ok());
    Ok(Drive {
        id: disk.alias.clone().ok_or_else(|| lacks("an alias"))?,
        place,
        kind: match disk.device() {
            DiskDevice::Cdrom => DriveKind::Cdrom,
            _ => DriveKind::Disk,
        },
        medium,
        identity: DriveIdentity {
            vendor: disk.vendor.clone().unwrap_or_default(),
            product: disk.product.clone().unwrap_or_default(),
            serial: disk.serial.clone().unwrap_or_default(),
            wwn: disk.wwn.as_deref().and_then(wwn),
            rotation_rate: rate.unwrap_or(0),
            removable: disk.target.removable == Some(xml::OnOff::On),
        },
        boot_index: boot_order::of_disk(def, disk),
    })
}

/// The board, for what depends on it.
pub(super) fn machine(def: &DomainDef) -> Machine {
    board_of(def)
}
