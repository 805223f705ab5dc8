//! Step 5: virtio devices, each on PCI, their queues on the io threads that the definition maps
//! them to.

use std::sync::Arc;

use devices::io_thread::IoThread;
use devices::virtio::VirtioDevice;
use devices::virtio::pci::{PciParts, VirtioPci};
use vmm_protocol::config::{self, PciDevice, PciKind};

use super::pci::Buses;
use super::{BuildError, Site, cpus};
use crate::sandbox::{Kind, Sandbox};

pub(super) fn io_thread(
    thread: &config::IoThread,
    sandbox: &Sandbox,
) -> Result<Arc<IoThread>, BuildError> {
    let allowed = thread.affinity.clone();
    let confine = sandbox.entering(Kind::Io);
    let prepare = move || cpus::pin(&allowed).and_then(|()| confine());
    IoThread::spawn(&thread.name, prepare)
        .map_err(|source| BuildError::Thread { name: thread.name.clone(), source })
}

pub(super) fn build(site: &mut Site<'_>, buses: &Buses) -> Result<(), BuildError> {
    for device in &site.config.pci {
        if let Some(built) = virtio_device(site, device)? {
            plug(site, buses, device, built)?;
        }
    }
    Ok(())
}

/// The device model; none for what is no virtio device.
fn virtio_device(
    _site: &mut Site<'_>,
    device: &PciDevice,
) -> Result<Option<Box<dyn VirtioDevice>>, BuildError> {
    match &device.kind {
        PciKind::RootPort(_) => Ok(None),
        PciKind::Blk(_) | PciKind::Net(_) | PciKind::Console(_) | PciKind::Rng(_) => {
            Err(BuildError::config("device", &device.id, "is of a kind this build lacks"))
        }
    }
}

fn plug(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
    built: Box<dyn VirtioDevice>,
) -> Result<(), BuildError> {
    let messages = site.vm.messages();
    let parts = PciParts {
        id: &device.id,
        ram: site.vm.ram().clone(),
        msi: &*messages,
        doorbells: site.vm.doorbells(),
        intx: Some(buses.interrupt(site, device.address)?),
        express: buses.port_type(device.address, site.map.platform)?,
    };
    let function = VirtioPci::new(parts, built).map_err(BuildError::device(&device.id))?;
    buses.plug(site, device.address, Arc::new(function))
}

/// The io thread that a definition names by its index.
#[expect(dead_code, reason = "for the device types that come next")]
fn thread<'a>(site: &'a Site<'_>, index: usize) -> Result<&'a Arc<IoThread>, BuildError> {
    let reason = "there is no io thread of that index";
    let found = site.parts.io_threads.get(index);
    found.ok_or_else(|| BuildError::config("io thread", index, reason))
}
