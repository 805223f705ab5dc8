//! Snapshots that are deleted while a guest has their images open, and daemons that die meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::doomed::{Part, apart};
use super::rig::{Daemon, Host};
use super::snapshots::{content, defined, doomed_guest, fill, images};
use crate::domain::State;
use crate::ops::{DeleteReach, DumpXml, ListJobs};

/// A guest in `web.b`, which lies on `web.a`, which lies on `web.qcow2`: full of 3, 2 and 1.
async fn snapshots_of_running(daemon: &Daemon) {
    daemon.start("web").await.unwrap();
    for (name, byte) in [("a", 2), ("b", 3)] {
        daemon.snapshot(&format!("<name>{name}</name>")).await.unwrap();
        fill(&daemon.image().await, byte);
    }
}

async fn live_xml(daemon: &Daemon) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive: false }).await.unwrap()
}

#[tokio::test]
async fn images_become_one_beneath_a_running_guest() {
    let (host, daemon) = defined("").await;
    snapshots_of_running(&daemon).await;
    daemon.delete("a", DeleteReach::One).await.unwrap();
    assert_eq!(daemon.snapshots().await, ["b"]);
    assert_eq!(images(&host), ["web.b", "web.qcow2"]);
    assert_eq!((content(&host.path("web.b")), content(&host.path("web.qcow2"))), (3, 2));
    assert!(live_xml(&daemon).await.contains("web.qcow2'"));
    assert!(!live_xml(&daemon).await.contains("web.a'"));
    // The last: the guest goes on in what it began with.
    daemon.delete("b", DeleteReach::One).await.unwrap();
    assert_eq!((images(&host), content(&host.path("web.qcow2"))), (vec!["web.qcow2".into()], 3));
    assert_eq!(daemon.image().await, host.path("web.qcow2"));
    assert!(!live_xml(&daemon).await.contains("<backingStore type"));
    daemon.snapshot("<name>again</name>").await.unwrap();
    daemon.destroy("web").await.unwrap();
}

#[tokio::test]
async fn a_tree_is_deleted_beneath_a_running_guest() {
    let (host, daemon) = defined("").await;
    snapshots_of_running(&daemon).await;
    daemon.snapshot("<name>c</name>").await.unwrap();
    fill(&daemon.image().await, 4);
    daemon.delete("a", DeleteReach::DescendantsOnly).await.unwrap();
    assert_eq!(daemon.snapshots().await, ["a"]);
    assert_eq!((content(&daemon.image().await), content(&host.path("web.qcow2"))), (4, 1));
    daemon.delete("a", DeleteReach::WithDescendants).await.unwrap();
    assert_eq!((images(&host), content(&host.path("web.qcow2"))), (vec!["web.qcow2".into()], 4));
    daemon.destroy("web").await.unwrap();
}

#[tokio::test]
async fn a_pivot_that_the_vmm_refuses_leaves_the_guest_where_it_is() {
    let (host, daemon) = defined("no-pivot").await;
    daemon.start("web").await.unwrap();
    daemon.snapshot("<name>a</name>").await.unwrap();
    fill(&daemon.image().await, 2);
    let error = daemon.delete("a", DeleteReach::One).await.unwrap_err();
    assert!(error.contains("half deleted") && error.contains("fell behind"), "{error}");
    assert_eq!(daemon.image().await, host.path("web.a"));
    let refused = daemon.snapshot("<name>b</name>").await.unwrap_err();
    assert!(refused.contains("half deleted"), "{refused}");
    // Without its guest it goes to its end.
    daemon.destroy("web").await.unwrap();
    daemon.delete("a", DeleteReach::One).await.unwrap();
    assert_eq!((images(&host), content(&host.path("web.qcow2"))), (vec!["web.qcow2".into()], 2));
}

const ROLE: &str = "MANOR_TEST_DELETING_DAEMON";

/// The daemon to be killed: it deletes what lies beneath a guest that runs.
#[tokio::test]
async fn plays_the_deleting_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (dir, doom) = role.split_once(' ').unwrap();
    let dir = Path::new(dir);
    let mut host = Host::new();
    host.config.state_dir = dir.join("state");
    host.config.run_dir = dir.join("run");
    host.config.log_dir = dir.join("log");
    let daemon = host.daemon().await;
    snapshots_of_running(&daemon).await;
    std::fs::write(dir.join("pid"), daemon.pid("web").await.to_string()).unwrap();
    // From here on the VMM counts what it is told.
    std::fs::write(dir.join("doom"), doom).unwrap();
    daemon.delete("a", DeleteReach::One).await.unwrap();
    daemon.delete("b", DeleteReach::One).await.unwrap();
    std::fs::write(dir.join("survived"), "").unwrap();
}

#[test]
fn the_next_daemon_goes_on_deleting_wherever_one_dies() {
    let test = "tests::deletion::plays_the_deleting_daemon_when_it_is_started_as_one";
    let part = Part { test, role: ROLE };
    for (moment, ends) in [("before", false), ("after", false), ("before", true), ("after", true)] {
        let mut tried = 0;
        for count in 0.. {
            assert!(count < 40, "a deletion says ever more to the VMM");
            let host = apart(doomed_guest());
            if part.survives(&host, moment, count) {
                break;
            }
            tried += 1;
            let when = format!("killed {moment} word {count}, the guest ends: {ends}");
            apart(goes_on(&host, ends, &when));
        }
        assert!(tried >= 8, "{moment}: only {tried} places to die were tried");
    }
}

async fn goes_on(host: &Host, ends: bool, when: &str) {
    let pid = std::fs::read_to_string(host.path("pid"));
    let pid = pid.unwrap_or_else(|_| panic!("{when}: it did not come so far"));
    if ends {
        // Nobody is left who knows what the VMM did.
        let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        assert!(killed.success(), "{when}");
        while Path::new(&format!("/proc/{pid}")).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let daemon = host.daemon().await;
    if ends {
        daemon.wait_for("web", "off", |state| matches!(state, State::ShutOff(_))).await;
    } else {
        daemon.wait_for("web", "running", |state| matches!(state, State::Running(_))).await;
        assert_eq!(daemon.pid("web").await.to_string(), pid, "{when}: another guest runs");
    }
    // What was intended is done without anybody asking.
    let (begun, uuid) = (Instant::now(), daemon.find("web").await.unwrap().uuid);
    loop {
        let jobs = daemon.call(ListJobs).await.unwrap();
        let running = jobs.iter().any(|job| job.phase == crate::jobs::Phase::Running);
        let work = daemon.manager.node().snapshots.of(uuid).work.is_some();
        if !running && !work {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{when}: {jobs:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let names = daemon.snapshots().await;
    assert_eq!(content(&daemon.image().await), 3, "{when}: {names:?}");
    if names.len() == 2 {
        assert_eq!(content(&host.path("web.qcow2")), 1, "{when}: what a holds");
    }
    if names.iter().any(|name| name == "b") {
        let held = if names.len() == 2 { "web.a" } else { "web.qcow2" };
        assert_eq!(content(&host.path(held)), 2, "{when}: what b holds");
    }
    for name in names {
        let deleted = daemon.delete(&name, DeleteReach::One).await;
        deleted.unwrap_or_else(|error| panic!("{when}: {name}: {error}"));
    }
    assert_eq!(images(host), ["web.qcow2"], "{when}");
    assert_eq!(content(&host.path("web.qcow2")), 3, "{when}");
    if !ends {
        daemon.destroy("web").await.unwrap();
    }
}
