//! Twins of running guests and of saved ones, and what becomes of both when somebody dies.

use std::time::Duration;

use super::doomed::{Part, doomed};
use super::rig::{Daemon, Host};
use crate::domain::{Paused, ShutOff, State};
use crate::jobs::{Job, Phase};
use crate::ops::{
    AbortJob, CloneDomain, CloneSaved, GetJob, ManagedSave, SuspendDomain, UndefineDomain,
};

impl Daemon {
    async fn clone_as(&self, name: &str) -> Job {
        let clone = CloneDomain { domain: "web".into(), name: name.into() };
        self.to_its_end(self.call(clone).await.unwrap()).await
    }

    async fn to_its_end(&self, job: Job) -> Job {
        self.call(GetJob { job: job.id, wait: Duration::from_secs(20) }).await.unwrap()
    }
}

/// With a disk of a MiB.
async fn running(script: &str) -> (Host, Daemon) {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(definition(&host, script)).await;
    daemon.start("web").await.unwrap();
    (host, daemon)
}

fn definition(host: &Host, script: &str) -> String {
    std::fs::write(host.path("web.img"), vec![7; 1 << 20]).unwrap();
    let image = host.path("web.img").display().to_string();
    let disk = format!("<disk type='file'><source file='{image}'/><target dev='vda'/></disk>");
    host.xml_with("web", script, &disk)
}

/// Files of disks, those that are not whole among them.
fn images(host: &Host) -> Vec<String> {
    let files = std::fs::read_dir(host.dir.path()).unwrap().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    // One is there for other tests.
    let ours = |name: &String| name.contains(".img") && name != "disk.img";
    let mut images: Vec<_> = names.filter(ours).collect();
    images.sort();
    images
}

#[tokio::test]
async fn a_running_guest_and_its_twin_both_run() {
    let (host, daemon) = running("").await;
    let job = daemon.clone_as("twin").await;
    assert_eq!(job.phase, Phase::Done, "{job:?}");
    for name in ["web", "twin"] {
        assert!(matches!(daemon.state(name).await, State::Running(_)), "{name}");
    }
    assert_eq!(images(&host), ["twin-vda.img", "web.img"]);
    let [web, twin] = [daemon.find("web").await.unwrap(), daemon.find("twin").await.unwrap()];
    assert!(web.uuid != twin.uuid && twin.persistent);
}

#[tokio::test]
async fn a_suspended_guest_has_a_suspended_twin() {
    let (_host, daemon) = running("").await;
    daemon.call(SuspendDomain { domain: "web".into() }).await.unwrap();
    assert_eq!(daemon.clone_as("twin").await.phase, Phase::Done);
    for name in ["web", "twin"] {
        assert!(matches!(daemon.state(name).await, State::Paused(_)), "{name}");
    }
}

#[tokio::test]
async fn a_clone_that_fails_or_is_aborted_leaves_the_guest_running_and_nothing_else() {
    for script in ["save=full", "save=slow"] {
        let (host, daemon) = running(script).await;
        let clone = CloneDomain { domain: "web".into(), name: "twin".into() };
        let job = daemon.call(clone).await.unwrap();
        let expected = if script == "save=slow" {
            let paused = |state| state == State::Paused(Paused::Save);
            daemon.wait_for("web", "paused", paused).await;
            daemon.call(AbortJob { job: job.id }).await.unwrap();
            Phase::Cancelled
        } else {
            Phase::Failed
        };
        assert_eq!(daemon.to_its_end(job).await.phase, expected, "{script}");
        assert!(matches!(daemon.state("web").await, State::Running(_)), "{script}");
        assert_eq!(
            (images(&host), daemon.names().await),
            (vec!["web.img".into()], vec!["web".into()])
        );
    }
}

#[tokio::test]
async fn a_vmm_that_dies_while_it_is_cloned_has_no_twin() {
    let (host, daemon) = running("save=dies").await;
    assert_eq!(daemon.clone_as("twin").await.phase, Phase::Failed);
    daemon.wait_for("web", "off", |state| !state.is_active()).await;
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Crashed));
    assert_eq!((images(&host), daemon.names().await), (vec!["web.img".into()], vec!["web".into()]));
}

#[tokio::test]
async fn a_saved_guest_has_twins_and_stays_saved() {
    let (host, daemon) = running("").await;
    let save = ManagedSave {
        domain: "web".into(),
        running: None,
        bypass_cache: false,
        with_host: false,
        format: None,
    };
    let job = daemon.call(save).await.unwrap();
    assert_eq!(daemon.to_its_end(job).await.phase, Phase::Done);
    assert_eq!(daemon.clone_as("one").await.phase, Phase::Done);
    let uuid = daemon.find("web").await.unwrap().uuid;
    let file = host.path("state/save").join(format!("{uuid}.save"));
    let clone = CloneSaved { file, name: "two".into() };
    let job = daemon.call(clone).await.unwrap();
    assert_eq!(daemon.to_its_end(job).await.phase, Phase::Done);
    for name in ["one", "two"] {
        assert!(matches!(daemon.state(name).await, State::Running(_)), "{name}");
        daemon.destroy(name).await.unwrap();
    }
    assert!(daemon.find("web").await.unwrap().managed_save);
    daemon.start("web").await.unwrap();
    // Its disk may be another one from now on.
    std::fs::write(host.path("web.img"), vec![8; 1 << 20]).unwrap();
    let undefine = UndefineDomain {
        domain: "one".into(),
        variables: None,
        managed_save: false,
        snapshots: false,
    };
    daemon.call(undefine).await.unwrap();
    let mut names = daemon.names().await;
    names.sort();
    assert_eq!(names, ["two", "web"]);
}

const ROLE: &str = "MANOR_TEST_CLONING_DAEMON";

/// The daemon to be killed: it takes over a running guest, and clones it.
#[tokio::test]
async fn plays_the_cloning_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (_host, daemon, own) = doomed(&role).await;
    assert_eq!(daemon.clone_as("twin").await.phase, Phase::Done);
    std::fs::write(own.join("survived"), "").unwrap();
}

#[test]
fn a_daemon_killed_at_any_act_of_a_clone_leaves_the_guest_running_and_a_twin_or_none() {
    let test = "tests::clone::plays_the_cloning_daemon_when_it_is_started_as_one";
    Part { test, role: ROLE }.dies_at_every_act(1, async || running("").await.0, check);
}

async fn check(host: &Host, when: &str) {
    let daemon = host.daemon().await;
    daemon.wait_for("web", "running", |state| matches!(state, State::Running(_))).await;
    let twin = daemon.find("twin").await.ok();
    let images = images(host);
    assert!(!images.iter().any(|name| name.contains("partial")), "{when}: {images:?}");
    if twin.is_some() {
        // It runs, or is a domain with a disk of its own that starts from that.
        assert_eq!(images, ["twin-vda.img", "web.img"], "{when}");
        daemon.wait_for("twin", "known", |state| state != State::Unknown).await;
        if !daemon.state("twin").await.is_active() {
            daemon.start("twin").await.unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
        }
        daemon.destroy("twin").await.unwrap();
    }
    daemon.destroy("web").await.unwrap();
    assert!(host.run_dirs().is_empty(), "{when}: {:?}", host.run_dirs());
}
