//! What happens to guests when the host goes down, and in which order.

use super::guests::{defined, ok};
use super::rig::{Rig, wait_for};

/// Another guest like `echo`, and one that does not hear its power button.
fn add(rig: &Rig, name: &str, deaf: bool) {
    let mut xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    xml = xml.replace("<name>echo</name>", &format!("<name>{name}</name>"));
    let (before, rest) = xml.split_once("<uuid>").unwrap();
    let (_, after) = rest.split_once("</uuid>").unwrap();
    xml = format!("{before}{after}");
    if deaf {
        rig.write(
            "deaf",
            baremetal::pvh(|asm| {
                let here = asm.here();
                asm.jump(here);
            }),
        );
        let (kernel, other) = (rig.path("kernel"), rig.path("deaf"));
        xml = xml.replace(kernel.to_str().unwrap(), other.to_str().unwrap());
    }
    rig.write("other.xml", xml);
    ok(rig, &["define", "other.xml"]);
}

#[test]
fn guests_go_down_the_last_first_and_the_deaf_one_loses_its_power() {
    let Some(rig) = defined() else { return };
    add(&rig, "database", false);
    add(&rig, "deaf", true);
    add(&rig, "idle", false);
    ok(&rig, &["autostart", "database", "--order", "0"]);
    ok(&rig, &["autostart", "echo", "--order", "10", "--delay", "5"]);
    ok(&rig, &["autostart", "deaf", "--order", "20", "--shutdown-timeout", "2", "--disable"]);
    let info = ok(&rig, &["dominfo", "echo"]);
    assert!(
        info.contains("Autostart order: 10") && info.contains("Autostart delay: 5 s"),
        "{info}"
    );
    let info = ok(&rig, &["dominfo", "deaf"]);
    assert!(info.contains("Shutdown timeout: 2 s"), "{info}");
    for name in ["echo", "database", "deaf"] {
        ok(&rig, &["start", name]);
    }
    // One that is not running is not asked either, and the mark stays as it was said last.
    let said = ok(&rig, &["shutdown-guests"]);
    let names: Vec<_> = said.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(names, ["deaf", "deaf", "echo", "echo", "database", "database"], "{said}");
    assert!(
        said.contains("deaf: asked to shut down, within 2 s\ndeaf: its power is cut"),
        "{said}"
    );
    assert!(said.contains("\ndatabase: off after "), "{said}");
    assert_eq!(ok(&rig, &["list", "--name"]).trim(), "");
    assert_eq!(ok(&rig, &["shutdown-guests"]).trim(), "");
    assert_eq!(ok(&rig, &["domstate", "deaf", "--reason"]).trim(), "shut off (destroyed)");
    assert_eq!(ok(&rig, &["domstate", "echo", "--reason"]).trim(), "shut off (shutdown)");
}

/// Its memory holds what it has heard; the disk for saves of one is full.
#[test]
fn guests_are_saved_with_the_host_and_go_on_when_it_is_back() {
    let Some(mut rig) = defined() else { return };
    for name in ["marked", "asked"] {
        add(&rig, name, false);
    }
    ok(&rig, &["autostart", "marked", "--at-shutdown", "save", "--disable"]);
    ok(&rig, &["autostart", "asked", "--at-shutdown", "shutdown", "--disable"]);
    let info = ok(&rig, &["dominfo", "marked"]);
    assert!(info.contains("At shutdown:    save\n"), "{info}");
    for name in ["echo", "marked", "asked"] {
        ok(&rig, &["start", name]);
    }
    let said = ok(&rig, &["shutdown-guests", "--save"]);
    for line in ["echo: saved after", "marked: saved after", "asked: off after"] {
        assert!(said.contains(line), "no {line}: {said}");
    }
    assert_eq!(ok(&rig, &["list", "--name"]).trim(), "");
    for (name, saved) in [("echo", true), ("marked", true), ("asked", false)] {
        let info = ok(&rig, &["dominfo", name]);
        assert_eq!(info.contains("Managed save:   yes\n"), saved, "{name}: {info}");
    }
    // A daemon that comes again is no host that boots.
    rig.end_daemon("KILL");
    rig.start_daemon();
    assert_eq!(ok(&rig, &["list", "--name"]).trim(), "");
    // What a save that was asked for by hand has kept waits for whoever did.
    ok(&rig, &["start", "asked"]);
    ok(&rig, &["managedsave", "asked"]);
    rig.end_daemon("KILL");
    std::fs::remove_file(rig.path("run/autostarted")).unwrap();
    rig.start_daemon();
    wait_for("the guests", || {
        let list = ok(&rig, &["list", "--name"]);
        list.contains("echo") && list.contains("marked")
    });
    assert!(!ok(&rig, &["list", "--name"]).contains("asked"));
    wait_for("a guest to go on", || {
        ok(&rig, &["domstate", "echo", "--reason"]).trim() == "running (restored)"
    });
}

#[test]
fn a_guest_that_cannot_be_saved_is_asked_to_shut_down() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    // Where saves are kept is no directory.
    std::fs::create_dir_all(rig.path("state")).unwrap();
    let _ = std::fs::remove_dir_all(rig.path("state/save"));
    rig.write("state/save", "");
    let said = ok(&rig, &["shutdown-guests", "--save"]);
    assert!(said.contains("echo: cannot be saved: "), "{said}");
    assert!(said.contains("\necho: asked to shut down, within 90 s\necho: off after "), "{said}");
}
