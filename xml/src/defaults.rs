//! What libvirt fills into a definition when it is stored.

mod display;
mod numa;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::device::address::DeviceAddress;
use crate::device::chardev::{
    Channel, Console, ConsoleTarget, ConsoleTargetType, Serial, SerialTarget,
};
use crate::device::chardev::{SerialModel, SerialTargetType};
use crate::device::controller::ControllerModel::{PciRoot, PcieRoot};
use crate::device::controller::{Controller, ControllerModel, ControllerType};
use crate::device::disk::{Disk, DiskBus, DiskDevice, DiskFormat, DiskType};
use crate::device::interface::{DirectMode, Interface, InterfaceType, Mac};
use crate::device::memballoon::{BalloonModel, MemBalloon};
use crate::domain::cpu::Vcpu;
use crate::domain::memory::Placement;
use crate::domain::os::BootDevice;
use crate::domain::{Clock, CrashAction, DomainDef, LifecycleAction};
use crate::mac::MacAddress;

/// Where new identities come from, so that tests get the same ones each time.
pub trait Identity {
    fn uuid(&mut self) -> Uuid;
    /// The last three bytes of a MAC address, others each time; the first three are 52:54:00.
    fn mac(&mut self) -> [u8; 3];
}

impl DomainDef {
    /// Complete the definition as libvirt's define does: what only a running domain has goes, what was left open
    /// gets libvirt's default. Addresses on PCI stay open, because they depend on the machine.
    pub fn fill_defaults(&mut self, source: &mut dyn Identity) {
        self.forget_live_parts();
        self.uuid.get_or_insert_with(|| source.uuid());
        if let Some(genid) = &mut self.genid {
            genid.id.get_or_insert_with(|| source.uuid());
        }
        let vcpu =
            self.vcpu.get_or_insert(Vcpu { placement: None, cpuset: None, current: None, max: 1 });
        vcpu.placement.get_or_insert(Placement::Static);
        self.complete_numa();
        self.current_memory.get_or_insert(self.memory.size);
        self.os.kind.arch.get_or_insert_with(|| "x86_64".to_owned());
        self.os.kind.machine.get_or_insert_with(|| "q35".to_owned());
        self.clock.get_or_insert_with(Clock::utc);
        self.on_poweroff.get_or_insert(LifecycleAction::Destroy);
        self.on_reboot.get_or_insert(LifecycleAction::Restart);
        self.on_crash.get_or_insert(CrashAction::Destroy);
        for disk in &mut self.devices.disks {
            complete_disk(disk);
        }
        let mut taken: BTreeSet<MacAddress> =
            self.devices.interfaces.iter().filter_map(Interface::mac_address).collect();
        for interface in &mut self.devices.interfaces {
            if interface.mac.is_none() {
                let address = new_mac(source, &taken);
                taken.insert(address);
                interface.mac = Some(Mac { address, kind: None, check: None });
            }
            if let (InterfaceType::Direct, Some(source)) = (interface.kind, &mut interface.source) {
                source.mode.get_or_insert_with(|| DirectMode::Vepa.to_string());
            }
        }
        self.complete_boot();
        self.complete_consoles();
        self.complete_controllers();
        self.complete_display();
        self.devices.mem_balloon.get_or_insert(MemBalloon::new(BalloonModel::Virtio));
    }
}

impl DomainDef {
    /// A machine that was told nothing about booting boots from its first hard disk.
    fn complete_boot(&mut self) {
        let devices = &self.devices;
        let ordered = devices.disks.iter().any(|disk| disk.boot.is_some())
            || devices.interfaces.iter().any(|interface| interface.boot.is_some());
        if self.os.boot.is_empty() && !ordered {
            self.os.boot.push(BootDevice::Hd);
        }
    }

    /// The first console is the first serial port, whichever of the two was written.
    fn complete_consoles(&mut self) {
        let devices = &mut self.devices;
        for console in &mut devices.consoles {
            let target = console.target.get_or_insert_default();
            target.kind.get_or_insert(ConsoleTargetType::Serial);
        }
        let first_is_serial = devices.consoles.first().is_some_and(Console::is_serial);
        if let Some(console) =
            devices.consoles.first().filter(|_| first_is_serial && devices.serials.is_empty())
        {
            devices.serials.push(serial_behind(console));
        }
        let port = |serial: &Serial| serial.target.as_ref().and_then(|target| target.port);
        let taken: BTreeSet<u32> = devices.serials.iter().filter_map(port).collect();
        let mut free = (0..).filter(|port| !taken.contains(port));
        for serial in &mut devices.serials {
            let target = serial.target.get_or_insert_default();
            target.port = target.port.or_else(|| free.next());
            let kind = *target.kind.get_or_insert(SerialTargetType::Isa);
            if kind == SerialTargetType::Isa {
                target.model.get_or_insert(SerialModel::Isa);
            }
        }
        if let Some(serial) = devices.serials.first() {
            if devices.consoles.is_empty() {
                devices.consoles.push(console_before(serial));
            } else if first_is_serial {
                devices.consoles[0] = console_before(serial);
            }
        }
        for (port, console) in (0..).zip(&mut devices.consoles) {
            console.target.get_or_insert_default().port.get_or_insert(port);
        }
    }

