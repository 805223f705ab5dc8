//! One device more, or less, in a definition that was accepted before.

use vmm_protocol::config::{DiskErrors, DiskLimits, Drive, PciDevice, PciKind};
use vmm_protocol::control::Request;
use xml::device::disk::{Disk, DiskBus, DiskDevice};
use xml::device::input::InputBus;
use xml::device::{Device, DeviceAddress, Input, Interface};
use xml::{DomainDef, Parsed};

pub(crate) use super::device_key::{Key, key, meant, remove};

use super::io_threads::IoThreads;
use super::report::{Report, invalid};
use super::{
    OpenDisk, OpenTap, OpenVsock, address, alias, check, disk_errors, disk_limits, drives, live,
    machine, machine_devices, machine_small,
};
use crate::error::{Code, Error};
use crate::plan::take_error_policies;

/// What was opened for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    Disk(OpenDisk),
    /// A drive without a medium, and what needs nothing of the host.
    Nothing,
    Tap(OpenTap),
    Vsock(OpenVsock),
}

/// A device from outside.
pub(crate) fn parse(text: &str) -> Result<Parsed<Device>, Error> {
    Device::parse(text).map_err(invalid)
}

/// `device` as it is in `def`, complete: with its address, and its MAC address if it has one.
/// `def` has all that a stored definition has. Warnings are not said: a device has few.
///
/// # Errors
/// What is wrong with it, by itself or beside what is there.
pub(crate) fn added(
    def: &DomainDef,
    device: &Parsed<Device>,
    ids: &mut dyn xml::Identity,
) -> Result<(DomainDef, Device), Error> {
    let mut new = def.clone();
    let path = push(&mut new, device.value.clone());
    let mut report = Report::of_device(&device.source, path);
    check_names(def, &device.value, &mut report);
    check::check(&new, &mut report);
    if report.is_refused() {
        return Err(report.into_error(device.warnings.clone()));
    }
    new.fill_defaults(ids);
    drives::check_places(&new, &mut report);
    address::assign(&mut new, &mut report);
    if report.is_refused() {
        return Err(report.into_error(device.warnings.clone()));
    }
    let last = last(&new, &device.value);
    let last = last.ok_or_else(|| Error::new(Code::Internal, "a device was lost on its way"))?;
    Ok((new, last))
}

/// Put it behind the others of its kind; where that is.
fn push(def: &mut DomainDef, device: Device) -> String {
    let element = device.element();
    let number = def.devices.push(device);
    match element {
        "vsock" => "/domain/devices/vsock".to_owned(),
        element => format!("/domain/devices/{element}[{number}]"),
    }
}

fn last(def: &DomainDef, like: &Device) -> Option<Device> {
    def.devices.pluggable().filter(|device| device.element() == like.element()).last()
}

/// What is one device's only.
fn check_names(def: &DomainDef, device: &Device, report: &mut Report<'_>) {
    let devices = &def.devices;
    match device {
        Device::Disk(disk) => {
            let dev = &disk.target.dev;
            if devices.disks.iter().any(|other| other.target.dev == *dev) {
                let number = devices.disks.len() + 1;
                let path = format!("/domain/devices/disk[{number}]/target/@dev");
                report.invalid(&path, format!("the domain has a disk {dev:?} already"));
            }
        }
        Device::Interface(interface) => {
            let Some(mac) = interface.mac_address() else { return };
            if devices.interfaces.iter().any(|other| other.mac_address() == Some(mac)) {
                let number = devices.interfaces.len() + 1;
                let path = format!("/domain/devices/interface[{number}]/mac/@address");
                report.invalid(&path, format!("the domain has an interface {mac} already"));
            }
        }
        Device::Vsock(_) if devices.vsock.is_some() => {
            let path = "/domain/devices/vsock";
            report.invalid(path, "the domain has a vsock device already, and there can be one");
        }
        Device::Rng(_) | Device::Input(_) | Device::Vsock(_) => {}
    }
}

/// Whether the kind of device can come while a guest runs.
pub(crate) fn check_pluggable(device: &Device) -> Result<(), Error> {
    let disk = match device {
        Device::Disk(disk) => disk,
        Device::Input(input) => return check_input(input),
        Device::Interface(_) | Device::Rng(_) | Device::Vsock(_) => return Ok(()),
    };
    let (dev, bus) = (&disk.target.dev, disk.target.bus());
    let text = match (disk.device(), bus) {
        (DiskDevice::Disk, DiskBus::Virtio | DiskBus::Scsi)
        | (DiskDevice::Cdrom, DiskBus::Scsi) => return Ok(()),
        (DiskDevice::Cdrom, _) => format!(
            "a CD-ROM drive ({dev}) comes while the guest runs on scsi only; one that is there gets \
             other media (change-media). --config adds it for the next start"
        ),
        (_, bus) => format!(
            "a disk on {bus} ({dev}) does not come or go while the guest runs, one on virtio or scsi \
             does; --config changes the next start"
        ),
    };
    Err(Error::new(Code::Unsupported, text))
}

