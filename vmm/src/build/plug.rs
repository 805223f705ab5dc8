//! Devices that come and go while the guest runs: behind root ports by native hotplug, on the root bus by
//! ACPI. SCSI drives come and go on a host that stays, and the guest is told.
//!
//! ```text
//! plug:   built ─▶ in the hierarchy ─▶ slot says so ─▶ guest finds it
//! unplug: slot asks ─▶ guest lets go of it, and says so ─▶ out of the hierarchy, files closed
//! ```

use std::sync::Arc;

use arch::layout::MemoryMap;
use devices::backend::Disk;
use devices::component::Component;
use vmm_protocol::config::{Drive, Machine, MachineConfig, PciAddress, PciDevice, PciKind};

use super::pci::{Buses, Slot};
use super::{BuildError, Layer, Parts, Site, scsi, virtio};
use crate::kvm::Vm;
use crate::process::Files;
use crate::sandbox::Sandbox;
use crate::state::Shape;

#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    #[error("there is no device {id:?}")]
    NoDevice { id: String },
    #[error("there is a device {id:?} already")]
    Taken { id: String },
    #[error("{id:?} is to go where {other:?} is")]
    Occupied { id: String, other: String },
    #[error(
        "devices do not come and go at bus {}, slot {} while the guest runs: there is no hotplug, or \
         another device that stays", .at.bus, .at.slot
    )]
    NoHotplug { at: PciAddress },
    #[error("{id:?} is of a kind that does not come and go while the guest runs")]
    Kind { id: String },
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// What stays of a build, for devices to come.
pub(crate) struct Ground {
    /// As the machine is now.
    config: MachineConfig,
    sandbox: Sandbox,
    map: MemoryMap,
    buses: Buses,
}

impl Ground {
    pub(super) fn new(
        config: MachineConfig,
        sandbox: Sandbox,
        map: MemoryMap,
        buses: Buses,
    ) -> Self {
        Self { config, sandbox, map, buses }
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape::of(&self.config)
    }

    /// Put `device` into the running machine. Its descriptors are numbers of `files`.
    ///
    /// # Errors
    /// When its place has no hotplug or is taken, or it cannot be built; nothing has changed then.
    pub(crate) fn plug(
        &mut self,
        device: PciDevice,
        mut files: Files,
        vm: &Vm,
        parts: &mut Parts,
        paused: bool,
    ) -> Result<(), PlugError> {
        let slot = self.free_slot(&device)?;
        let mut site = self.site(&mut files, vm, &mut *parts);
        let PciAddress { slot: number, function, .. } = device.address;
        let added = build(&mut site, &self.buses, &device).and_then(|built| {
            if paused {
                built.pause();
            }
            let added = site.parts.pci.add(slot.bus, number, function, built.clone());
            added.map_err(BuildError::from)?;
            Ok(built)
        });
        match added {
            Ok(built) => {
                // The hierarchy stays the last one.
                let last = parts.components.len().saturating_sub(1);
                parts.components.insert(last, built);
                slot.filled();
                self.config.pci.push(device);
                Ok(())
            }
            Err(error) => {
                parts.forget(&device.id);
                Err(error)
            }
        }
    }

    /// For what comes while the guest runs.
    fn site<'a>(&'a self, files: &'a mut Files, vm: &'a Vm, parts: &'a mut Parts) -> Site<'a> {
        Site {
            config: &self.config,
            files,
            sandbox: &self.sandbox,
            vm,
            map: &self.map,
            lines: vm.lines(),
            parts,
            confined: true,
        }
    }

    /// Put `drive` on SCSI host `host`. Its descriptors are numbers of `files`.
    ///
    /// # Errors
    /// When there is no such host, its place is taken, or it cannot be built; nothing has changed then.
    pub(crate) fn plug_drive(
        &mut self,
        host: &str,
        drive: Drive,
        mut files: Files,
        vm: &Vm,
        parts: &mut Parts,
    ) -> Result<(), PlugError> {
        let id = drive.id.clone();
        if self.has(&id) {
            return Err(PlugError::Taken { id });
        }
        let handle = parts.scsi_hosts.get(host).cloned();
        let handle = handle.ok_or_else(|| PlugError::NoDevice { id: host.to_owned() })?;
        let added = scsi::plug(&mut self.site(&mut files, vm, &mut *parts), &handle, &drive);
        if let Err(error) = added {
            parts.forget(&id);
            return Err(error.into());
        }
        let device = self.config.pci.iter_mut().find(|device| device.id == host);
        if let Some(PciDevice { kind: PciKind::Scsi(scsi), .. }) = device {
            scsi.drives.push(drive);
        }
        Ok(())
    }

    /// Take drive `id` off its SCSI host; false when none has such a drive.
    pub(crate) fn unplug_drive(&mut self, id: &str, parts: &mut Parts) -> bool {
        for device in &mut self.config.pci {
            let PciKind::Scsi(scsi) = &mut device.kind else { continue };
            let at = scsi.drives.iter().position(|drive| drive.id == id);
            let Some(place) = at.map(|at| scsi.drives.remove(at).place) else { continue };
            self.config.disk_limits.retain(|limits| limits.id != id);
            self.config.disk_errors.retain(|errors| errors.id != id);
            parts.forget(id);
            if let Some(host) = parts.scsi_hosts.get(&device.id) {
                host.unplug(place.target, place.unit);
            }
            return true;
        }
        false
    }

