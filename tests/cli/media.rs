//! Media and sizes of disks, changed by the command line while a guest of the local KVM runs.

use super::guests::{defined, ok};

/// A drive, and a disk of 1 MiB.
const DISKS: &str = "<disk type='file' device='cdrom'><source file='FIRST'/><target dev='sda' bus='sata'/></disk>\
     <disk type='file'><source file='DISK'/><target dev='vda' bus='virtio'/></disk></devices>";

#[test]
fn media_are_changed_and_disks_resized_while_the_guest_runs() {
    let Some(mut rig) = defined() else { return };
    for (name, len) in [("first.iso", 4096), ("second.iso", 8192), ("disk.img", 1 << 20)] {
        rig.write(name, vec![7_u8; len]);
    }
    let path = |rig: &super::rig::Rig, name: &str| rig.path(name).display().to_string();
    let disks = DISKS.replace("FIRST", &path(&rig, "first.iso"));
    let disks = disks.replace("DISK", &path(&rig, "disk.img"));
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("echo.xml", xml.replace("</devices>", &disks));
    ok(&rig, &["define", "echo.xml"]);
    ok(&rig, &["start", "echo"]);

    let second = path(&rig, "second.iso");
    assert_eq!(
        ok(&rig, &["change-media", "echo", "sda", &second, "--live"]),
        "Successfully updated media.\n\n"
    );
    assert!(ok(&rig, &["domblklist", "echo"]).contains(&second));
    assert!(!ok(&rig, &["domblklist", "echo", "--inactive"]).contains(&second));
    let twice = rig.virsh(["change-media", "echo", "sda", &second, "--insert"]);
    assert_eq!(twice.status, 1);
    assert!(
        twice.err.contains("Failed to complete action insert on media")
            && twice.err.contains("already has media"),
        "{}",
        twice.err
    );
    // What was changed lasts over the daemon, and so does an open tray.
    rig.end_daemon("KILL");
    rig.start_daemon();
    assert_eq!(
        ok(&rig, &["change-media", "echo", &second, "--eject"]),
        "Successfully ejected media.\n\n"
    );
    let live = || ok(&rig, &["dumpxml", "echo"]);
    super::rig::wait_for("the open tray", || live().contains("tray='open'"));
    assert!(!live().contains("second.iso"));
    let none = rig.virsh(["change-media", "echo", "sda", "--eject"]);
    assert!(none.err.contains("doesn't have media"), "{}", none.err);
    let inserted = ok(&rig, &["change-media", "echo", "sda", &second, "--insert", "--live"]);
    assert_eq!(inserted, "Successfully inserted media.\n\n");
    super::rig::wait_for("the tray", || !live().contains("tray='open'"));

    let disk = path(&rig, "disk.img");
    assert_eq!(
        ok(&rig, &["blockresize", "echo", &disk, "2M"]),
        format!("Block device '{disk}' is resized\n\n")
    );
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 2 << 20);
    let smaller = rig.virsh(["blockresize", "echo", "vda", "1M"]);
    assert!(smaller.err.contains("cannot become smaller"), "{}", smaller.err);
    ok(&rig, &["destroy", "echo"]);
    let off = rig.virsh(["blockresize", "echo", "vda", "4M"]);
    assert!(off.err.contains("is not running"), "{}", off.err);
}