fn check_input(input: &Input) -> Result<(), Error> {
    let bus = match input.bus {
        Some(InputBus::Virtio) => return Ok(()),
        Some(bus) => format!(" on {bus}"),
        None => String::new(),
    };
    let text = format!(
        "a {}{bus} does not come or go while the guest runs, one on virtio does (bus='virtio'); --config \
         changes the next start",
        input.kind
    );
    Err(Error::new(Code::Unsupported, text))
}

/// Whether what the device is to be on is there: controllers do not come while a guest runs.
pub(crate) fn check_host(def: &DomainDef, device: &Device) -> Result<(), Error> {
    let Device::Disk(disk) = device else { return Ok(()) };
    if disk.target.bus() != DiskBus::Scsi || drives::scsi_host(def, disk).is_some() {
        return Ok(());
    }
    let text = format!(
        "there is no scsi controller for disk {}, and none comes while the guest runs; --config adds the \
         disk, and its controller, for the next start",
        disk.target.dev
    );
    Err(Error::new(Code::Unsupported, text))
}

/// The name that `device`, which was [`added`] to the running `def`, has in events and statistics.
pub(crate) fn name(def: &DomainDef, device: &mut Device) {
    let mut with = def.clone();
    push(&mut with, device.clone());
    alias::assign(&mut with);
    if let Some(named) = last(&with, device) {
        *device = named;
    }
}

/// A device in the VMM's configuration.
pub(crate) enum Built {
    Pci(Box<PciDevice>),
    /// On the SCSI host of this alias.
    Drive {
        host: String,
        drive: Box<Drive>,
    },
}

impl Built {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Pci(device) => &device.id,
            Self::Drive { drive, .. } => &drive.id,
        }
    }

    /// What gives it to the VMM.
    pub(crate) fn attach(self, limits: Option<DiskLimits>, errors: Option<DiskErrors>) -> Request {
        match self {
            Self::Pci(device) => Request::Attach { device, limits, errors },
            Self::Drive { host, drive } => Request::AttachDrive { host, drive, limits, errors },
        }
    }
}

fn drive(def: &DomainDef, disk: &Disk, open: Option<&OpenDisk>) -> Result<Built, Error> {
    check_host(def, &Device::Disk(Box::new(disk.clone())))?;
    let host = drives::scsi_host(def, disk).map(alias::of_controller).unwrap_or_default();
    let medium = open.map(|open| machine_devices::medium(disk, open.image.clone()));
    let drive = Box::new(drives::drive(def, disk, medium)?);
    Ok(Built::Drive { host, drive })
}

/// The device in the VMM's configuration: `device` in the running domain `def`, which has an alias
/// and an address.
pub(crate) fn config(def: &DomainDef, device: &Device, opened: &Opened) -> Result<Built, Error> {
    let mut io_threads = IoThreads::of_running(def);
    let vcpus = machine::vcpus(def);
    let (alias, address, kind): (_, Option<&DeviceAddress>, _) = match (device, opened) {
        (Device::Disk(disk), Opened::Nothing) => return drive(def, disk, None),
        (Device::Disk(disk), Opened::Disk(open)) if disk.target.bus() == DiskBus::Scsi => {
            return drive(def, disk, Some(open));
        }
        (Device::Disk(disk), Opened::Disk(open)) => {
            let blk = machine_devices::blk(disk, open.image.clone(), vcpus, &mut io_threads)?;
            (disk.alias.as_ref(), disk.address.as_ref(), PciKind::Blk(blk))
        }
        (Device::Interface(interface), Opened::Tap(tap)) => {
            let net = machine_devices::net(interface, tap, &mut io_threads);
            (interface.alias.as_ref(), interface.address.as_ref(), PciKind::Net(net))
        }
        (Device::Rng(rng), Opened::Nothing) => {
            let kind = machine_devices::rng(rng, &mut io_threads);
            (rng.alias.as_ref(), rng.address.as_ref(), kind)
        }
        (Device::Input(input), Opened::Nothing) => {
            let kind = machine_small::input(input, &mut io_threads);
            (input.alias.as_ref(), input.address.as_ref(), kind)
        }
        (Device::Vsock(vsock), Opened::Vsock(open)) => {
            let kind = machine_small::vsock(*open, &mut io_threads);
            (vsock.alias.as_ref(), vsock.address.as_ref(), kind)
        }
        _ => return Err(Error::new(Code::Internal, "another thing was opened for a device")),
    };
    machine_devices::device(alias, address, kind).map(Box::new).map(Built::Pci)
}

/// What a disk may do, from the beginning.
pub(crate) fn limits(device: &Device) -> Option<DiskLimits> {
    match device {
        Device::Disk(disk) => disk_limits::of(disk),
        _ => None,
    }
}

/// What a disk does when the host fails it.
pub(crate) fn errors(device: &Device) -> Option<DiskErrors> {
    match device {
        Device::Disk(disk) => disk_errors::of(disk),
        _ => None,
    }
}

