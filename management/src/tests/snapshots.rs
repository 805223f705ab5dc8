//! Snapshots, and what becomes of them when the daemon dies.

use std::path::PathBuf;
use std::time::Duration;

use image::qcow2::{CreateOptions, OpenOptions, Qcow2, Repair, check, create};
use image::{FileStorage, Image as _};

use super::doomed::{Part, apart, doomed};
use super::rig::{Daemon, Host};
use crate::domain::State;
use crate::error::{Code, Error};
use crate::jobs::{Job, Phase};
use crate::ops::{
    CreateSnapshot, DeleteReach, DeleteSnapshot, DescribeSnapshot, DumpXml, GetJob, ListSnapshots,
    RedefineSnapshot, RevertToSnapshot, UndefineDomain,
};

const SIZE: u64 = 1 << 20;

impl Daemon {
    async fn outcome(&self, job: Result<Job, Error>) -> Result<(), String> {
        let job = job.map_err(|error| error.chain())?;
        let wait = Duration::from_secs(20);
        let ended = self.call(GetJob { job: job.id, wait }).await.unwrap();
        if ended.phase == Phase::Done { Ok(()) } else { Err(ended.error.unwrap_or_default()) }
    }

    pub(super) async fn snapshot(&self, inside: &str) -> Result<(), String> {
        let create = CreateSnapshot {
            domain: "web".into(),
            xml: format!("<domainsnapshot>{inside}</domainsnapshot>"),
            disk_only: true,
            reuse_external: false,
            no_metadata: false,
            quiesce: false,
            halt: false,
            live: false,
        };
        let begun = self.call(create).await;
        self.outcome(begun.map(|begun| begun.job)).await
    }

    async fn revert(&self, name: &str) -> Result<(), String> {
        let revert = RevertToSnapshot {
            domain: "web".into(),
            name: name.to_owned(),
            running: None,
            force: false,
            reset_variables: false,
        };
        let job = self.call(revert).await;
        self.outcome(job).await
    }

    pub(super) async fn delete(&self, name: &str, reach: DeleteReach) -> Result<(), String> {
        let delete = DeleteSnapshot {
            domain: "web".into(),
            name: name.to_owned(),
            reach,
            metadata_only: false,
        };
        let job = self.call(delete).await;
        self.outcome(job).await
    }

    pub(super) async fn snapshots(&self) -> Vec<String> {
        let all = self.call(ListSnapshots { domain: "web".into() }).await.unwrap();
        all.into_iter().map(|snapshot| snapshot.name).collect()
    }

    /// Where the domain's disk is.
    pub(super) async fn image(&self) -> PathBuf {
        let xml = self.call(DumpXml { domain: "web".into(), inactive: true }).await.unwrap();
        let (_, rest) = xml.split_once("<source file='").unwrap();
        rest.split('\'').next().unwrap().into()
    }
}

fn storage(path: &PathBuf) -> FileStorage {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    FileStorage::new(file).unwrap()
}

/// Write to an image, whatever lies below it.
pub(super) fn fill(path: &PathBuf, byte: u8) {
    let options = OpenOptions { backing: backing(path), ..OpenOptions::default() };
    let image = Qcow2::open(std::sync::Arc::new(storage(path)), options).unwrap();
    image.write(&vec![byte; SIZE as usize], 0).unwrap();
    image.flush().unwrap();
}

fn backing(path: &PathBuf) -> Option<std::sync::Arc<dyn image::Image>> {
    let below = image::qcow2::describe(&storage(path)).unwrap().backing?;
    Some(open(&below.name.into()))
}

fn open(path: &PathBuf) -> std::sync::Arc<dyn image::Image> {
    let options = OpenOptions { read_only: true, backing: backing(path), ..OpenOptions::default() };
    std::sync::Arc::new(Qcow2::open(std::sync::Arc::new(storage(path)), options).unwrap())
}

