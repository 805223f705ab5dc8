//! What a guest says on its consoles and channels: kept in logs, shown to who comes late, and what is
//! said of an agent that is not there.

use super::guests::{converse, defined, ok, state};
use super::rig::{Rig, wait_for};

/// The guest defined with something in the place of what its definition has there.
fn define_with(rig: &Rig, old: &str, new: &str) {
    let xml = std::fs::read_to_string(rig.path("echo.xml")).unwrap();
    assert!(xml.contains(old), "{xml}");
    rig.write("other.xml", xml.replace(old, new));
    ok(rig, &["define", "other.xml"]);
}

#[test]
fn a_consoles_log_holds_what_the_guest_said_and_begins_anew_unless_it_is_appended_to() {
    let Some(rig) = defined() else { return };
    let log = rig.path("console.log");
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    for (append, times) in [("off", 1), ("on", 2), ("off", 1)] {
        let serial = format!(
            "<serial type='pty'><log file='{}' append='{append}'/></serial>",
            log.display()
        );
        define_with(&rig, "<serial type='pty'/>", &serial);
        ok(&rig, &["start", "echo"]);
        // Who comes late sees the boot all the same.
        assert!(converse(&rig, "hello", "hello").contains("ready"));
        wait_for("the log", || read().matches("ready").count() == times);
        wait_for("what was typed", || read().contains("hello"));
        ok(&rig, &["destroy", "echo"]);
    }
    for older in 0..3 {
        let path = rig.path(&format!("console.log.{older}"));
        assert!(path.exists(), "where it goes when it is full: {}", path.display());
    }
}

#[test]
fn an_agent_that_is_not_there_is_told_of_with_what_to_do() {
    let Some(rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    let none = rig.manor(["domhostname", "echo"]);
    let advice =
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";
    assert!(none.err.contains("has no channel to a guest agent"), "{}", none.err);
    assert!(none.err.contains(advice), "{}", none.err);
    assert_eq!(none.status, 4);
    ok(&rig, &["destroy", "echo"]);
    define_with(&rig, "</devices>", &format!("{advice}</devices>"));
    ok(&rig, &["start", "echo"]);
    let xml = ok(&rig, &["dumpxml", "echo"]);
    assert!(xml.contains("name='org.qemu.guest_agent.0' state='disconnected'"), "{xml}");
    for args in [
        &["guestinfo", "echo"][..],
        &["domifaddr", "echo", "--source", "agent"],
        &["domfsfreeze", "echo"],
        &["domtime", "echo", "--now"],
        &["guest-exec", "echo", "--", "uname", "-a"],
        &["qemu-agent-command", "echo", "{\"execute\":\"guest-ping\"}"],
        &["set-user-password", "echo", "root", "secret"],
        &["shutdown", "echo", "--mode", "agent"],
        &["reboot", "echo", "--mode", "agent"],
    ] {
        let refused = rig.manor(args);
        assert!(refused.err.contains("is not connected"), "{args:?}: {}", refused.err);
        assert!(refused.err.contains("qemu-guest-agent"), "{args:?}: {}", refused.err);
        assert_eq!((refused.status, refused.out.trim()), (4, ""), "{args:?}");
    }
    let status = rig.manor(["qemu-agent-command", "echo", "guest-ping"]);
    assert_eq!(status.status, 2, "{}", status.err);
    // Without an agent the power button is pressed.
    ok(&rig, &["shutdown", "echo"]);
    wait_for("the guest to go", || state(&rig) == "shut off (shutdown)");
}
