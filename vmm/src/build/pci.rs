//! Step 4: the PCI hierarchy: host bridge, the board's own functions, root ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use arch::gsi;
use arch::layout::Platform;
use devices::component::Component;
use devices::irq::IrqLine;
use devices::pci::{BusId, Chip, ConfigPorts, PciFunction, PortType, RootPort, SlotEvent, Slots};
use vmm_protocol::config::{self, PciAddress, PciKind};

use super::{BuildError, Site, chipset, plug};

/// Where the buses of a definition are in the tree, by the index of their controller.
pub(super) struct Buses {
    behind: BTreeMap<u8, Behind>,
    /// Of the root bus, and which of them devices come into and leave.
    slots: Option<(Arc<Slots>, u32)>,
}

struct Behind {
    bus: BusId,
    port: Option<(PciAddress, Arc<RootPort>)>,
}

/// A slot whose device can come and go while the guest runs.
pub(super) struct Slot {
    pub(super) bus: BusId,
    hotplug: Hotplug,
}

enum Hotplug {
    Port(Arc<RootPort>),
    Root { slots: Arc<Slots>, number: u8 },
}

impl Slot {
    /// A device is in it.
    pub(super) fn filled(&self) {
        match &self.hotplug {
            Hotplug::Port(port) => port.set_present(true),
            Hotplug::Root { slots, number } => slots.plugged(*number),
        }
    }

    /// No device is in it any more.
    pub(super) fn emptied(&self) {
        if let Hotplug::Port(port) = &self.hotplug {
            port.set_present(false);
        }
    }

    /// Ask the guest to let go of what is in it.
    pub(super) fn request_removal(&self) {
        match &self.hotplug {
            Hotplug::Port(port) => port.request_removal(),
            Hotplug::Root { slots, number } => slots.request_removal(*number),
        }
    }
}

pub(super) fn build(
    site: &mut Site<'_>,
    event: Option<Arc<dyn SlotEvent>>,
) -> Result<Buses, BuildError> {
    let ports = Arc::new(ConfigPorts::new(Arc::downgrade(&site.parts.pci)));
    site.parts.buses.ports.insert(ConfigPorts::BASE, ConfigPorts::LEN, ports)?;
    // Firmware switches configuration space on where it wants it.
    let preset = site.map.ecam.as_ref().filter(|_| site.parts.windows.is_some());
    let ecam = preset.map(|range| range.start);
    match site.map.platform {
        Platform::Q35 => {
            chip(site, 0, 0, Chip::q35_host_bridge(ecam))?;
            chip(site, 0x1f, 0, Chip::ich9_lpc())?;
        }
        // Firmware would look for the LPC bridge; for a kernel it is 60 exits of probing. The ports
        // of configuration mechanism 1 stay: Linux 6.1 takes ECAM early only where they answer too.
        Platform::Microvm => chip(site, 0, 0, Chip::q35_host_bridge(ecam))?,
        Platform::Pc => {
            chip(site, 0, 0, Chip::i440fx_host_bridge())?;
            chip(site, 1, 0, Chip::piix3_isa())?;
            chip(site, 1, 3, Chip::piix4_pm())?;
        }
    }
    let behind = BTreeMap::from([(0, Behind { bus: BusId::ROOT, port: None })]);
    let mut buses = Buses { behind, slots: root_slots(site, event)? };
    for device in &site.config.pci {
        if let PciKind::RootPort(port) = &device.kind {
            root_port(site, &mut buses, device, port)?;
        }
    }
    Ok(buses)
}

/// Hotplug on the root bus, by ACPI.
fn root_slots(
    site: &mut Site<'_>,
    event: Option<Arc<dyn SlotEvent>>,
) -> Result<Option<(Arc<Slots>, u32)>, BuildError> {
    let pluggable = plug::slots(site.config);
    let Some(event) = event.filter(|_| pluggable != 0) else { return Ok(None) };
    let slots = Arc::new(Slots::new(event));
    let notices = site.parts.notices.clone();
    slots.on_eject(move |slot| notices.slot_is_off(0, slot));
    chipset::add(site, Slots::BASE, Slots::LEN, slots.clone(), Some(slots.clone()))?;
    Ok(Some((slots, pluggable)))
}