/// The byte that an image is full of. It is whole.
pub(super) fn content(path: &PathBuf) -> u8 {
    let report = check(&storage(path), Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{}", path.display());
    let mut data = vec![0; SIZE as usize];
    open(path).read(&mut data, 0).unwrap();
    assert!(data.iter().all(|byte| *byte == data[0]), "{}", path.display());
    data[0]
}

fn xml(host: &Host, script: &str) -> String {
    let path = host.path("web.qcow2").display().to_string();
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
         <source file='{path}'/><target dev='vda' bus='virtio'/></disk>"
    );
    host.xml_with("web", script, &disk)
}

/// A domain that is off, with a disk that is full of ones.
async fn off() -> (Host, Daemon) {
    defined("").await
}

/// With a guest that does what `script` says.
pub(super) async fn defined(script: &str) -> (Host, Daemon) {
    define_in(Host::new(), script).await
}

pub(super) async fn define_in(host: Host, script: &str) -> (Host, Daemon) {
    let path = host.path("web.qcow2");
    std::fs::write(&path, "").unwrap();
    create(&storage(&path), &CreateOptions::new(SIZE)).unwrap();
    fill(&path, 1);
    let daemon = host.daemon().await;
    daemon.define(xml(&host, script)).await;
    (host, daemon)
}

/// With a guest that counts what it is told until whoever tells it dies.
pub(super) async fn doomed_guest() -> Host {
    let host = Host::new();
    let doom = format!("doom={}", host.path("doom").display());
    define_in(host, &doom).await.0
}

