//! Aliases: the names of devices in a running domain, in events and in statistics, as libvirt
//! forms them.

use xml::DomainDef;
use xml::device::address::DeviceAddress;
use xml::device::controller::{Controller, ControllerModel, ControllerType};
use xml::device::disk::{Disk, DiskBus};

/// The one it has, or gets.
pub(super) fn of_controller(controller: &Controller) -> String {
    controller.alias.clone().unwrap_or_else(|| controller_alias(controller))
}

/// Give every device that has no alias of its own the one libvirt would.
pub(super) fn assign(def: &mut DomainDef) {
    let devices = &mut def.devices;
    for disk in &mut devices.disks {
        let alias = disk_alias(disk);
        disk.alias.get_or_insert(alias);
    }
    for controller in &mut devices.controllers {
        let alias = controller_alias(controller);
        controller.alias.get_or_insert(alias);
    }
    come_and_go(devices.interfaces.iter_mut().map(|it| &mut it.alias), "net");
    come_and_go(devices.inputs.iter_mut().map(|it| &mut it.alias), "input");
    come_and_go(devices.rngs.iter_mut().map(|it| &mut it.alias), "rng");
    for (index, serial) in devices.serials.iter_mut().enumerate() {
        serial.alias.get_or_insert_with(|| format!("serial{index}"));
    }
    let first_serial = devices.serials.first().and_then(|serial| serial.alias.clone());
    for (index, console) in devices.consoles.iter_mut().enumerate() {
        let own = || format!("console{index}");
        let alias = match &first_serial {
            Some(alias) if index == 0 && console.is_serial() => alias.clone(),
            _ => own(),
        };
        console.alias.get_or_insert(alias);
    }
    for (index, channel) in devices.channels.iter_mut().enumerate() {
        channel.alias.get_or_insert_with(|| format!("channel{index}"));
    }
    for (index, video) in devices.videos.iter_mut().enumerate() {
        video.alias.get_or_insert_with(|| format!("video{index}"));
    }
    for (index, panic) in devices.panics.iter_mut().enumerate() {
        panic.alias.get_or_insert_with(|| format!("panic{index}"));
    }
    for (index, watchdog) in devices.watchdogs.iter_mut().enumerate() {
        watchdog.alias.get_or_insert_with(|| format!("watchdog{index}"));
    }
    if let Some(vsock) = &mut devices.vsock {
        vsock.alias.get_or_insert_with(|| "vsock0".to_owned());
    }
    if let Some(balloon) = &mut devices.mem_balloon {
        balloon.alias.get_or_insert_with(|| "balloon0".to_owned());
    }
}

/// Devices that come and go are numbered above all that are there.
fn come_and_go<'a>(aliases: impl Iterator<Item = &'a mut Option<String>>, kind: &str) {
    let aliases: Vec<_> = aliases.collect();
    let number = |alias: &str| alias.strip_prefix(kind)?.parse::<u32>().ok();
    let numbers = aliases.iter().filter_map(|alias| number(alias.as_deref()?));
    let mut next = numbers.max().map_or(0, |last| u64::from(last) + 1);
    for alias in aliases {
        alias.get_or_insert_with(|| {
            next += 1;
            format!("{kind}{}", next - 1)
        });
    }
}

/// `virtio-disk0` is `vda`.
fn disk_alias(disk: &Disk) -> String {
    let bus = disk.target.bus();
    let letters = disk.target.dev.trim_start_matches(['v', 's', 'h', 'f', 'x']).get(1..);
    let number = letters
        .unwrap_or_default()
        .bytes()
        .filter(u8::is_ascii_lowercase)
        .fold(0_u64, |number, letter| {
            number.saturating_mul(26).saturating_add(u64::from(letter - b'a') + 1)
        });
    match (bus, &disk.address) {
        (DiskBus::Virtio, _) => format!("virtio-disk{}", number.saturating_sub(1)),
        // By its place: controller, bus, target and unit, of ATA without the target.
        (bus, Some(DeviceAddress::Drive(drive))) => {
            let part = |number: Option<u32>| number.unwrap_or(0);
            let (controller, at) = (part(drive.controller), part(drive.bus));
            match bus {
                DiskBus::Scsi => {
                    format!("scsi{controller}-{at}-{}-{}", part(drive.target), part(drive.unit))
                }
                DiskBus::Nvme => format!("nvme{controller}-{}", part(drive.unit)),
                bus => format!("{bus}{controller}-{at}-{}", part(drive.unit)),
            }
        }
        (other, _) => format!("{other}-disk{}", number.saturating_sub(1)),
    }
}

fn controller_alias(controller: &Controller) -> String {
    let index = controller.index.unwrap_or(0);
    match (controller.kind, controller.model) {
        (ControllerType::Pci, Some(ControllerModel::PcieRoot)) => "pcie.0".to_owned(),
        (ControllerType::Pci, _) => format!("pci.{index}"),
        // The board's own have no number; SATA's is where IDE's was.
        (ControllerType::Sata | ControllerType::Ide, _) if index == 0 => "ide".to_owned(),
        (ControllerType::Usb, _) if index == 0 => "usb".to_owned(),
        (kind, _) => format!("{kind}{index}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn disks_are_numbered_by_their_letters() {
        for (dev, alias) in
            [("vda", "virtio-disk0"), ("vdz", "virtio-disk25"), ("vdaa", "virtio-disk26")]
        {
            let xml = format!(
                "<domain type='kvm'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>\
                 <disk><source file='/a'/><target dev='{dev}'/></disk></devices></domain>"
            );
            let mut def = xml::DomainDef::parse(&xml).unwrap().value;
            super::assign(&mut def);
            assert_eq!(def.devices.disks[0].alias.as_deref(), Some(alias));
        }
    }
}