fn chip(site: &mut Site<'_>, device: u8, function: u8, chip: Chip) -> Result<(), BuildError> {
    let chip = Arc::new(chip);
    site.parts.pci.add(BusId::ROOT, device, function, chip.clone())?;
    site.parts.components.push(chip);
    Ok(())
}

fn root_port(
    site: &mut Site<'_>,
    buses: &mut Buses,
    device: &config::PciDevice,
    port: &config::RootPort,
) -> Result<(), BuildError> {
    let slot = u16::from(port.chassis);
    let messages = site.vm.messages();
    let built = RootPort::new(&device.id, slot, Some(&*messages));
    let built = Arc::new(built.map_err(BuildError::device(&device.id))?);
    if buses.behind.contains_key(&port.controller) {
        return Err(BuildError::config("PCI controller", port.controller, "is given twice"));
    }
    let behind = buses.find(device.address)?.bus;
    let PciAddress { slot, function, .. } = device.address;
    let bus = site.parts.pci.add(behind, slot, function, built.clone())?;
    let (controller, notices) = (port.controller, site.parts.notices.clone());
    built.on_power_off(move || notices.slot_is_off(controller, 0));
    site.parts.components.push(built.clone());
    buses.behind.insert(port.controller, Behind { bus, port: Some((device.address, built)) });
    Ok(())
}

impl Buses {
    fn find(&self, address: PciAddress) -> Result<&Behind, BuildError> {
        let reason = "no such PCI controller: ports come before what is behind them";
        self.behind
            .get(&address.bus)
            .ok_or_else(|| BuildError::config("PCI bus", address.bus, reason))
    }

    /// The slot at `address`, if it has hotplug.
    pub(super) fn slot(&self, address: PciAddress) -> Option<Slot> {
        let behind = self.behind.get(&address.bus)?;
        if address.function != 0 {
            return None;
        }
        let hotplug = if let Some((_, port)) = &behind.port {
            (address.slot == 0).then(|| Hotplug::Port(port.clone()))?
        } else {
            let (slots, pluggable) = self.slots.as_ref()?;
            let number = address.slot;
            let is_pluggable = number < 32 && pluggable & 1 << number != 0;
            is_pluggable.then(|| Hotplug::Root { slots: slots.clone(), number })?
        };
        Some(Slot { bus: behind.bus, hotplug })
    }

    /// What the PCI Express capability of a device at `address` says.
    pub(super) fn port_type(
        &self,
        address: PciAddress,
        platform: Platform,
    ) -> Result<Option<PortType>, BuildError> {
        let behind = self.find(address)?;
        Ok(match (&behind.port, platform) {
            (Some(_), _) => Some(PortType::Endpoint),
            (None, Platform::Pc) => None,
            (None, _) => Some(PortType::IntegratedEndpoint),
        })
    }

    /// INTA of the device at `address`, and the line it ends on.
    pub(super) fn interrupt(
        &self,
        site: &Site<'_>,
        address: PciAddress,
    ) -> Result<(u8, Arc<dyn IrqLine>), BuildError> {
        let (mut device, mut pin) = (address.slot, 0);
        if let Some((port, _)) = &self.find(address)?.port {
            pin = gsi::swizzle(device, pin);
            device = port.slot;
        }
        Ok((1, chipset::line(&site.lines, gsi::pci_intx(device, pin))?))
    }

    /// Put a function at its place in the definition.
    pub(super) fn plug<F: PciFunction + Component + 'static>(
        &self,
        site: &mut Site<'_>,
        address: PciAddress,
        function: Arc<F>,
    ) -> Result<(), BuildError> {
        let behind = self.find(address)?;
        site.parts.pci.add(behind.bus, address.slot, address.function, function.clone())?;
        if let Some((_, port)) = &behind.port {
            port.populate();
        }
        site.parts.components.push(function);
        Ok(())
    }
}

/// All functions are in place: number the buses, place the BARs. The hierarchy itself is the last
/// component, since its state is about where the others are.
pub(super) fn finish(site: &mut Site<'_>) -> Result<(), BuildError> {
    site.parts.components.push(site.parts.pci.clone());
    site.parts.assign_resources()?;
    Ok(())
}