/// Images of the disk.
pub(super) fn images(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.dir.path()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.contains("web.")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_snapshot_holds_what_the_disk_held_and_goes_with_what_nobody_needs() {
    let (host, daemon) = off().await;
    daemon.snapshot("<name>a</name>").await.unwrap();
    fill(&daemon.image().await, 2);
    daemon.snapshot("<name>b</name>").await.unwrap();
    fill(&daemon.image().await, 3);
    daemon.revert("a").await.unwrap();
    assert_eq!(content(&daemon.image().await), 1);
    fill(&daemon.image().await, 4);
    daemon.snapshot("<name>c</name>").await.unwrap();
    daemon.revert("b").await.unwrap();
    assert_eq!(content(&daemon.image().await), 2);
    assert_eq!(daemon.snapshots().await.len(), 3);
    let current = DescribeSnapshot { domain: "web".into(), name: None };
    assert_eq!(daemon.call(current).await.unwrap().name, "b");
    // Two branches stand on what a holds: it stays, though nobody can go back to it.
    daemon.delete("a", DeleteReach::One).await.unwrap();
    assert_eq!(content(&daemon.image().await), 2);
    daemon.revert("c").await.unwrap();
    assert_eq!(content(&daemon.image().await), 4);
    daemon.delete("b", DeleteReach::One).await.unwrap();
    daemon.delete("c", DeleteReach::One).await.unwrap();
    assert_eq!(content(&daemon.image().await), 4);
    assert!(images(&host).len() <= 2, "{:?}", images(&host));
    assert!(daemon.snapshots().await.is_empty());
}

#[tokio::test]
async fn a_tree_is_deleted_from_its_leaves() {
    let (host, daemon) = off().await;
    for name in ["a", "b", "c"] {
        daemon.snapshot(&format!("<name>{name}</name>")).await.unwrap();
        fill(&daemon.image().await, name.as_bytes()[0]);
    }
    daemon.delete("a", DeleteReach::DescendantsOnly).await.unwrap();
    assert_eq!(daemon.snapshots().await, ["a"]);
    assert_eq!(content(&daemon.image().await), b'c');
    daemon.revert("a").await.unwrap();
    assert_eq!(content(&daemon.image().await), 1);
    daemon.delete("a", DeleteReach::WithDescendants).await.unwrap();
    assert_eq!(
        (images(&host), content(&host.path("web.qcow2"))),
        (vec!["web.qcow2".to_owned()], 1)
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (host, daemon) = off().await;
    std::fs::write(host.path("web.taken"), "mine").unwrap();
    let taken = daemon.snapshot("<name>taken</name>").await.unwrap_err();
    assert!(taken.contains("web.taken is there already"), "{taken}");
    let nowhere =
        "<name>x</name><disks><disk name='vda'><source file='/nowhere/x'/></disk></disks>";
    assert!(!daemon.snapshot(nowhere).await.unwrap_err().is_empty());
    assert_eq!(std::fs::read_to_string(host.path("web.taken")).unwrap(), "mine");
    assert_eq!((images(&host).len(), daemon.image().await), (2, host.path("web.qcow2")));
    assert!(daemon.snapshots().await.is_empty());

    daemon.snapshot("<name>a</name>").await.unwrap();
    let undefine = |snapshots| UndefineDomain {
        domain: "web".into(),
        variables: None,
        managed_save: false,
        snapshots,
    };
    let refused = daemon.call(undefine(false)).await.unwrap_err();
    assert!(refused.message.contains("--snapshots-metadata"), "{refused}");
    let bare = "<domainsnapshot><name>bare</name><state>shutoff</state></domainsnapshot>";
    let redefine = RedefineSnapshot { domain: "web".into(), xml: bare.to_owned(), current: false };
    daemon.call(redefine).await.unwrap();
    let revert = RevertToSnapshot {
        domain: "web".into(),
        name: "bare".to_owned(),
        running: None,
        force: false,
        reset_variables: false,
    };
    assert_eq!(daemon.call(revert).await.unwrap_err().code, Code::Risky);
    daemon.call(undefine(true)).await.unwrap();
    assert!(host.path("web.a").exists(), "what it holds stays");
}

#[tokio::test]
async fn an_image_that_was_changed_is_not_gone_back_to_unless_that_is_forced() {
    let (host, daemon) = off().await;
    daemon.snapshot("<name>a</name>").await.unwrap();
    fill(&host.path("web.qcow2"), 9);
    let changed = daemon.revert("a").await.unwrap_err();
    assert!(changed.contains("web.qcow2 (vda) was changed"), "{changed}");
    assert_eq!(daemon.image().await, host.path("web.a"));
}

const ROLE: &str = "MANOR_TEST_SNAPSHOT_DAEMON";

/// The daemon to be killed: it makes snapshots of a domain, goes back, and deletes them.
#[tokio::test]
async fn plays_the_daemon_of_snapshots_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (_host, daemon, own) = doomed(&role).await;
    daemon.snapshot("<name>a</name>").await.unwrap();
    fill(&daemon.image().await, 2);
    daemon.snapshot("<name>b</name>").await.unwrap();
    fill(&daemon.image().await, 3);
    daemon.revert("a").await.unwrap();
    daemon.delete("a", DeleteReach::One).await.unwrap();
    daemon.revert("b").await.unwrap();
    daemon.delete("b", DeleteReach::One).await.unwrap();
    std::fs::write(own.join("survived"), "").unwrap();
}

#[test]
fn a_daemon_killed_at_any_act_leaves_disks_that_are_whole_and_snapshots_that_hold() {
    let test = "tests::snapshots::plays_the_daemon_of_snapshots_when_it_is_started_as_one";
    Part { test, role: ROLE }.dies_at_every_act(3, async || off().await.0, settled);
}

async fn settled(host: &Host, when: &str) {
    let daemon = host.daemon().await;
    daemon.wait_for("web", "off", |state| matches!(state, State::ShutOff(_))).await;
    // Whatever was half done is done or undone by the next that is asked for.
    let made = daemon.snapshot("<name>last</name>").await;
    made.unwrap_or_else(|error| panic!("{when}: {error}"));
    let now = content(&daemon.image().await);
    assert!((1..=3).contains(&now), "{when}: {now}");
    let names = daemon.snapshots().await;
    for (name, holds) in [("a", 1), ("b", 2)] {
        if names.iter().any(|known| known == name) {
            daemon.revert(name).await.unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_eq!(content(&daemon.image().await), holds, "{when}: {name}");
        }
    }
    let partial = images(host).into_iter().filter(|name| name.contains("partial")).count();
    assert_eq!(partial, 0, "{when}: {:?}", images(host));
    for name in daemon.snapshots().await {
        let deleted = daemon.delete(&name, DeleteReach::One).await;
        deleted.unwrap_or_else(|error| panic!("{when}: {name}: {error}"));
    }
    content(&daemon.image().await);
}

const RUNNING: &str = "MANOR_TEST_RUNNING_SNAPSHOT_DAEMON";

/// The daemon to be killed: it makes a snapshot of the disks of a guest that runs, and one with its
/// memory.
#[tokio::test]
async fn plays_the_daemon_of_a_running_snapshot_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(RUNNING) else { return };
    let (dir, doom) = role.split_once(' ').unwrap();
    let dir = PathBuf::from(dir);
    let mut host = Host::new();
    host.config.state_dir = dir.join("state");
    host.config.run_dir = dir.join("run");
    host.config.log_dir = dir.join("log");
    let daemon = host.daemon().await;
    daemon.start("web").await.unwrap();
    std::fs::write(dir.join("pid"), daemon.pid("web").await.to_string()).unwrap();
    // From here on the VMM counts what it is told.
    std::fs::write(dir.join("doom"), doom).unwrap();
    daemon.snapshot("<name>a</name>").await.unwrap();
    let memory = dir.join("b.mem").display().to_string();
    let create = CreateSnapshot {
        domain: "web".into(),
        xml: format!(
            "<domainsnapshot><name>b</name><memory snapshot='external' file='{memory}'/>\
             </domainsnapshot>"
        ),
        disk_only: false,
        reuse_external: false,
        no_metadata: false,
        quiesce: false,
        halt: false,
        live: true,
    };
    let begun = daemon.call(create).await;
    daemon.outcome(begun.map(|begun| begun.job)).await.unwrap();
    std::fs::write(dir.join("survived"), "").unwrap();
}