    /// Each bus that a device names has its controllers, and the PCI root is named.
    fn complete_controllers(&mut self) {
        use ControllerType::{Ide, Nvme, Pci, Sata, Scsi, VirtioSerial};
        let pcie = self.os.kind.machine.as_deref().is_none_or(|machine| !is_i440fx(machine));
        let root = if pcie { PcieRoot } else { PciRoot };
        self.number_controllers();
        self.add_controllers(Pci, 0, Some(root));
        let buses = [
            (DiskBus::Sata, Sata),
            (DiskBus::Ide, Ide),
            (DiskBus::Scsi, Scsi),
            (DiskBus::Nvme, Nvme),
        ];
        for (bus, kind) in buses {
            let on_bus = self.devices.disks.iter().filter(|disk| disk.target.bus() == bus);
            if let Some(last) = on_bus.map(Disk::drive_controller).max() {
                let model = (kind == Scsi).then_some(ControllerModel::VirtioScsi);
                self.add_controllers(kind, last, model);
            }
        }
        let open = |c: &&mut Controller| {
            c.kind == Scsi && matches!(c.model, None | Some(ControllerModel::Auto))
        };
        for controller in self.devices.controllers.iter_mut().filter(open) {
            controller.model = Some(ControllerModel::VirtioScsi);
        }
        let virtio_console = |console: &Console| {
            console.target.as_ref().and_then(|t| t.kind) == Some(ConsoleTargetType::Virtio)
        };
        let channel = self.devices.channels.iter().any(Channel::is_virtio);
        if channel || self.devices.consoles.iter().any(virtio_console) {
            self.add_controllers(VirtioSerial, 0, None);
        }
    }

    /// Controllers without an index get the first free ones of their kind, the PCI root 0.
    fn number_controllers(&mut self) {
        let controllers = &mut self.devices.controllers;
        let is_root = |c: &Controller| matches!(c.model, Some(PciRoot | PcieRoot));
        for root in controllers.iter_mut().filter(|c| is_root(c)) {
            root.index.get_or_insert(0);
        }
        let mut taken: BTreeSet<(&str, u32)> =
            controllers.iter().filter_map(|c| Some((c.kind.name(), c.index?))).collect();
        let mut next: BTreeMap<&str, u32> = BTreeMap::new();
        // The root has 0 also when it is yet to be added.
        next.insert(ControllerType::Pci.name(), 1);
        for controller in controllers.iter_mut().filter(|c| c.index.is_none()) {
            let kind = controller.kind.name();
            let free = next.entry(kind).or_insert(0);
            while !taken.insert((kind, *free)) {
                *free += 1;
            }
            controller.index = Some(*free);
        }
    }

    fn add_controllers(&mut self, kind: ControllerType, last: u32, model: Option<ControllerModel>) {
        // A drive address of a hostile definition may name controller four billion; no machine has so many.
        for index in 0..=last.min(MOST_CONTROLLERS) {
            let present = |c: &Controller| c.kind == kind && c.index == Some(index);
            if !self.devices.controllers.iter().any(present) {
                self.devices.controllers.push(Controller::new(kind, index, model));
            }
        }
    }
}

const MOST_CONTROLLERS: u32 = 31;

/// `pc` and its versions have PCI; `q35`, its versions and all else have PCI Express.
fn is_i440fx(machine: &str) -> bool {
    machine == "pc"
        || machine.starts_with("pc-i440fx")
        || machine.starts_with("pc-0")
        || machine.starts_with("pc-1")
}

fn complete_disk(disk: &mut Disk) {
    disk.kind.get_or_insert(DiskType::File);
    let driver = disk.driver.get_or_insert_default();
    driver.name.get_or_insert_with(|| "qemu".to_owned());
    driver.format.get_or_insert(DiskFormat::Raw);
    let device = *disk.device.get_or_insert(DiskDevice::Disk);
    let bus = disk.target.bus();
    disk.target.bus.get_or_insert(bus);
    if disk.address.is_none() {
        disk.address = disk.default_drive().map(DeviceAddress::Drive);
    }
    if device == DiskDevice::Cdrom {
        disk.read_only = true;
    }
}

/// A MAC address that none of the guest's interfaces has yet.
fn new_mac(source: &mut dyn Identity, taken: &BTreeSet<MacAddress>) -> MacAddress {
    loop {
        let [a, b, c] = source.mac();
        let address = MacAddress([0x52, 0x54, 0x00, a, b, c]);
        if !taken.contains(&address) {
            return address;
        }
    }
}

fn serial_behind(console: &Console) -> Serial {
    Serial {
        kind: console.kind(),
        tty: None,
        sources: console.sources.clone(),
        protocol: console.protocol,
        log: console.log.clone(),
        target: Some(SerialTarget { port: Some(0), ..SerialTarget::default() }),
        alias: None,
        acpi_index: None,
        address: None,
    }
}

fn console_before(serial: &Serial) -> Console {
    Console {
        kind: Some(serial.kind),
        tty: None,
        sources: serial.sources.clone(),
        protocol: serial.protocol,
        log: serial.log.clone(),
        target: Some(ConsoleTarget { kind: Some(ConsoleTargetType::Serial), port: Some(0) }),
        alias: serial.alias.clone(),
        acpi_index: None,
        address: None,
    }
}