    /// Which device disk `id` is, or is a drive of.
    pub(crate) fn owner(&self, id: &str) -> Option<&str> {
        let mut devices = self.config.pci.iter();
        let owner = devices.find(|device| {
            device.id == id || device.kind.drives().iter().any(|drive| drive.id == id)
        })?;
        Some(&owner.id)
    }

    /// An image for disk `id`, whose descriptors are numbers of `files`.
    ///
    /// # Errors
    /// When there are no such files, or they cannot be used.
    pub(crate) fn layer(
        &self,
        id: &str,
        layer: &vmm_protocol::config::Layer,
        files: &mut Files,
        vm: &Vm,
        parts: &mut Parts,
    ) -> Result<Layer, BuildError> {
        Layer::take(&mut self.site(files, vm, parts), id, layer)
    }

    /// What a server has, for disk `id` of files, whose descriptors are numbers of `files`. Who brings it
    /// new connections is known from now on.
    ///
    /// # Errors
    /// When there is no such disk, or the server does not serve what is wanted.
    pub(crate) fn server(
        &self,
        id: &str,
        server: &vmm_protocol::config::Nbd,
        files: &mut Files,
        vm: &Vm,
        parts: &mut Parts,
    ) -> Result<Arc<dyn Disk>, BuildError> {
        let images = parts.images.get(id);
        let images = images.ok_or_else(|| BuildError::config("disk", id, "is made of no files"))?;
        let (medium, users) = images.on_server(server);
        super::nbd::open(&mut self.site(files, vm, parts), id, server, &medium, users)
    }

    fn has(&self, id: &str) -> bool {
        self.owner(id).is_some()
    }

    fn free_slot(&self, device: &PciDevice) -> Result<Slot, PlugError> {
        let (id, at) = (device.id.clone(), device.address);
        if !is_pluggable(&device.kind) {
            return Err(PlugError::Kind { id });
        }
        if self.has(&id) {
            return Err(PlugError::Taken { id });
        }
        let slot = self.buses.slot(at).ok_or(PlugError::NoHotplug { at })?;
        match self.config.pci.iter().find(|other| is_at(other, at.bus, at.slot)) {
            Some(other) => Err(PlugError::Occupied { id, other: other.id.clone() }),
            None => Ok(slot),
        }
    }

    /// Ask the guest to let go of device `id`.
    ///
    /// # Errors
    /// When there is none, or it cannot go.
    pub(crate) fn request_removal(&self, id: &str) -> Result<(), PlugError> {
        let device = self.config.pci.iter().find(|device| device.id == id);
        let device = device.ok_or_else(|| PlugError::NoDevice { id: id.to_owned() })?;
        let at = device.address;
        let slot = self.buses.slot(at).ok_or(PlugError::NoHotplug { at })?;
        if !is_pluggable(&device.kind) {
            return Err(PlugError::Kind { id: id.to_owned() });
        }
        slot.request_removal();
        Ok(())
    }

    /// What is in this slot of PCI bus `bus` and can go.
    pub(crate) fn occupant(&self, bus: u8, slot: u8) -> Option<&str> {
        let device = self.config.pci.iter().find(|device| is_at(device, bus, slot));
        device.filter(|device| is_pluggable(&device.kind)).map(|device| &*device.id)
    }

    /// Take device `id` out of the machine, whatever the guest does with it.
    pub(crate) fn unplug(&mut self, id: &str, parts: &mut Parts) {
        let Some(at) = self.config.pci.iter().position(|device| device.id == id) else { return };
        let address = self.config.pci[at].address;
        let Some(slot) = self.buses.slot(address) else { return };
        self.config.pci.remove(at);
        // Another one of this name has its own.
        self.config.disk_limits.retain(|limits| limits.id != id);
        self.config.disk_errors.retain(|errors| errors.id != id);
        parts.pci.remove(slot.bus, address.slot, address.function);
        slot.emptied();
        parts.components.retain(|component| component.id() != id);
        parts.forget(id);
    }
}

/// Kinds that come and go.
fn is_pluggable(kind: &PciKind) -> bool {
    use PciKind::{Blk, Input, Net, Rng, Vsock};
    matches!(kind, Blk(_) | Net(_) | Rng(_) | Input(_) | Vsock(_))
}

fn is_at(device: &PciDevice, bus: u8, slot: u8) -> bool {
    (device.address.bus, device.address.slot) == (bus, slot)
}

/// Slots of the root bus that devices come into and leave, a bit for each: those where nothing is that
/// stays. They are the same for as long as the machine lives, whatever comes and goes.
pub(super) fn slots(config: &MachineConfig) -> u32 {
    let own: u32 = match config.platform.machine {
        // Host bridge; LPC bridge.
        Machine::Q35 => 1 << 0 | 1 << 31,
        // Host bridge; ISA bridge and power management.
        Machine::Pc => 1 << 0 | 1 << 1,
        Machine::Microvm => return 0,
    };
    let on_root = config.pci.iter().filter(|device| device.address.bus == 0);
    let stays = |device: &&PciDevice| {
        !is_pluggable(&device.kind) || device.multifunction || device.address.function != 0
    };
    let taken = on_root.filter(stays).map(|device| 1 << (device.address.slot & 31));
    !taken.fold(own, |all, slot| all | slot)
}

fn build(
    site: &mut Site<'_>,
    buses: &Buses,
    device: &PciDevice,
) -> Result<Arc<devices::virtio::pci::VirtioPci>, PlugError> {
    let sandbox = site.sandbox;
    let model = virtio::virtio_device(site, device, sandbox)?;
    let model = model.ok_or_else(|| PlugError::Kind { id: device.id.clone() })?;
    Ok(Arc::new(virtio::function(site, buses, device, model)?))
}
