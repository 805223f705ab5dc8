//! PCI addresses: given when a domain is defined, stored, never changed, because a guest knows its
//! devices by them.
//!
//! The rules are libvirt's. Where the definition has `pcie-root-port` controllers, devices take the
//! next free port; else, and when the ports run out, the next free slot of bus 0. Slots that belong
//! to the board (and the one where it has its graphics card) are left free. Ports share slots, eight to
//! one.

use std::collections::BTreeSet;

use vmm_protocol::config::Machine;
use xml::device::address::{DeviceAddress, PciPlace, VirtioSerialAddress};
use xml::device::controller::{Controller, ControllerModel, ControllerType};
use xml::device::disk::DiskBus;
use xml::device::input::InputBus;
use xml::device::memballoon::BalloonModel;
use xml::device::watchdog::WatchdogModel;
use xml::device::{Devices, Video, Watchdog};
use xml::{DomainDef, Hex, OnOff, PciAddress};

use super::report::Report;
use super::{display, drives};

const SLOTS: u8 = 32;

/// Slots of bus 0 that are the board's own, and the first that is given away.
fn reserved(machine: Machine) -> (&'static [u8], u8) {
    match machine {
        // Host bridge; LPC bridge. 1 is the graphics card's.
        Machine::Q35 => (&[0, 31], 2),
        // Host bridge; ISA bridge and power management. 2 is the graphics card's.
        Machine::Pc => (&[0, 1], 3),
        Machine::Microvm => (&[0], 1),
    }
}

struct Bus {
    machine: Machine,
    taken: BTreeSet<PciAddress>,
    /// Buses of root ports, in order.
    ports: Vec<u8>,
    /// The port placed last: the next one shares its slot.
    last_port: Option<PciAddress>,
}

pub(super) fn assign(def: &mut DomainDef, report: &mut Report<'_>) {
    let machine = super::board_of(def);
    let mut bus = Bus { machine, taken: BTreeSet::new(), ports: Vec::new(), last_port: None };
    number_controllers(def, &mut bus, report);
    check(def, &mut bus, report);
    place_board_controllers(def, machine, report);
    if report.is_refused() {
        return;
    }
    for controller in def.devices.controllers.iter_mut().filter(|c| is_root_port(c)) {
        if !place_port(&mut bus, controller) {
            return full(report);
        }
    }
    for (_, address) in endpoints(def) {
        if needs(address.as_ref()) {
            let Some(place) = bus.next() else { return full(report) };
            bus.taken.insert(place);
            *address = Some(place.into());
        }
    }
    // No PCI Express devices: they sit on the root bus.
    if let Some(card) = graphics_card(&mut def.devices)
        && needs(card.address.as_ref())
    {
        let (_, first) = reserved(machine);
        let usual = first.checked_sub(1).filter(|slot| *slot > 0 && bus.slot_is_free(0, *slot));
        let usual = usual.and_then(|slot| PciAddress::new(0, slot, 0));
        let Some(place) = usual.or_else(|| bus.next_slot()) else { return full(report) };
        bus.taken.insert(place);
        card.address = Some(place.into());
    }
    for watchdog in pci_watchdogs(&mut def.devices) {
        if needs(watchdog.address.as_ref()) {
            let Some(place) = bus.next_slot() else { return full(report) };
            bus.taken.insert(place);
            watchdog.address = Some(place.into());
        }
    }
    assign_ports_of_consoles(def);
}

fn pci_watchdogs(devices: &mut Devices) -> impl Iterator<Item = &mut Watchdog> {
    devices.watchdogs.iter_mut().filter(|w| w.model == WatchdogModel::I6300esb)
}

/// The one that there can be.
fn graphics_card(devices: &mut Devices) -> Option<&mut Video> {
    let there = display::card(devices).is_some_and(|card| !display::is_ramfb(card));
    devices.videos.first_mut().filter(|_| there)
}

fn full(report: &mut Report<'_>) {
    report.invalid("/domain/devices", "there are more devices than PCI slots");
}

fn is_root_port(controller: &Controller) -> bool {
    controller.kind == ControllerType::Pci
        && controller.model == Some(ControllerModel::PcieRootPort)
}

