//! NVMe controllers and their namespaces.

use std::sync::Arc;

use devices::nvme::{DEPTH, Namespace, Nvme, NvmeIdentity, NvmeParts};
use vmm_protocol::config::{self, DriveKind, PciDevice, PciKind};

use super::pci::Buses;
use super::virtio::{MAX_QUEUES, thread};
use super::{BuildError, Site, disk};

pub(super) fn build(site: &mut Site<'_>, buses: &Buses) -> Result<(), BuildError> {
    for device in &site.config.pci {
        if let PciKind::Nvme(controller) = &device.kind {
            place(site, buses, device, controller)?;
        }
    }
    Ok(())
}

fn place(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    controller: &config::Nvme,
) -> Result<(), BuildError> {
    if !(1..=MAX_QUEUES).contains(&usize::from(controller.queues)) {
        return Err(BuildError::config("number of queues", controller.queues, "must be 1 to 64"));
    }
    let messages = site.vm.messages();
    let parts = NvmeParts {
        id: &device.id,
        ram: site.vm.ram().clone(),
        msi: &*messages,
        intx: buses.interrupt(site, device.address)?.1,
        express: buses.port_type(device.address, site.map.platform)?,
        thread: thread(site, controller.io_thread)?,
        identity: NvmeIdentity {
            model: "MANOR NVME".to_owned(),
            serial: controller.serial.clone(),
        },
        namespaces: namespaces(site, controller)?,
        queues: controller.queues,
    };
    let disks: Vec<_> =
        parts.namespaces.iter().map(|it| it.as_ref().map(|it| it.disk.clone())).collect();
    let built = Arc::new(Nvme::new(parts).map_err(BuildError::device(&device.id))?);
    for drive in &controller.drives {
        let unit = usize::from(drive.place.unit);
        let Some(Some(disk)) = disks.get(unit) else { continue };
        let (nvme, number) = (built.clone(), u32::from(drive.place.unit) + 1);
        disk::may_grow(site, &drive.id, disk, move |_| nvme.resized(number));
    }
    buses.plug(site, device.address, built)
}

/// By their numbers. A place without a disk would be a namespace that is not there.
fn namespaces(
    site: &mut Site<'_>,
    controller: &config::Nvme,
) -> Result<Vec<Option<Namespace>>, BuildError> {
    let mut namespaces: Vec<Option<Namespace>> = Vec::new();
    for drive in &controller.drives {
        let unit = usize::from(drive.place.unit);
        let (Some(medium), DriveKind::Disk, 0..256) = (&drive.medium, drive.kind, unit) else {
            return Err(BuildError::config("NVMe disk", &drive.id, "it can be no namespace"));
        };
        if namespaces.len() <= unit {
            namespaces.resize_with(unit + 1, || None);
        }
        let opened = disk::open(site, &drive.id, medium, 1, DEPTH)?;
        let meter = disk::meter(site, &drive.id);
        let namespace = Namespace { disk: opened, meter, eui: drive.identity.wwn };
        if namespaces[unit].replace(namespace).is_some() {
            return Err(BuildError::config("namespace", unit + 1, "is given twice"));
        }
    }
    Ok(namespaces)
}
