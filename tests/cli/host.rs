//! What happens to guests when the host goes down, and in which order.

use super::guests::{defined, ok};
use super::rig::Rig;

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
