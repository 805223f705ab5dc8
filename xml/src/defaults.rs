//! What libvirt fills into a definition when it is stored.

use uuid::Uuid;

use crate::device::chardev::{
    Channel, Console, ConsoleTarget, ConsoleTargetType, Serial, SerialTarget,
};
use crate::device::chardev::{SerialModel, SerialTargetType};
use crate::device::controller::{Controller, ControllerModel, ControllerType};
use crate::device::disk::{Disk, DiskBus, DiskDevice, DiskType};
use crate::device::interface::{Interface, Mac};
use crate::device::memballoon::{BalloonModel, MemBalloon};
use crate::domain::cpu::Vcpu;
use crate::domain::memory::Placement;
use crate::domain::{Clock, CrashAction, DomainDef, LifecycleAction};
use crate::mac::MacAddress;

/// Where new identities come from, so that tests get the same ones each time.
pub trait Identity {
    fn uuid(&mut self) -> Uuid;
    /// The last three bytes of a MAC address; the first three are 52:54:00.
    fn mac(&mut self) -> [u8; 3];
}

impl DomainDef {
    /// Complete the definition as libvirt's define does, except addresses on buses: those depend on the machine.
    pub fn fill_defaults(&mut self, source: &mut dyn Identity) {
        self.uuid.get_or_insert_with(|| source.uuid());
        if let Some(genid) = &mut self.genid {
            genid.id.get_or_insert_with(|| source.uuid());
        }
        self.id = None;
        self.current_memory.get_or_insert(self.memory.size);
        let vcpu =
            self.vcpu.get_or_insert(Vcpu { placement: None, cpuset: None, current: None, max: 1 });
        vcpu.placement.get_or_insert(Placement::Static);
        self.os.kind.arch.get_or_insert_with(|| "x86_64".to_owned());
        self.os.kind.machine.get_or_insert_with(|| "q35".to_owned());
        self.clock.get_or_insert_with(Clock::utc);
        self.on_poweroff.get_or_insert(LifecycleAction::Destroy);
        self.on_reboot.get_or_insert(LifecycleAction::Restart);
        self.on_crash.get_or_insert(CrashAction::Destroy);
        for disk in &mut self.devices.disks {
            complete_disk(disk);
        }
        let mut taken: Vec<MacAddress> =
            self.devices.interfaces.iter().filter_map(Interface::mac_address).collect();
        for interface in &mut self.devices.interfaces {
            if interface.mac.is_none() {
                let address = new_mac(source, &taken);
                taken.push(address);
                interface.mac = Some(Mac { address, kind: None, check: None });
            }
        }
        self.complete_consoles();
        self.complete_controllers();
        self.devices.mem_balloon.get_or_insert(MemBalloon::new(BalloonModel::Virtio));
    }
}

impl DomainDef {
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
        for (port, serial) in (0..).zip(&mut devices.serials) {
            let target = serial.target.get_or_insert_default();
            let kind = *target.kind.get_or_insert(SerialTargetType::Isa);
            target.port.get_or_insert(port);
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
        use ControllerType::{Ide, Pci, Sata, Scsi, VirtioSerial};
        let pcie = self.os.kind.machine.as_deref().is_none_or(|machine| !is_i440fx(machine));
        let root = if pcie { ControllerModel::PcieRoot } else { ControllerModel::PciRoot };
        self.add_controllers(Pci, 0, Some(root));
        for (bus, kind) in [(DiskBus::Sata, Sata), (DiskBus::Ide, Ide), (DiskBus::Scsi, Scsi)] {
            let on_bus = self.devices.disks.iter().filter(|disk| disk.target.bus() == bus);
            if let Some(last) = on_bus.map(Disk::drive_controller).max() {
                let model = (kind == Scsi).then_some(ControllerModel::VirtioScsi);
                self.add_controllers(kind, last, model);
            }
        }
        let virtio_console = |console: &Console| {
            console.target.as_ref().and_then(|t| t.kind) == Some(ConsoleTargetType::Virtio)
        };
        let channel = self.devices.channels.iter().any(Channel::is_virtio);
        if channel || self.devices.consoles.iter().any(virtio_console) {
            self.add_controllers(VirtioSerial, 0, None);
        }
        for controller in &mut self.devices.controllers {
            controller.index.get_or_insert(0);
        }
    }

    fn add_controllers(&mut self, kind: ControllerType, last: u32, model: Option<ControllerModel>) {
        // A drive address of a hostile definition may name controller four billion; no machine has so many.
        for index in 0..=last.min(MOST_CONTROLLERS) {
            let present = |c: &Controller| c.kind == kind && c.index.unwrap_or(0) == index;
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
    let device = *disk.device.get_or_insert(DiskDevice::Disk);
    let bus = disk.target.bus();
    disk.target.bus.get_or_insert(bus);
    if device == DiskDevice::Cdrom {
        disk.read_only = true;
    }
}

/// A MAC address that none of the guest's interfaces has yet.
fn new_mac(source: &mut dyn Identity, taken: &[MacAddress]) -> MacAddress {
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
