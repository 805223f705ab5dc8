//! Disks on NBD servers by the command line: guests keep them over the deaths of servers and daemons.

use std::path::Path;

use manor_tests::nbd::{NbdServer, Place};

use super::guests::{defined, ok};
use super::rig::{Rig, wait_for};

fn reconnected(rig: &Rig) -> usize {
    let logs = std::fs::read_dir(rig.path("log")).unwrap();
    let texts = logs.map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap_or_default());
    texts.map(|text| text.matches("connected to the NBD server again").count()).sum()
}

fn write_domain(rig: &Rig, socket: &Path) {
    let disk = format!(
        "<disk type='network'><source protocol='nbd' name='disk'>\
         <host transport='unix' socket='{}'/></source><target dev='vda'/></disk></devices>",
        socket.display()
    );
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("echo.xml", xml.replace("</devices>", &disk));
}

#[test]
fn a_guest_has_its_server_again_whoever_died_meanwhile() {
    let Some(mut rig) = defined() else { return };
    rig.write("image", vec![0; 1 << 20]);
    let (image, socket) = (rig.path("image"), rig.path("nbd.sock"));
    write_domain(&rig, &socket);
    ok(&rig, &["define", "echo.xml"]);
    let failed = rig.manor(["start", "echo"]);
    assert!(failed.err.contains("disk vda: its NBD server cannot be reached"), "{}", failed.err);

    let place = Place::Unix(socket);
    let server = NbdServer::start(&image, &place, None).unwrap();
    ok(&rig, &["start", "echo"]);
    assert!(ok(&rig, &["domblklist", "echo"]).contains("disk"));
    server.kill();
    let server = NbdServer::start(&image, &place, None).unwrap();
    wait_for("the server", || reconnected(&rig) == 1);
    let told = super::faults::event(&rig, "disk-connection");
    assert_eq!((told.device.as_deref(), told.connected), (Some("virtio-disk0"), Some(false)));
    assert!(told.reason.is_some());
    wait_for("the word of it", || {
        ok(&rig, &["domstats", "--block", "echo"]).contains("block.0.connected=yes\n")
    });

    // The next daemon hears that a connection is wanted, too.
    rig.end_daemon("KILL");
    server.kill();
    let server = NbdServer::start(&image, &place, None).unwrap();
    rig.start_daemon();
    wait_for("the server", || reconnected(&rig) == 2);
    ok(&rig, &["destroy", "echo"]);

    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    rig.write("echo.xml", xml.replace("name='disk'", "name='other'"));
    ok(&rig, &["define", "echo.xml"]);
    let failed = rig.manor(["start", "echo"]);
    assert!(failed.err.contains("has no export \"other\""), "{}", failed.err);
    server.kill();
}

#[test]
fn a_disk_on_a_server_comes_and_goes_and_has_its_server_again() {
    let Some(mut rig) = defined() else { return };
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    let host = "<controller type='scsi' index='0' model='virtio-scsi'/></devices>";
    rig.write("echo.xml", xml.replace("</devices>", host));
    ok(&rig, &["define", "echo.xml"]);
    ok(&rig, &["start", "echo"]);
    rig.write("image", vec![0; 1 << 20]);
    let (image, socket) = (rig.path("image"), rig.path("nbd.sock"));
    let disk = format!(
        "<disk type='network'><source protocol='nbd' name='disk'>\
         <host transport='unix' socket='{}'/></source><target dev='sda' bus='scsi'/></disk>",
        socket.display()
    );
    rig.write("disk.xml", &disk);
    let failed = rig.manor(["attach-device", "echo", "disk.xml"]);
    assert!(failed.err.contains("disk sda: its NBD server cannot be reached"), "{}", failed.err);

    let place = Place::Unix(socket);
    let mut server = NbdServer::start(&image, &place, None).unwrap();
    rig.write("other.xml", disk.replace("name='disk'", "name='other'"));
    let failed = rig.manor(["attach-device", "echo", "other.xml"]);
    assert!(failed.err.contains("has no export \"other\""), "{}", failed.err);
    for round in 0..2 {
        ok(&rig, &["attach-device", "echo", "disk.xml"]);
        let connected = |rig: &Rig| {
            ok(rig, &["domstats", "--block", "echo"]).contains("block.0.connected=yes\n")
        };
        assert!(connected(&rig));
        // Also by the daemon that comes after the one that attached it.
        if round == 1 {
            rig.end_daemon("KILL");
        }
        server.kill();
        server = NbdServer::start(&image, &place, None).unwrap();
        if round == 1 {
            rig.start_daemon();
        }
        wait_for("the server", || reconnected(&rig) == round + 1);
        wait_for("the word of it", || connected(&rig));
        ok(&rig, &["detach-disk", "echo", "sda"]);
        assert!(!ok(&rig, &["domblklist", "echo"]).contains("sda"));
    }
    server.kill();
}
