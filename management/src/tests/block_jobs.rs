//! Block jobs: what becomes of the definitions, whoever dies or refuses.

use super::rig::{Daemon, Host, lifecycle_until, next};
use crate::domain::{BlockJobKind, BlockJobSpec};
use crate::error::{Code, Error};
use crate::events::{BlockJobChange, EventKind, Lifecycle};
use crate::jobs::Job;
use crate::ops::{DumpXml, EndBlockJob, GetJob, ListBlockJobs, StartBlockJob};

async fn running(host: &Host, script: &str) -> Daemon {
    let daemon = host.daemon().await;
    let disk = host.path("disk.img").display().to_string();
    let disk =
        format!("<disk type='file'><source file='{disk}'/><target dev='vda' bus='virtio'/></disk>");
    daemon.define(host.xml_with("web", script, &disk)).await;
    daemon.start("web").await.unwrap();
    daemon
}

async fn copy(host: &Host, daemon: &Daemon, name: &str) -> Result<Job, Error> {
    let spec = BlockJobSpec::Copy {
        path: host.path(name),
        format: Some("qcow2".to_owned()),
        shallow: false,
        reuse: false,
    };
    let (domain, disk) = ("web".into(), "vda".to_owned());
    daemon.call(StartBlockJob { domain, disk, spec, bandwidth: 0 }).await
}

async fn end(daemon: &Daemon, pivot: bool) -> Result<(), Error> {
    daemon.call(EndBlockJob { domain: "web".into(), disk: "vda".to_owned(), pivot }).await
}

/// Whether the image is the disk's, as it runs and as it is stored.
async fn has(daemon: &Daemon, name: &str) -> [bool; 2] {
    let mut found = [false, false];
    for (inactive, found) in [false, true].into_iter().zip(&mut found) {
        let xml = daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap();
        // What a disk is copied to is not the disk's yet.
        let mirror = xml.find("<mirror").zip(xml.find("</mirror>"));
        let xml = mirror.map_or(xml.clone(), |(from, to)| [&xml[..from], &xml[to..]].concat());
        *found = xml.contains(&format!("/{name}'"));
    }
    found
}

async fn xml(daemon: &Daemon, inactive: bool) -> String {
    daemon.call(DumpXml { domain: "web".into(), inactive }).await.unwrap()
}

/// What is told of the running domain once both sides of its copy are the same.
async fn ready(daemon: &Daemon) -> String {
    for _ in 0..1000 {
        let live = xml(daemon, false).await;
        if live.contains("ready='yes'") {
            return live;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{}", xml(daemon, false).await)
}

#[tokio::test]
async fn a_pivot_is_in_both_definitions_and_told() {
    let host = Host::new();
    let daemon = running(&host, "").await;
    let mut events = daemon.subscribe(0).await;
    lifecycle_until(&mut events, Lifecycle::StartedBooted).await;
    let job = copy(&host, &daemon, "copy.qcow2").await.unwrap();
    assert_eq!((&*job.kind, &*job.object), ("block-copy", "web/vda"));
    assert_eq!(copy(&host, &daemon, "other.qcow2").await.unwrap_err().code, Code::Busy);
    assert!(!host.path("other.qcow2").exists());
    let mut changes = Vec::new();
    let jobs = daemon.call(ListBlockJobs { domain: "web".into() }).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].kind, jobs[0].ready), (1, BlockJobKind::Copy, true));
    let live = ready(&daemon).await;
    let path = host.path("copy.qcow2").display().to_string();
    let mirror = format!(
        "      <mirror type='file' file='{path}' format='qcow2' job='copy' ready='yes'>\n        \
         <format type='qcow2'/>\n        <source file='{path}'/>\n        <backingStore/>\n      \
         </mirror>\n      <target dev='vda' bus='virtio'/>\n"
    );
    assert!(live.contains(&mirror), "{live}");
    assert!(has(&daemon, "disk.img").await[1]);
    assert!(!has(&daemon, "copy.qcow2").await[1], "only the running guest is copied");
    // What was dumped can be defined: it begins no copy.
    let define = crate::ops::DefineDomain { xml: live, cloud_init: None, check_only: true };
    daemon.call(define).await.unwrap();
    end(&daemon, true).await.unwrap();
    assert!(!xml(&daemon, false).await.contains("mirror"));
    assert_eq!(has(&daemon, "copy.qcow2").await, [true, true]);
    assert_eq!(end(&daemon, false).await.unwrap_err().code, Code::InvalidState);
    while changes.len() < 2 {
        if let EventKind::BlockJob { disk, path, change, .. } = next(&mut events).await.kind {
            assert_eq!(disk, "vda");
            assert!(path.unwrap().ends_with("disk.img"), "what it had when it began");
            changes.push(change);
        }
    }
    assert_eq!(changes, [BlockJobChange::Ready, BlockJobChange::Completed]);
    let ended = daemon.call(GetJob { job: job.id, wait: std::time::Duration::from_secs(9) }).await;
    assert_eq!(ended.unwrap().phase, crate::jobs::Phase::Done);
}

