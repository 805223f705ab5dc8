//! Where devices are on the PCI bus.

use super::*;

#[test]
fn devices_fill_bus_0_where_the_definition_has_no_ports() {
    let def = defined(&domain(&format!("{NIC}{DISK}")));
    assert_eq!(addresses(&def), ["nic 0000:00:02.0", "vda 0000:00:03.0"]);
    let pc = domain(&format!("{NIC}{DISK}")).replace("q35", "pc-i440fx-7.2");
    assert_eq!(addresses(&defined(&pc)), ["nic 0000:00:03.0", "vda 0000:00:04.0"]);
}

#[test]
fn devices_fill_root_ports_first_and_ports_share_a_slot() {
    let ports: String = (1..=3)
        .map(|index| format!("<controller type='pci' index='{index}' model='pcie-root-port'/>"))
        .collect();
    let second = DISK.replace("vda", "vdb").replace("/a", "/b");
    let third = DISK.replace("vda", "vdc").replace("/a", "/c");
    let def =
        defined(&domain(&format!("{ports}{NIC}{DISK}{second}{third}<memballoon model='none'/>")));
    let expected = [
        "pci1 0000:00:02.0",
        "pci2 0000:00:02.1",
        "pci3 0000:00:02.2",
        "nic 0000:01:00.0",
        "vda 0000:02:00.0",
        "vdb 0000:03:00.0",
        "vdc 0000:00:03.0",
    ];
    assert_eq!(addresses(&def), expected);
    let config = configured(&def);
    let shared: Vec<_> = config.pci.iter().map(|device| device.multifunction).collect();
    assert_eq!(&shared[..4], [true, false, false, false]);
    let PciKind::RootPort(port) = &config.pci[1].kind else { panic!() };
    assert_eq!((port.controller, port.chassis, port.port), (2, 2, 0x11));
}

#[test]
fn written_addresses_stay_and_others_go_around_them() {
    let at = |slot: u32| format!("<address type='pci' bus='0' slot='{slot}' function='0'/></disk>");
    let fixed = DISK.replace("</disk>", &at(2));
    let def = defined(&domain(&format!("{NIC}{fixed}")));
    assert_eq!(addresses(&def), ["nic 0000:00:03.0", "vda 0000:00:02.0"]);
    for (slot, why) in [(0, "belongs to the board"), (31, "belongs to the board")] {
        let error = refused(&domain(&DISK.replace("</disk>", &at(slot))));
        assert!(error.message.contains(why), "{error}");
        assert_eq!(error.problems[0].path, "/domain/devices/disk[1]/address");
    }
    let nowhere = "<address type='pci' bus='7' slot='1' function='0'/></disk>";
    let error = refused(&domain(&DISK.replace("</disk>", nowhere)));
    assert!(error.message.contains("no controller has that index"), "{error}");
}

#[test]
fn more_devices_than_slots_are_refused() {
    let disks: String = (b'a'..=b'z')
        .flat_map(|a| [format!("vd{}", a as char), format!("vda{}", a as char)])
        .map(|dev| DISK.replace("vda", &dev))
        .collect();
    let error = refused(&domain(&disks));
    assert!(error.message.contains("more devices than PCI slots"), "{error}");
}
