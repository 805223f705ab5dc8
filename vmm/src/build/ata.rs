//! ATA disks and CD-ROM drives, on an AHCI adapter or on the IDE channels of the `pc` board.

use std::sync::Arc;

use arch::gsi;
use arch::layout::Platform;
use devices::ahci::{Ahci, AhciParts, PORTS};
use devices::ata::{AtaDisk, AtaIdentity, Drive, Packets};
use devices::ide::{Ide, IdeParts};
use vmm_protocol::config::{self, DriveKind, PciAddress, PciDevice, PciKind};

use super::pci::Buses;
use super::virtio::thread;
use super::{BuildError, Site, chipset, disk};

/// Commands in flight on each disk: as many as a port has slots.
const DEPTH: u16 = 32;

pub(super) fn build(site: &mut Site<'_>, buses: &Buses) -> Result<(), BuildError> {
    for device in &site.config.pci {
        match &device.kind {
            PciKind::Ahci(controller) => ahci(site, buses, device, controller)?,
            PciKind::Ide(controller) => ide(site, buses, device, controller)?,
            _ => {}
        }
    }
    Ok(())
}

fn ahci(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    controller: &config::Ahci,
) -> Result<(), BuildError> {
    let mut drives: [Option<Drive>; PORTS] = Default::default();
    for drive in &controller.drives {
        let port = usize::from(drive.place.unit);
        let built = self::drive(site, drive, false)?;
        put(&mut drives, port, built)?;
    }
    let messages = site.vm.messages();
    let parts = AhciParts {
        id: &device.id,
        ram: site.vm.ram().clone(),
        msi: &*messages,
        intx: buses.interrupt(site, device.address)?.1,
        thread: thread(site, controller.io_thread)?,
        drives,
    };
    let ahci = Ahci::new(parts).map_err(BuildError::device(&device.id))?;
    buses.plug(site, device.address, Arc::new(ahci))
}

/// Where the board has its IDE function.
const IDE: PciAddress = PciAddress { bus: 0, slot: 1, function: 1 };

fn ide(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    controller: &config::Ide,
) -> Result<(), BuildError> {
    if site.map.platform != Platform::Pc || device.address != IDE {
        let reason = "IDE is the pc board's, at 00:01.1";
        return Err(BuildError::config("IDE function", &device.id, reason));
    }
    let mut drives: [[Option<Drive>; 2]; 2] = Default::default();
    for drive in &controller.drives {
        let built = self::drive(site, drive, true)?;
        let (channel, unit) = (usize::from(drive.place.bus), usize::from(drive.place.unit));
        let reason = "there are channels 0 and 1";
        let channel = drives
            .get_mut(channel)
            .ok_or_else(|| BuildError::config("IDE channel", channel, reason))?;
        put(channel, unit, built)?;
    }
    let parts = IdeParts {
        id: &device.id,
        ram: site.vm.ram().clone(),
        lines: [chipset::line(&site.lines, gsi::IDE[0])?, chipset::line(&site.lines, gsi::IDE[1])?],
        thread: thread(site, controller.io_thread)?,
        drives,
    };
    let ide = Ide::new(parts).map_err(BuildError::device(&device.id))?;
    for (base, len, ports) in ide.ports() {
        site.parts.buses.ports.insert(base, len, ports)?;
    }
    buses.plug(site, device.address, Arc::new(ide))
}

fn put(drives: &mut [Option<Drive>], at: usize, drive: Drive) -> Result<(), BuildError> {
    let reason = "there is no such place for a drive, or it is taken";
    match drives.get_mut(at) {
        Some(place @ None) => *place = Some(drive),
        _ => return Err(BuildError::config("drive", at, reason)),
    }
    Ok(())
}

fn drive(site: &mut Site<'_>, drive: &config::Drive, parallel: bool) -> Result<Drive, BuildError> {
    let model = match drive.kind {
        DriveKind::Disk => "MANOR HARDDISK",
        DriveKind::Cdrom => "MANOR CD-ROM",
    };
    let identity = AtaIdentity {
        model: model.to_owned(),
        serial: drive.identity.serial.clone(),
        wwn: drive.identity.wwn,
        rotation_rate: drive.identity.rotation_rate,
        parallel,
    };
    // IDE uses a disk in two ways.
    let users = if parallel { 2 } else { 1 };
    if drive.kind == DriveKind::Cdrom {
        return Ok(Drive::Packets(Packets::new(disk::unit(site, drive, users, DEPTH)?, identity)));
    }
    let Some(medium) = &drive.medium else {
        return Err(BuildError::config("disk", &drive.id, "it has no image"));
    };
    if medium.logical_block_size != 512 {
        let reason = "an ATA disk has sectors of 512 bytes";
        return Err(BuildError::config("disk", &drive.id, reason));
    }
    let opened = disk::open(site, &drive.id, medium, users, DEPTH)?;
    // ATA has no word for it: the guest learns it when it asks for the disk's identity again.
    disk::may_grow(site, &drive.id, &opened, |_| {});
    Ok(Drive::Disk(AtaDisk::new(opened, identity, disk::meter(site, &drive.id))))
}
