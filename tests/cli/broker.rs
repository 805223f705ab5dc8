//! The daemon's privileged acts are a process of their own: what becomes of each when the other ends.

use std::os::unix::fs::PermissionsExt as _;

use super::guests::{defined, ok};
use super::rig::{Rig, kill, wait_for};

pub(super) fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

pub(super) fn broker(rig: &Rig) -> i32 {
    let found = children(rig.daemon_pid());
    assert_eq!(found.len(), 1, "the daemon's children: {found:?}");
    let broker = found[0];
    let name = std::fs::read(format!("/proc/{broker}/cmdline")).unwrap();
    assert!(name.starts_with(b"manor broker\0"), "{}", String::from_utf8_lossy(&name));
    broker
}

fn is_there(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_broker_ends_with_its_daemon_and_guests_with_neither() {
    let Some(mut rig) = defined() else { return };
    let first = broker(&rig);
    ok(&rig, &["start", "echo"]);
    assert_eq!(children(first).len(), 1, "the guest is the broker's child");
    rig.end_daemon("KILL");
    wait_for("the broker to end", || !is_there(first));
    rig.start_daemon();
    assert_ne!(broker(&rig), first);
    assert_eq!(ok(&rig, &["domstate", "echo"]).trim(), "running");
    ok(&rig, &["destroy", "echo"]);
    ok(&rig, &["start", "echo"]);
    assert_eq!(rig.end_daemon("TERM"), Some(0));
    rig.start_daemon();
    assert_eq!(ok(&rig, &["domstate", "echo"]).trim(), "running");
}

#[test]
fn a_guest_of_a_version_without_a_ledger_is_taken_up_by_one_with() {
    let Some(mut rig) = defined() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only the broker of root's daemon keeps a ledger");
        return;
    }
    ok(&rig, &["start", "echo"]);
    let guest = children(broker(&rig))[0];
    rig.end_daemon("KILL");
    std::fs::remove_dir_all(rig.path("run-broker")).unwrap();
    rig.start_daemon();
    let written = std::fs::read_dir(rig.path("run-broker")).unwrap().flatten();
    let mut names = written.map(|entry| entry.file_name().into_string().unwrap());
    assert!(names.any(|name| name.starts_with(&format!("{guest}."))), "it is not written down");
    ok(&rig, &["destroy", "echo"]);
    wait_for("the guest to end", || !is_there(guest));
}

#[test]
fn a_daemon_without_its_broker_ends_and_says_so() {
    let Some(mut rig) = defined() else { return };
    ok(&rig, &["start", "echo"]);
    kill("KILL", &broker(&rig).to_string());
    assert_eq!(rig.wait_for_daemon(), Some(1));
    assert!(rig.daemon_log().contains("the broker has ended (signal: 9"), "{}", rig.daemon_log());
    rig.start_daemon();
    assert_eq!(ok(&rig, &["domstate", "echo"]).trim(), "running");
    ok(&rig, &["destroy", "echo"]);
    let ended = ok(&rig, &["domstate", "echo", "--reason"]);
    assert_eq!(ended.trim(), "shut off (destroyed)");
}

#[test]
fn the_daemon_has_no_privilege_and_what_is_closed_to_it_works() {
    let Some(rig) = defined() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can become somebody else");
        return;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.daemon_pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), ["65534"; 4]);
    assert_eq!(field("Groups:").len(), 1, "its own");
    for set in ["CapInh:", "CapPrm:", "CapEff:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    // Only root comes in.
    let closed = rig.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = |name: &str| closed.join(name).display().to_string();
    ok(&rig, &["start", "echo"]);
    ok(&rig, &["dump", "echo", &path("core"), "--memory-only"]);
    let again = rig.manor(["dump", "echo", &path("core"), "--memory-only"]);
    assert!(again.err.contains("is there already"), "{}", again.err);
    std::fs::write(closed.join("letter"), "dear").unwrap();
    let over = rig.manor(["save", "echo", &path("letter")]);
    assert!(over.err.contains("is no saved guest"), "{}", over.err);
    assert_eq!(std::fs::read_to_string(closed.join("letter")).unwrap(), "dear");
    ok(&rig, &["save", "echo", &path("state")]);
    ok(&rig, &["restore", &path("state")]);
    let facts = ok(&rig, &["security", "echo"]);
    assert!(facts.contains("Namespaces") && !facts.contains("unknown"), "{facts}");
    assert!(closed.join("core").exists());
}

#[test]
fn a_refused_disk_is_named_with_what_allows_it() {
    let Some(rig) = defined() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: only root can become somebody else");
        return;
    }
    let xml = ok(&rig, &["dumpxml", "echo"]);
    let disk = "<disk type='file'><driver name='qemu' type='raw'/><source file='/etc/shadow'/>\
                <target dev='vdz' bus='virtio'/><readonly/></disk></devices>";
    rig.write("shadow.xml", xml.replace("</devices>", disk));
    ok(&rig, &["define", rig.path("shadow.xml").to_str().unwrap()]);
    let start = rig.manor(["start", "echo"]);
    assert_eq!(start.status, 1, "{}", start.out);
    for part in ["/etc/shadow", "/etc is the system's", "[files] allow = [\"/etc/shadow\"]"] {
        assert!(start.err.contains(part), "{}", start.err);
    }
}
