//! The order in which firmware tries devices: the fw_cfg file `bootorder`, a list of Open Firmware
//! device paths, as SeaBIOS and OVMF read it.

use vmm_protocol::config::{Drive, DrivePlace, PciAddress, PciDevice, PciKind};

/// Deeper trees than any definition has.
const MAX_DEPTH: usize = 32;

/// None when no device has a place in the order: firmware then takes its own.
pub(super) fn boot_order(devices: &[PciDevice]) -> Option<Vec<u8>> {
    let mut listed: Vec<(u32, String)> = devices
        .iter()
        .filter_map(|device| Some((device.boot_index?, path(devices, device)?)))
        .collect();
    for device in devices {
        let drives = device.kind.drives().iter();
        listed
            .extend(drives.filter_map(|drive| {
                Some((drive.boot_index?, drive_path(devices, device, drive)?))
            }));
    }
    listed.sort_by_key(|(index, _)| *index);
    let paths: Vec<String> = listed.into_iter().map(|(_, path)| path).collect();
    let mut text = (!paths.is_empty()).then(|| paths.join("\n").into_bytes())?;
    text.push(0);
    Some(text)
}

fn path(devices: &[PciDevice], device: &PciDevice) -> Option<String> {
    let (node, unit) = match &device.kind {
        PciKind::Blk(_) => ("scsi", "/disk@0,0"),
        PciKind::Net(_) => ("ethernet", "/ethernet-phy@0"),
        // Nothing to boot from.
        _ => return None,
    };
    let bus = bus_path(devices, device.address.bus, MAX_DEPTH)?;
    Some(format!("{bus}{}{unit}", place(node, device.address)))
}

/// The path of a drive on a controller.
fn drive_path(devices: &[PciDevice], device: &PciDevice, drive: &Drive) -> Option<String> {
    let DrivePlace { bus, target, unit } = drive.place;
    let (node, end) = match &device.kind {
        PciKind::Scsi(_) => ("scsi", format!("/channel@0/disk@{target:x},{unit:x}")),
        PciKind::Ide(_) => ("ide", format!("/drive@{bus:x}/disk@{unit:x}")),
        PciKind::Nvme(_) => ("pci8086,5845", format!("/namespace@{:x},0", unit + 1)),
        PciKind::Ahci(_) => ("pci8086,2922", format!("/drive@{unit:x}/disk@0")),
        _ => return None,
    };
    let bus = bus_path(devices, device.address.bus, MAX_DEPTH)?;
    Some(format!("{bus}{}{end}", place(node, device.address)))
}

/// The path of a bus by the index of its controller; none when no root port leads there.
fn bus_path(devices: &[PciDevice], bus: u8, depth: usize) -> Option<String> {
    if bus == 0 {
        return Some("/pci@i0cf8".to_owned());
    }
    let leads_there = |device: &&PciDevice| matches!(&device.kind, PciKind::RootPort(port) if port.controller == bus);
    let port = devices.iter().find(leads_there)?;
    let above = bus_path(devices, port.address.bus, depth.checked_sub(1)?)?;
    Some(format!("{above}{}", place("pci-bridge", port.address)))
}

fn place(node: &str, address: PciAddress) -> String {
    match address.function {
        0 => format!("/{node}@{:x}", address.slot),
        function => format!("/{node}@{:x},{function:x}", address.slot),
    }
}

#[cfg(test)]
mod tests {
    use vmm_protocol::config::{Net, RootPort};

    use super::*;

    fn device(bus: u8, slot: u8, function: u8, kind: PciKind) -> PciDevice {
        let address = PciAddress { bus, slot, function };
        let id = format!("{bus}:{slot}.{function}");
        PciDevice { id, address, multifunction: false, boot_index: None, kind }
    }

    fn net(bus: u8, slot: u8, function: u8, index: u32) -> PciDevice {
        let net = Net {
            taps: Vec::new(),
            stream: None,
            vhost: Vec::new(),
            mac: [0; 6],
            mtu: None,
            link_up: true,
            offloads: true,
            queues: Vec::new(),
            queue_size: 256,
            rom: None,
        };
        PciDevice { boot_index: Some(index), ..device(bus, slot, function, PciKind::Net(net)) }
    }

    fn port(bus: u8, slot: u8, function: u8, controller: u8) -> PciDevice {
        let port = RootPort { controller, chassis: controller, port: 0 };
        device(bus, slot, function, PciKind::RootPort(port))
    }

    #[test]
    fn devices_come_by_index_wherever_they_sit() {
        let devices = [
            port(0, 2, 1, 1),
            port(1, 0, 0, 2),
            net(0, 0x1e, 0, 3),
            net(1, 0, 0, 1),
            net(2, 4, 2, 2),
        ];
        let expected = "/pci@i0cf8/pci-bridge@2,1/ethernet@0/ethernet-phy@0\n\
                        /pci@i0cf8/pci-bridge@2,1/pci-bridge@0/ethernet@4,2/ethernet-phy@0\n\
                        /pci@i0cf8/ethernet@1e/ethernet-phy@0\0";
        assert_eq!(String::from_utf8(boot_order(&devices).unwrap()).unwrap(), expected);
    }

    #[test]
    fn without_an_index_there_is_no_order() {
        assert_eq!(boot_order(&[port(0, 2, 0, 1)]), None);
        assert_eq!(boot_order(&[]), None);
    }

    #[test]
    fn buses_that_lead_nowhere_or_round_are_left_out() {
        assert_eq!(boot_order(&[net(5, 0, 0, 1)]), None);
        assert_eq!(boot_order(&[port(1, 0, 0, 1), net(1, 0, 0, 1)]), None);
    }
}