/// A PCI controller's index is the number of the bus behind it.
fn number_controllers(def: &mut DomainDef, bus: &mut Bus, report: &mut Report<'_>) {
    let pci = |c: &&mut Controller| c.kind == ControllerType::Pci;
    for controller in def.devices.controllers.iter_mut().filter(pci).filter(|c| is_root_port(c)) {
        match controller.index.and_then(|index| u8::try_from(index).ok()) {
            Some(index) if index > 0 => bus.ports.push(index),
            _ => report.invalid(
                "/domain/devices/controller",
                "a pcie-root-port has an index from 1 to 255: the number of the bus behind it",
            ),
        }
    }
    bus.ports.sort_unstable();
}

/// Controllers of the board are where they always are.
fn place_board_controllers(def: &mut DomainDef, machine: Machine, report: &mut Report<'_>) {
    let built: Vec<bool> =
        def.devices.controllers.iter().map(|c| drives::is_built(def, c)).collect();
    let controllers = def.devices.controllers.iter_mut().zip(built).filter(|(_, built)| *built);
    for (controller, _) in controllers {
        let Some(place) = drives::board_place(machine, controller) else { continue };
        let kind = controller.kind;
        if needs(controller.address.as_ref()) {
            controller.address = Some(place.into());
        } else if controller.address.as_ref().and_then(DeviceAddress::pci) != Some(place) {
            let text = format!("the {kind} controller 0 of this machine is at {place}");
            report.invalid("/domain/devices/controller", text);
        }
    }
}

/// Addresses that were written: of a bus that exists, and nobody else's.
fn check(def: &mut DomainDef, bus: &mut Bus, report: &mut Report<'_>) {
    let (own, _) = reserved(bus.machine);
    let mut written = Vec::new();
    for (number, port) in (1..).zip(&def.devices.controllers).filter(|(_, c)| is_root_port(c)) {
        let path = format!("/domain/devices/controller[{number}]/address");
        written.push((path, port.address.clone(), true));
    }
    for (number, watchdog) in (1..).zip(pci_watchdogs(&mut def.devices)) {
        let path = format!("/domain/devices/watchdog[{number}]/address");
        written.push((path, watchdog.address.clone(), false));
    }
    if let Some(card) = graphics_card(&mut def.devices) {
        let path = "/domain/devices/video[1]/address".to_owned();
        written.push((path, card.address.clone(), false));
    }
    let endpoints = endpoints(def).into_iter();
    written.extend(endpoints.map(|(path, address)| (path, address.clone(), false)));
    for (path, address, port) in written {
        let path = path.as_str();
        let Some(address) = address else { continue };
        if !matches!(address, DeviceAddress::Pci(_) | DeviceAddress::Unassigned(_)) {
            report.invalid(path, "a virtio device has an address of type='pci'");
            continue;
        }
        let Some(at) = address.pci() else { continue };
        let behind_port = bus.ports.contains(&at.bus);
        if at.domain != 0 {
            report.invalid(path, format!("the guest has PCI domain 0 only, not that of {at}"));
        } else if at.bus != 0 && !behind_port {
            let message = format!("{at} is on bus {}, and no controller has that index", at.bus);
            report.invalid(path, message);
        } else if behind_port && port {
            report.invalid(path, format!("a pcie-root-port sits on bus 0, not at {at}"));
        } else if behind_port && at.slot != 0 {
            report.invalid(path, format!("behind a pcie-root-port there is slot 0 only, not {at}"));
        } else if at.bus == 0 && own.contains(&at.slot) {
            report.invalid(path, format!("{at} belongs to the board"));
        } else if !bus.taken.insert(at) {
            report.invalid(path, format!("{at} is taken by two devices"));
        }
    }
}

/// Every device that sits on the PCI bus of the guest, in the order in which libvirt places them.
fn endpoints(def: &mut DomainDef) -> Vec<(String, &mut Option<DeviceAddress>)> {
    fn all<'a, T>(
        name: &str,
        devices: impl IntoIterator<Item = T>,
        address: impl Fn(T) -> Option<&'a mut Option<DeviceAddress>>,
    ) -> Vec<(String, &'a mut Option<DeviceAddress>)> {
        let numbered = (1..).zip(devices);
        let path = |number: u32| format!("/domain/devices/{name}[{number}]/address");
        numbered.filter_map(|(number, device)| Some((path(number), address(device)?))).collect()
    }
    let machine = super::board_of(def);
    let built: Vec<bool> =
        def.devices.controllers.iter().map(|c| drives::is_built(def, c)).collect();
    let devices = &mut def.devices;
    let controllers = devices.controllers.iter_mut().zip(built);
    let mut found = all("controller", controllers, |(c, built)| {
        let placed = built && drives::board_place(machine, c).is_none();
        (c.kind == ControllerType::VirtioSerial || placed).then_some(&mut c.address)
    });
    found.extend(all("interface", &mut devices.interfaces, |i| Some(&mut i.address)));
    found.extend(all("disk", &mut devices.disks, |d| {
        (d.target.bus() == DiskBus::Virtio).then_some(&mut d.address)
    }));
    found.extend(all("memballoon", &mut devices.mem_balloon, |b| {
        (b.model != BalloonModel::None).then_some(&mut b.address)
    }));
    found.extend(all("rng", &mut devices.rngs, |r| Some(&mut r.address)));
    found.extend(all("input", &mut devices.inputs, |i| {
        (i.bus == Some(InputBus::Virtio)).then_some(&mut i.address)
    }));
    found.extend(all("vsock", &mut devices.vsock, |v| Some(&mut v.address)));
    found
}