#[test]
fn a_running_guest_is_in_its_overlays_or_not_wherever_the_daemon_dies() {
    let test = "tests::snapshots::\
                plays_the_daemon_of_a_running_snapshot_when_it_is_started_as_one";
    let part = Part { test, role: RUNNING };
    for moment in ["before", "after"] {
        let mut seen = std::collections::BTreeSet::new();
        for count in 0.. {
            assert!(count < 40, "a snapshot says ever more to the VMM");
            let host = apart(doomed_guest());
            if part.survives(&host, moment, count) {
                break;
            }
            seen.insert(apart(runs_on(&host, &format!("killed {moment} word {count}"))));
        }
        // None, the first, both.
        assert!(seen.len() >= 2, "{moment}: {seen:?}");
    }
}

/// The snapshots that there are.
async fn runs_on(host: &Host, when: &str) -> Vec<String> {
    let daemon = host.daemon().await;
    daemon.wait_for("web", "running", |state| matches!(state, State::Running(_))).await;
    let pid = std::fs::read_to_string(host.path("pid")).unwrap();
    assert_eq!(daemon.pid("web").await.to_string(), pid, "{when}: another guest runs");
    let names = daemon.snapshots().await;
    let expected = match names.last() {
        Some(name) => host.path(&format!("web.{name}")),
        None => host.path("web.qcow2"),
    };
    assert_eq!(daemon.image().await, expected, "{when}");
    let live = daemon.call(DumpXml { domain: "web".into(), inactive: false }).await.unwrap();
    assert!(live.contains(&expected.display().to_string()), "{when}: {live}");
    assert_eq!(images(host).len(), names.len() + 1, "{when}: {:?}", images(host));
    assert_eq!(host.path("b.mem").exists(), names.len() == 2, "{when}");
    daemon.destroy("web").await.unwrap();
    assert_eq!(content(&expected), 1, "{when}");
    names
}
