//! Saves and restores, and what becomes of them when the daemon or the VMM dies.

use std::path::PathBuf;
use std::time::Duration;

use super::doomed::{Part, doomed};
use super::rig::{Daemon, Host};
use crate::domain::{Running, ShutOff, State};
use crate::error::{Code, Error};
use crate::jobs::{Job, Phase};
use crate::ops::{
    AbortJob, CreateDomain, DropManagedSave, DumpSaved, GetJob, ManagedSave, RestoreDomain,
    ResumeDomain, SaveDomain, StartDomain, SuspendDomain, UndefineDomain,
};

impl Daemon {
    async fn ended(&self, job: Job) -> Job {
        self.call(GetJob { job: job.id, wait: Duration::from_secs(20) }).await.unwrap()
    }

    async fn managed_save(&self) -> Job {
        let save = ManagedSave {
            domain: "web".into(),
            running: None,
            bypass_cache: false,
            with_host: false,
            format: None,
        };
        let job = self.call(save).await.unwrap();
        self.ended(job).await
    }

    pub(super) async fn save_to(&self, file: PathBuf) -> Job {
        let save = SaveDomain {
            domain: "web".into(),
            file,
            xml: None,
            running: None,
            bypass_cache: false,
            format: None,
        };
        let job = self.call(save).await.unwrap();
        self.ended(job).await
    }

    async fn restore(&self, file: PathBuf) -> Result<(), Error> {
        let restore = RestoreDomain {
            file,
            xml: None,
            running: None,
            force: false,
            verify: true,
            reset_variables: false,
        };
        self.call(restore).await.map(drop)
    }
}

async fn running(script: &str) -> (Host, Daemon) {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", script)).await;
    daemon.start("web").await.unwrap();
    (host, daemon)
}

/// What lies where saves are kept.
fn kept(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.path("state/save")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_saved_domain_is_off_until_it_is_restored() {
    let (host, daemon) = running("").await;
    let file = host.path("web.save");
    assert_eq!(daemon.save_to(file.clone()).await.phase, Phase::Done);
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Saved));
    assert!(host.run_dirs().is_empty());
    let xml = daemon.call(DumpSaved { file: file.clone(), secure: true }).await.unwrap();
    assert!(xml.contains("<name>web</name>"), "{xml}");
    daemon.restore(file.clone()).await.unwrap();
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    assert!(file.exists(), "it is the user's");
    // No other names, nothing half done.
    assert_eq!(
        std::fs::read_dir(host.dir.path())
            .unwrap()
            .flatten()
            .filter(|entry| { entry.file_name().to_string_lossy().contains("partial") })
            .count(),
        0
    );
}

#[tokio::test]
async fn a_transient_domain_comes_back_from_its_file_and_has_no_managed_save() {
    let host = Host::new();
    let daemon = host.daemon().await;
    let create = CreateDomain {
        xml: host.xml("web", ""),
        cloud_init: None,
        paused: false,
        reset_variables: false,
    };
    daemon.call(create).await.unwrap();
    let job = daemon.managed_save().await;
    assert!(job.error.unwrap().contains("transient"));
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    let file = host.path("web.save");
    assert_eq!(daemon.save_to(file.clone()).await.phase, Phase::Done);
    assert!(daemon.names().await.is_empty());
    daemon.restore(file).await.unwrap();
    assert_eq!(daemon.names().await, ["web"]);
}

#[tokio::test]
async fn a_guest_that_was_suspended_is_suspended_when_it_goes_on() {
    let (_host, daemon) = running("").await;
    daemon.call(SuspendDomain { domain: "web".into() }).await.unwrap();
    assert_eq!(daemon.managed_save().await.phase, Phase::Done);
    daemon.start("web").await.unwrap();
    assert!(matches!(daemon.state("web").await, State::Paused(_)));
    daemon.call(ResumeDomain { domain: "web".into() }).await.unwrap();
    assert!(matches!(daemon.state("web").await, State::Running(Running::Unpaused)));
}

#[tokio::test]
async fn a_managed_save_is_dropped_only_when_that_is_said() {
    let (host, daemon) = running("").await;
    daemon.managed_save().await;
    assert!(daemon.find("web").await.unwrap().managed_save);
    let undefine = |managed_save| UndefineDomain {
        domain: "web".into(),
        variables: None,
        managed_save,
        snapshots: false,
    };
    let refused = daemon.call(undefine(false)).await.unwrap_err();
    assert!(refused.message.contains("--managed-save"), "{refused}");
    daemon.call(DropManagedSave { domain: "web".into() }).await.unwrap();
    assert!(!daemon.find("web").await.unwrap().managed_save);
    daemon.start("web").await.unwrap();
    daemon.managed_save().await;
    let boot = StartDomain {
        domain: "web".into(),
        paused: false,
        reset_variables: false,
        force_boot: true,
        force: false,
    };
    daemon.call(boot).await.unwrap();
    assert!(kept(&host).is_empty());
    daemon.managed_save().await;
    daemon.call(undefine(true)).await.unwrap();
    assert!(kept(&host).is_empty() && daemon.names().await.is_empty());
}

