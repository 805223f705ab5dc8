//! The daemon's privileged acts are a process of their own: what becomes of each when the other ends.

use super::guests::{defined, ok};
use super::rig::{Rig, kill, wait_for};

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

fn broker(rig: &Rig) -> i32 {
    let found = children(rig.daemon_pid());
    let &[broker] = found.as_slice() else { panic!("the daemon's children: {found:?}") };
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
