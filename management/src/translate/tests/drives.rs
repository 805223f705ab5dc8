use vmm_protocol::config::{Drive, DriveKind, PciKind};
use xml::device::address::DeviceAddress;

use super::{Ids, addresses, configured, define, defined, domain, host, refused};

fn drives(devices: &str) -> Vec<Drive> {
    let config = configured(&defined(&domain(devices)));
    config.pci.iter().flat_map(|device| device.kind.drives()).cloned().collect()
}

fn disk(bus: &str, dev: &str, rest: &str) -> String {
    format!("<disk><source file='/a'/><target dev='{dev}' bus='{bus}'/>{rest}</disk>")
}

#[test]
fn a_scsi_disk_gets_a_host_a_place_and_a_thread() {
    let devices =
        disk("scsi", "sda", "<serial>s 1</serial><wwn>5000c50015ea71aa</wwn><vendor>V</vendor>")
            + "<disk device='cdrom'><target dev='sdh' bus='scsi'/></disk>"
            + &disk("scsi", "sdp", "<boot order='1'/>");
    let def = defined(&domain(&devices));
    assert_eq!(addresses(&def), ["scsi0 0000:00:02.0", "scsi1 0000:00:03.0"]);
    let Some(DeviceAddress::Drive(second)) = &def.devices.disks[1].address else { panic!() };
    assert_eq!((second.controller, second.unit), (Some(0), Some(8)), "unit 7 is left out");
    let config = configured(&def);
    let PciKind::Scsi(host) = &config.pci[0].kind else { panic!("{:?}", config.pci[0]) };
    assert_eq!((config.pci[0].id.as_str(), host.queues, host.queue_size), ("scsi0", 1, 256));
    assert_eq!(config.io_threads[host.io_thread].name, "scsi:0");
    let [first, second] = &host.drives[..] else { panic!() };
    assert_eq!(
        (first.id.as_str(), first.place.unit, first.kind),
        ("scsi0-0-0-0", 0, DriveKind::Disk)
    );
    let identity = &first.identity;
    assert_eq!((identity.serial.as_str(), identity.vendor.as_str()), ("s 1", "V"));
    assert_eq!(identity.wwn, Some(0x5000_c500_15ea_71aa));
    assert_eq!((second.kind, second.medium.is_none()), (DriveKind::Cdrom, true));
    let PciKind::Scsi(other) = &config.pci[1].kind else { panic!() };
    assert_eq!((other.drives[0].boot_index, other.drives[0].place.unit), (Some(1), 0));
}

#[test]
fn a_cdrom_is_read_only_and_a_host_takes_what_its_controller_says() {
    let devices = "<controller type='scsi' index='0'><driver queues='3' iothread='1'/></controller>\
                   <disk device='cdrom'><source file='/i'/><target dev='sda' bus='scsi'/></disk>";
    let text = domain(devices).replace("<devices>", "<iothreads>1</iothreads><devices>");
    let def = defined(&text);
    let model =
        def.devices.controllers[0].model.map(xml::device::controller::ControllerModel::name);
    assert_eq!(model, Some("virtio-scsi"), "the model is chosen at define");
    let config = configured(&def);
    let PciKind::Scsi(host) = &config.pci[0].kind else { panic!() };
    assert_eq!((host.queues, config.io_threads[host.io_thread].name.as_str()), (3, "iothread1"));
    assert!(host.drives[0].medium.as_ref().unwrap().read_only);
}

#[test]
fn sata_drives_are_on_the_adapter_of_the_board() {
    let devices = "<controller type='sata' index='0'/>".to_owned()
        + &disk("sata", "sda", "")
        + "<disk device='cdrom'><target dev='sdf' bus='sata'/></disk>"
        + &disk("sata", "sdg", "");
    let def = defined(&domain(&devices));
    assert_eq!(addresses(&def), ["sata0 0000:00:1f.2", "sata1 0000:00:02.0"]);
    let config = configured(&def);
    let PciKind::Ahci(adapter) = &config.pci[0].kind else { panic!("{:?}", config.pci[0]) };
    assert_eq!((config.pci[0].id.as_str(), config.pci[0].address.function), ("ide", 2));
    let units: Vec<_> = adapter.drives.iter().map(|d| (d.id.as_str(), d.place.unit)).collect();
    assert_eq!(units, [("sata0-0-0", 0), ("sata0-0-5", 5)]);
    let elsewhere =
        devices.replace("index='0'/>", "index='0'><address type='pci' slot='5'/></controller>");
    let error = refused(&domain(&elsewhere));
    assert!(error.message.contains("is at 0000:00:1f.2"), "{error}");
}

#[test]
fn an_adapter_without_drives_is_left_out_with_a_warning() {
    let text = domain(
        "<controller type='sata' index='0'><address type='pci' slot='0x1f' function='2'/></controller>",
    );
    let checked = define(&text, &mut Ids(0), &host()).unwrap();
    assert!(checked.warnings[0].message.contains("sata controller is left out"));
    assert!(!configured(&checked.def).pci.iter().any(|d| matches!(d.kind, PciKind::Ahci(_))));
}