fn needs(address: Option<&DeviceAddress>) -> bool {
    match address {
        None => true,
        Some(DeviceAddress::Pci(place)) => place.address.is_none(),
        Some(_) => false,
    }
}

impl Bus {
    fn slot_is_free(&self, bus: u8, slot: u8) -> bool {
        !self.taken.iter().any(|taken| (taken.bus, taken.slot) == (bus, slot))
    }

    fn next(&self) -> Option<PciAddress> {
        let port = self.ports.iter().find(|port| self.slot_is_free(**port, 0));
        match port {
            Some(port) => PciAddress::new(*port, 0, 0),
            None => self.next_slot(),
        }
    }

    fn next_slot(&self) -> Option<PciAddress> {
        let (own, first) = reserved(self.machine);
        let slot =
            (first..SLOTS).find(|slot| !own.contains(slot) && self.slot_is_free(0, *slot))?;
        PciAddress::new(0, slot, 0)
    }

    /// Beside the port placed last, or in a slot of its own.
    fn next_port(&self) -> Option<PciAddress> {
        let beside = self
            .last_port
            .and_then(|last| PciAddress::new(0, last.slot, last.function.checked_add(1)?));
        beside.filter(|at| !self.taken.contains(at)).or_else(|| self.next_slot())
    }
}

/// Give a root port its address and numbers; false if there is no place.
fn place_port(bus: &mut Bus, controller: &mut Controller) -> bool {
    let written = controller.address.as_ref().and_then(DeviceAddress::pci);
    let Some(at) = written.or_else(|| bus.next_port()) else { return false };
    let index = controller.index.unwrap_or(1);
    let target = controller.target.get_or_insert_default();
    target.chassis.get_or_insert(index);
    target.port.get_or_insert(Hex(u32::from(at.slot) << 3 | u32::from(at.function)));
    if written.is_none() {
        bus.taken.insert(at);
        bus.last_port = Some(at);
        let multifunction = (at.function == 0).then_some(OnOff::On);
        let place = PciPlace { address: Some(at), multifunction };
        controller.address = Some(DeviceAddress::Pci(place));
    }
    true
}

/// Ports of virtio-serial controllers: 0 is a console's, channels begin at 1.
fn assign_ports_of_consoles(def: &mut DomainDef) {
    let devices = &mut def.devices;
    let mut taken = BTreeSet::new();
    let consoles = devices.consoles.iter_mut().filter(|c| super::is_virtio(c));
    let mut places: Vec<(&mut Option<DeviceAddress>, u32)> =
        consoles.map(|console| (&mut console.address, 0)).collect();
    let channels = devices.channels.iter_mut().filter(|c| c.is_virtio());
    places.extend(channels.map(|channel| (&mut channel.address, 1)));
    for (place, _) in &places {
        if let Some(DeviceAddress::VirtioSerial(at)) = place
            && let Some(port) = at.port
        {
            taken.insert((at.controller.unwrap_or(0), port));
        }
    }
    for (place, first) in places {
        let mut at = match place {
            Some(DeviceAddress::VirtioSerial(at)) => *at,
            _ => VirtioSerialAddress::default(),
        };
        let controller = *at.controller.get_or_insert(0);
        at.bus.get_or_insert(0);
        if at.port.is_none() {
            let port = (first..).find(|port| !taken.contains(&(controller, *port)));
            at.port = port;
            taken.extend(port.map(|port| (controller, port)));
        }
        *place = Some(DeviceAddress::VirtioSerial(at));
    }
}
