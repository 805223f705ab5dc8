//! ATA disks and CD-ROM drives, on an AHCI adapter.

use std::sync::Arc;

use devices::ahci::{Ahci, AhciParts, Drive, PORTS};
use devices::ata::{AtaDisk, AtaIdentity, Packets};
use vmm_protocol::config::{self, DriveKind, PciDevice, PciKind};

use super::pci::Buses;
use super::virtio::thread;
use super::{BuildError, Site, disk};

/// Commands in flight on each disk: as many as a port has slots.
const DEPTH: u16 = 32;

pub(super) fn build(site: &mut Site<'_>, buses: &Buses) -> Result<(), BuildError> {
    for device in &site.config.pci {
        if let PciKind::Ahci(controller) = &device.kind {
            ahci(site, buses, device, controller)?;
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
    if drive.kind == DriveKind::Cdrom {
        return Ok(Drive::Packets(Packets::new(disk::unit(site, drive, 1, DEPTH)?, identity)));
    }
    let Some(medium) = &drive.medium else {
        return Err(BuildError::config("disk", &drive.id, "it has no image"));
    };
    if medium.logical_block_size != 512 {
        let reason = "an ATA disk has sectors of 512 bytes";
        return Err(BuildError::config("disk", &drive.id, reason));
    }
    let opened = disk::open(site, &drive.id, medium, 1, DEPTH)?;
    Ok(Drive::Disk(AtaDisk::new(opened, identity, disk::meter(site, &drive.id))))
}
