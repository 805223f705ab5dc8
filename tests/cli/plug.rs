//! Devices that come and go, by virsh's verbs, in a guest of the local KVM that lets go of nothing
//! until it starts over. Words are those of virsh 9.0.

use super::guests;
use super::rig::{Rig, wait_for};

/// The guest with two slots, running.
fn running() -> Option<Rig> {
    let rig = guests::defined()?;
    let ports = "<devices><controller type='pci' index='1' model='pcie-root-port'/>\
                 <controller type='pci' index='2' model='pcie-root-port'/>\
                 <memballoon model='none'/>";
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("ports.xml", xml.replace("<devices>", ports));
    guests::ok(&rig, &["define", "ports.xml"]);
    guests::ok(&rig, &["start", "echo"]);
    for name in ["b.img", "c.img"] {
        std::fs::File::create(rig.path(name)).unwrap().set_len(1 << 20).unwrap();
    }
    Some(rig)
}

fn disks(rig: &Rig, options: &[&str]) -> Vec<String> {
    let list = guests::ok(rig, &[&["domblklist", "echo"], options].concat());
    list.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

#[test]
fn a_disk_is_attached_used_and_detached() {
    let Some(rig) = running() else { return };
    let done = guests::ok(&rig, &["attach-disk", "echo", "b.img", "vdb"]);
    assert_eq!(done, "Disk attached successfully\n\n");
    assert_eq!((disks(&rig, &[]), disks(&rig, &["--inactive"])), (vec!["vdb".to_owned()], vec![]));
    let stats = guests::ok(&rig, &["domstats", "echo", "--block"]);
    assert!(stats.contains("block.0.name=vdb\n"), "{stats}");
    // The image is the guest's now.
    rig.write("other.xml", {
        let path = rig.path("b.img").display().to_string();
        let disk =
            format!("<devices><disk type='file'><source file='{path}'/><target dev='vda'/></disk>");
        let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
        let uuid = uuid::Uuid::new_v4().to_string();
        let from = xml.find("<uuid>").unwrap() + 6;
        let xml = xml.replace(&xml[from..from + 36], &uuid);
        xml.replace("<name>echo", "<name>other").replace("<devices>", &disk)
    });
    guests::ok(&rig, &["define", "other.xml"]);
    let refused = rig.manor(["start", "other"]);
    assert!(refused.err.contains("is in use by domain \"echo\""), "{}", refused.err);

    let asked = guests::ok(&rig, &["detach-disk", "echo", "vdb"]);
    assert!(asked.starts_with("Disk detach request sent successfully"), "{asked}");
    assert_eq!(disks(&rig, &[]), ["vdb"]);
    guests::ok(&rig, &["reset", "echo"]);
    wait_for("the disk to go", || disks(&rig, &[]).is_empty());
    guests::ok(&rig, &["start", "other"]);
    guests::ok(&rig, &["destroy", "other"]);
    guests::ok(&rig, &["destroy", "echo"]);
}

#[test]
fn devices_go_where_the_options_say() {
    let Some(rig) = running() else { return };
    guests::ok(&rig, &["attach-disk", "echo", "b.img", "vdb", "--persistent"]);
    guests::ok(&rig, &["attach-disk", "echo", "c.img", "vdc", "--config", "--cache", "none"]);
    assert_eq!((disks(&rig, &[]), disks(&rig, &["--inactive"])).0, ["vdb"]);
    assert_eq!(disks(&rig, &["--inactive"]), ["vdb", "vdc"]);
    guests::ok(&rig, &["detach-disk", "echo", "vdb", "--config"]);
    assert_eq!((disks(&rig, &[]), disks(&rig, &["--inactive"])).1, ["vdc"]);
    let printed = guests::ok(
        &rig,
        &["attach-disk", "echo", "c.img", "vdd", "--subdriver", "qcow2", "--print-xml"],
    );
    assert!(printed.contains("<driver name='qemu' type='qcow2'/>"), "{printed}");
    let mac = "52:54:00:12:34:56";
    let printed = guests::ok(
        &rig,
        &["attach-interface", "echo", "network", "lab", "--mac", mac, "--print-xml"],
    );
    let expected = "<interface type='network'>\n  <mac address='52:54:00:12:34:56'/>\n  \
                    <source network='lab'/>\n  <model type='virtio'/>\n</interface>\n\n";
    assert_eq!(printed, expected);
    // As a file, for the next start, and out again by what it prints.
    rig.write("nic.xml", printed);
    guests::ok(&rig, &["attach-device", "echo", "nic.xml", "--config"]);
    assert!(guests::ok(&rig, &["domiflist", "echo", "--inactive"]).contains(mac));
    let gone = guests::ok(&rig, &["detach-interface", "echo", "network", "--config"]);
    assert_eq!(gone, "Interface detached successfully\n\n");
    assert!(!guests::ok(&rig, &["domiflist", "echo", "--inactive"]).contains(mac));
    guests::ok(&rig, &["destroy", "echo"]);
}

#[test]
fn mistakes_are_named_where_they_stand() {
    let Some(rig) = running() else { return };
    rig.write(
        "bad.xml",
        "<disk type='file'>\n  <source file='/a'/>\n  <target dev='sdb' bus='sata'/>\n</disk>",
    );
    let refused = rig.manor(["attach-device", "echo", "bad.xml"]);
    assert!(refused.err.contains("--config changes the next start"), "{}", refused.err);
    rig.write(
        "bad.xml",
        "<disk type='file'>\n  <sorce file='/a'/>\n  <target dev='vdb'/>\n</disk>",
    );
    let refused = rig.manor(["attach-device", "echo", "bad.xml"]);
    assert!(refused.err.contains("bad.xml:2"), "{}", refused.err);
    let refused = rig.manor(["attach-disk", "echo", "none.img", "vdb"]);
    assert!(refused.err.starts_with("error: Failed to attach disk\n"), "{}", refused.err);
    assert!(refused.err.contains("none.img"), "{}", refused.err);
    let refused = rig.manor(["detach-disk", "echo", "vdq"]);
    assert!(
        refused.err.contains("No disk found whose source path or target is vdq"),
        "{}",
        refused.err
    );
    let refused = rig.manor(["detach-interface", "echo", "bridge"]);
    assert!(refused.err.contains("No interface with type bridge was found"), "{}", refused.err);
    guests::ok(&rig, &["destroy", "echo"]);
}