#[tokio::test]
async fn a_pivot_that_the_vmm_refuses_is_taken_back() {
    let host = Host::new();
    let daemon = running(&host, "no-pivot").await;
    copy(&host, &daemon, "copy.qcow2").await.unwrap();
    let error = end(&daemon, true).await.unwrap_err();
    assert!(error.to_string().contains("fell behind"), "{error}");
    assert_eq!(has(&daemon, "disk.img").await, [true, true]);
    end(&daemon, false).await.unwrap();
    assert_eq!(has(&daemon, "copy.qcow2").await, [false, false]);
    copy(&host, &daemon, "another.qcow2").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_no_file() {
    let host = Host::new();
    let daemon = running(&host, "").await;
    let start = |disk: &str, spec| {
        let (domain, disk) = ("web".into(), disk.to_owned());
        daemon.call(StartBlockJob { domain, disk, spec, bandwidth: 0 })
    };
    let commit = |active| BlockJobSpec::Commit {
        base: None,
        top: None,
        shallow: false,
        active,
        delete: false,
        relative: false,
    };
    let to = |path: &str, shallow| BlockJobSpec::Copy {
        path: path.into(),
        format: Some("vdi".to_owned()),
        shallow,
        reuse: false,
    };
    let vdi = host.path("copy.vdi").display().to_string();
    for (disk, spec, words) in [
        ("vda", BlockJobSpec::Pull { base: None, relative: false }, "nothing lies below"),
        ("vdz", BlockJobSpec::Pull { base: None, relative: true }, "has no disk"),
        ("vda", commit(true), "does not lie below"),
        ("vda", to("a.img", false), "no absolute path"),
        ("vda", to(&vdi, false), "no copy is made in format vdi"),
    ] {
        let error = start(disk, spec).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(!host.path("copy.vdi").exists());
    let there = std::fs::read(host.path("disk.img")).unwrap();
    copy(&host, &daemon, "disk.img").await.unwrap_err();
    assert!(std::fs::read(host.path("disk.img")).unwrap() == there);
    daemon.call(crate::ops::DestroyDomain { domain: "web".into(), graceful: false }).await.unwrap();
    assert_eq!(copy(&host, &daemon, "x.qcow2").await.unwrap_err().code, Code::InvalidState);
}

/// What is said of a disk's job before may come when there is another: the guest does not use that yet.
#[tokio::test]
async fn a_late_word_of_an_earlier_job_ends_no_other() {
    let host = Host::new();
    let daemon = running(&host, "").await;
    copy(&host, &daemon, "copy.qcow2").await.unwrap();
    daemon.type_in("web", "late end of virtio-disk0").await;
    let jobs = daemon.call(ListBlockJobs { domain: "web".into() }).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].ready), (1, true));
    assert_eq!(has(&daemon, "copy.qcow2").await, [false, false]);
    end(&daemon, true).await.unwrap();
    assert_eq!(has(&daemon, "copy.qcow2").await, [true, true]);
}