#[test]
fn nvme_disks_are_namespaces_of_a_controller() {
    let devices = "<controller type='nvme' index='1'><serial>S1</serial></controller>".to_owned()
        + &disk("nvme", "nvme0n1", "<serial>mine</serial>")
        + &disk("nvme", "nvme1n2", "<boot order='1'/>");
    let config = configured(&defined(&domain(&devices)));
    let controllers: Vec<_> = (config.pci.iter())
        .filter_map(|device| match &device.kind {
            PciKind::Nvme(nvme) => Some((device.id.as_str(), nvme)),
            _ => None,
        })
        .collect();
    let [(first, one), (second, other)] = &controllers[..] else { panic!("{controllers:?}") };
    assert_eq!((*first, one.serial.as_str()), ("nvme1", "S1"));
    assert_eq!((*second, other.serial.as_str()), ("nvme0", "mine"));
    assert_eq!((one.drives[0].id.as_str(), one.drives[0].place.unit), ("nvme1-1", 1));
    assert_eq!(one.drives[0].boot_index, Some(1));
}

#[test]
fn ide_drives_are_on_the_channels_of_the_pc_board() {
    let devices = disk("ide", "hda", "")
        + "<disk device='cdrom'><target dev='hdc' bus='ide'/></disk>"
        + &disk("virtio", "vda", "");
    let text = domain(&devices).replace("machine='q35'", "machine='pc'");
    let def = defined(&text);
    assert_eq!(addresses(&def), ["ide0 0000:00:01.1", "vda 0000:00:03.0"]);
    let config = configured(&def);
    let Some(PciKind::Ide(ide)) =
        config.pci.iter().map(|d| &d.kind).find(|k| !k.drives().is_empty())
    else {
        panic!("{:?}", config.pci)
    };
    let at: Vec<_> =
        ide.drives.iter().map(|d| (d.id.as_str(), d.place.bus, d.place.unit)).collect();
    assert_eq!(at, [("ide0-0-0", 0, 0), ("ide0-1-0", 1, 0)]);
    let error = refused(&domain(&devices));
    assert!(error.message.contains("the disk bus ide; use"), "{error}");
    let more = disk("ide", "hde", "");
    let error = refused(&domain(&more).replace("machine='q35'", "machine='pc'"));
    assert!(error.message.contains("one IDE controller"), "{error}");
}

#[test]
fn a_written_drive_address_is_kept() {
    let place = "<address type='drive' controller='2' bus='0' target='3' unit='300'/>";
    let found = drives(&disk("scsi", "sda", place));
    assert_eq!((found[0].place.target, found[0].place.unit), (3, 300));
    assert_eq!(found[0].id, "scsi2-0-3-300");
}

#[test]
fn drives_that_cannot_be_had_are_refused_where_they_are_written() {
    let at = |place: &str| disk("scsi", "sda", &format!("<address type='drive' {place}/>"));
    for (devices, words, path) in [
        (at("unit='16384'"), "units to 16383", "disk[1]/address"),
        (at("bus='1'"), "buses to 0", "disk[1]/address"),
        (at("controller='99'"), "no scsi controller 99", "disk[1]/address"),
        (at("unit='1'") + &disk("scsi", "sdb", ""), "where another one is", "disk[2]"),
        (disk("scsi", "sda", "<address type='pci'/>"), "type='drive'", "disk[1]/address"),
        (disk("nvme", "nvme0", ""), "no place", "disk[1]/target/@dev"),
        (
            "<disk device='cdrom'><target dev='nvme0n1' bus='nvme'/></disk>".to_owned(),
            "a cdrom drive on nvme",
            "@device",
        ),
        (disk("scsi", "vda1x", ""), "no place", "disk[1]/target/@dev"),
        (disk("scsi", "sda", "<wwn>5000</wwn>"), "16 hexadecimal digits", "wwn"),
        (disk("scsi", "sda", "<vendor>123456789</vendor>"), "at most 8", "vendor"),
        (disk("virtio", "vda", "<product>x</product>"), "it is SCSI's", "product"),
        (disk("scsi", "sda", "<driver queues='2'/>"), "not on virtio", "driver/@queues"),
        (
            disk("sata", "sda", "<blockio logical_block_size='4096'/>"),
            "which has 512",
            "blockio/@logical_block_size",
        ),
        (disk("usb", "sda", ""), "the disk bus usb; use", "target/@bus"),
        (
            "<controller type='scsi' model='lsilogic'/>".to_owned(),
            "the SCSI controller lsilogic; use virtio-scsi",
            "controller[1]/@model",
        ),
    ] {
        let error = refused(&domain(&devices));
        let problem = &error.problems[0];
        assert!(problem.message.contains(words), "{devices}: {problem:?}");
        assert!(problem.path.ends_with(path), "{devices}: {problem:?}");
    }
}