/// What the live definition shows of it.
pub(crate) fn show(def: &DomainDef, device: &mut Device, opened: &Opened) {
    match (device, opened) {
        (Device::Disk(disk), Opened::Disk(open)) => {
            live::show_chain(disk, open, &mut live::last_index(def));
        }
        (Device::Interface(interface), Opened::Tap(tap)) => live::show_tap(interface, tap),
        (Device::Vsock(vsock), Opened::Vsock(open)) => live::show_vsock(vsock, *open),
        _ => {}
    }
}

/// Put a complete device into a definition.
pub(crate) fn insert(def: &mut DomainDef, device: Device) {
    push(def, device);
}

/// `def` with the device of `key` replaced by `new`, in its place and with its address.
pub(crate) fn replaced(
    def: &DomainDef,
    key: &Key,
    new: &Parsed<Device>,
    ids: &mut dyn xml::Identity,
) -> Result<DomainDef, Error> {
    let mut without = def.clone();
    let old = key.find(def);
    key.remove(&mut without);
    let mut device = new.clone();
    match (&mut device.value, &old) {
        (Device::Disk(new), Some(Device::Disk(old))) => {
            new.address = new.address.take().or_else(|| old.address.clone());
        }
        (Device::Interface(new), Some(Device::Interface(old))) => {
            new.address = new.address.take().or_else(|| old.address.clone());
            new.mac = new.mac.or(old.mac);
        }
        _ => {}
    }
    let (mut result, complete) = added(&without, &device, ids)?;
    // Back to where it stood: the order of disks is the order in which they are booted from.
    match complete {
        Device::Disk(disk) => {
            let at = def.devices.disks.iter().position(|disk| key.is_disk(disk));
            let last = result.devices.disks.len().saturating_sub(1);
            result.devices.disks.truncate(last);
            result.devices.disks.insert(at.unwrap_or(last).min(last), *disk);
        }
        Device::Interface(interface) => {
            let interfaces = &def.devices.interfaces;
            let at = interfaces.iter().position(|interface| key.is_interface(interface));
            let last = result.devices.interfaces.len().saturating_sub(1);
            result.devices.interfaces.truncate(last);
            result.devices.interfaces.insert(at.unwrap_or(last).min(last), *interface);
        }
        // They are changed by going and coming.
        Device::Rng(_) | Device::Input(_) | Device::Vsock(_) => {}
    }
    Ok(result)
}

/// Whether two interfaces lead to the same network or bridge, in the same VLANs.
pub(crate) fn is_on_same(one: &Interface, other: &Interface) -> bool {
    let leads = |interface: &Interface| {
        let source = interface.source.as_ref();
        let network = source.and_then(|source| source.network.clone());
        let group = source.and_then(|source| source.portgroup.clone());
        // That of a network is what the network is at present.
        let bridge = source.and_then(|source| source.bridge.clone());
        let bridge = bridge.filter(|_| network.is_none());
        (interface.kind, network, group, bridge, interface.vlan.clone())
    };
    leads(one) == leads(other)
}

/// Which parts of a device differ, as elements and attributes, `link` apart from what it leads to.
/// What `new` leaves open stays, but for a filter: to say none takes it away, as libvirt has it.
pub(crate) fn changes(old: &Device, new: &Device) -> Vec<&'static str> {
    fn differ<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> bool {
        new.is_some_and(|new| old != Some(new))
    }
    let mut found = Vec::new();
    let mut note = |changed: bool, what| {
        if changed {
            found.push(what);
        }
    };
    match (old, new) {
        (Device::Disk(old), Device::Disk(new)) => {
            note(old.location() != new.location(), "source");
            let mut alike = old.clone();
            take_error_policies(&mut alike, new);
            let policies = new.driver.is_some() && alike.driver != old.driver;
            note(policies, "error_policy");
            note(differ(alike.driver.as_ref(), new.driver.as_ref()), "driver");
            note(old.target.bus() != new.target.bus(), "target");
            note(old.read_only != new.read_only, "readonly");
            note(old.shareable != new.shareable, "shareable");
            note(differ(old.serial.as_ref(), new.serial.as_ref()), "serial");
            note(differ(old.address.as_ref(), new.address.as_ref()), "address");
            note(differ(old.block_io.as_ref(), new.block_io.as_ref()), "blockio");
        }
        (Device::Interface(old), Device::Interface(new)) => {
            let link = crate::domain::link::is_up(old) != crate::domain::link::is_up(new);
            note(link, "link");
            note(!is_on_same(old, new), "source");
            note(differ(old.model.as_ref(), new.model.as_ref()), "model");
            note(differ(old.driver.as_ref(), new.driver.as_ref()), "driver");
            note(differ(old.mtu.as_ref(), new.mtu.as_ref()), "mtu");
            note(differ(old.address.as_ref(), new.address.as_ref()), "address");
            note(old.filterref != new.filterref, "filterref");
        }
        _ => note(true, "the kind of device"),
    }
    found
}