#[tokio::test]
async fn a_save_that_fails_or_is_aborted_lets_the_guest_run_on() {
    let (host, daemon) = running("save=full").await;
    let job = daemon.managed_save().await;
    assert_eq!(job.phase, Phase::Failed);
    assert!(job.error.unwrap().contains("cannot be written"));
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    assert!(kept(&host).is_empty());

    let (host, daemon) = running("save=slow").await;
    let save = ManagedSave {
        domain: "web".into(),
        running: None,
        bypass_cache: false,
        with_host: false,
        format: None,
    };
    let job = daemon.call(save).await.unwrap();
    daemon.wait_for("web", "paused", |state| matches!(state, State::Paused(_))).await;
    daemon.call(AbortJob { job: job.id }).await.unwrap();
    assert_eq!(daemon.ended(job).await.phase, Phase::Cancelled);
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    assert!(kept(&host).is_empty());
}

#[tokio::test]
async fn a_destroy_ends_a_save_and_the_guest() {
    let (host, daemon) = running("save=slow").await;
    let save = ManagedSave {
        domain: "web".into(),
        running: None,
        bypass_cache: false,
        with_host: false,
        format: None,
    };
    let job = daemon.call(save).await.unwrap();
    daemon.wait_for("web", "paused", |state| matches!(state, State::Paused(_))).await;
    daemon.destroy("web").await.unwrap();
    assert_eq!(daemon.ended(job).await.phase, Phase::Cancelled);
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Destroyed));
    assert!(kept(&host).is_empty());
}

#[tokio::test]
async fn a_vmm_that_dies_half_way_leaves_nothing_and_one_that_had_written_all_a_saved_guest() {
    let (host, daemon) = running("save=dies").await;
    assert_eq!(daemon.managed_save().await.phase, Phase::Failed);
    daemon.wait_for("web", "off", |state| !state.is_active()).await;
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Crashed));
    assert!(kept(&host).is_empty(), "{:?}", kept(&host));

    let (host, daemon) = running("save=dies-late").await;
    assert_eq!(daemon.managed_save().await.phase, Phase::Done);
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Saved));
    assert_eq!(kept(&host).len(), 1);
    daemon.start("web").await.unwrap();
    assert!(kept(&host).is_empty());
}

#[tokio::test]
async fn what_is_no_saved_state_is_refused_before_anything_starts() {
    let (host, daemon) = running("").await;
    std::fs::write(host.path("mine"), "precious").unwrap();
    let job = daemon.save_to(host.path("mine")).await;
    assert!(job.error.unwrap().contains("is no saved guest"));
    assert!(matches!(daemon.state("web").await, State::Running(_)));
    let refused = daemon.restore(host.path("mine")).await.unwrap_err();
    assert!(refused.message.contains("no saved state"), "{refused}");
    let refused = daemon.restore(host.path("nothing")).await.unwrap_err();
    assert_eq!(refused.code, Code::ResourceMissing, "{refused}");
}

const ROLE: &str = "MANOR_TEST_SAVING_DAEMON";

/// The daemon to be killed: it takes over a running guest, saves it, and has it go on.
#[tokio::test]
async fn plays_the_saving_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (_host, daemon, own) = doomed(&role).await;
    assert_eq!(daemon.managed_save().await.phase, Phase::Done);
    daemon.start("web").await.unwrap();
    std::fs::write(own.join("survived"), "").unwrap();
}

#[test]
fn a_daemon_killed_at_any_act_of_a_save_or_a_restore_leaves_the_guest_in_one_place() {
    let test = "tests::saved::plays_the_saving_daemon_when_it_is_started_as_one";
    Part { test, role: ROLE }.dies_at_every_act(1, async || running("").await.0, check);
}

async fn check(host: &Host, when: &str) {
    let daemon = host.daemon().await;
    daemon.wait_for("web", "known", |state| state != State::Unknown).await;
    daemon.wait_for("web", "settled", |state| !matches!(state, State::Paused(_))).await;
    let found = daemon.find("web").await.unwrap();
    assert!(found.state.is_active() != found.managed_save, "{when}: {found:?}");
    let expected = usize::from(found.managed_save);
    assert_eq!(kept(host).len(), expected, "{when}: {:?}", kept(host));
    if found.managed_save {
        daemon.start("web").await.unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
        let console = daemon.console("web").await;
        drop(console);
        assert!(kept(host).is_empty(), "{when}");
    }
    daemon.destroy("web").await.unwrap();
    assert!(host.run_dirs().is_empty(), "{when}: {:?}", host.run_dirs());
    daemon.start("web").await.unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
    daemon.destroy("web").await.unwrap();
}
