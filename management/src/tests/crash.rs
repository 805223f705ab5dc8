//! A daemon that is killed at every act it makes: what it promised is there, nothing runs twice,
//! nothing is left behind.

use std::os::fd::BorrowedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use broker::{Broker, BrokerError, Granted, Request};
use rustix::process::{Signal, getpid, kill_process};

use super::rig::{Host, TestBroker};
use crate::ops::{DefineDomain, ShutdownDomain};

const ROLE: &str = "MANOR_TEST_DAEMON";

/// Kills its own process before or after an act of the broker.
#[derive(Debug)]
struct Doomed {
    inner: TestBroker,
    left: AtomicI64,
    after: bool,
}

impl Broker for Doomed {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        let now = self.left.fetch_sub(1, Ordering::SeqCst) == 0;
        let die = || kill_process(getpid(), Signal::KILL).unwrap();
        if now && !self.after {
            die();
        }
        let result = self.inner.perform(request, files);
        if now && self.after {
            die();
        }
        result
    }
}

/// The daemon to be killed: a process of its own, started by the test below.
#[tokio::test]
async fn plays_the_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut words = role.split(' ');
    let mut host = Host::new();
    let place = words.next().unwrap().to_owned();
    let left = words.next().unwrap().parse().unwrap();
    let after = words.next() == Some("after");
    let own = std::path::Path::new(&place);
    host.config.state_dir = own.join("state");
    host.config.run_dir = own.join("run");
    host.config.log_dir = own.join("log");
    let doomed = Doomed { inner: TestBroker::new(), left: AtomicI64::new(left), after };
    let daemon = host.daemon_with(Arc::new(doomed)).await;
    let xml = std::fs::read_to_string(own.join("web.xml")).unwrap();
    daemon.call(DefineDomain { xml, cloud_init: None, check_only: false }).await.unwrap();
    std::fs::write(own.join("defined"), "").unwrap();
    daemon.start("web").await.unwrap();
    std::fs::write(own.join("started"), "").unwrap();
    daemon.call(ShutdownDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    daemon.wait_for("web", "off", |state| !state.is_active()).await;
    std::fs::write(own.join("survived"), "").unwrap();
}

#[test]
fn a_daemon_killed_at_any_act_leaves_a_host_that_the_next_one_understands() {
    let mut survived = 0;
    for after in [false, true] {
        for act in 0.. {
            assert!(act < 60, "the daemon makes ever more acts");
            let host = Host::new();
            let disk = format!(
                "<disk><source file='{}'/><target dev='vda'/></disk>",
                host.path("disk.img").display()
            );
            std::fs::write(host.path("web.xml"), host.xml_with("web", "deaf-not", &disk)).unwrap();
            let place = host.dir.path().display().to_string();
            let moment = if after { "after" } else { "before" };
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "tests::crash::plays_the_daemon_when_it_is_started_as_one"])
                .env(ROLE, format!("{place} {act} {moment}"))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap();
            if host.path("survived").exists() {
                assert!(status.success());
                survived += 1;
                break;
            }
            check(&host, &format!("killed {moment} act {act}"));
        }
    }
    assert_eq!(survived, 2);
}

fn check(host: &Host, when: &str) {
    let defined = host.path("defined").exists();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let daemon = host.daemon().await;
        if defined {
            assert_eq!(daemon.names().await, ["web"], "{when}");
        } else if daemon.names().await.is_empty() {
            return;
        }
        // A VMM that was just started may still be on its way.
        daemon.wait_for("web", "known", |state| state != crate::domain::State::Unknown).await;
        if daemon.state("web").await.is_active() {
            let error = daemon.start("web").await.unwrap_err();
            assert!(error.message.contains("running already"), "{when}: {error}");
            let booted = daemon.console("web").await;
            drop(booted);
            daemon.destroy("web").await.unwrap();
        }
        assert!(host.run_dirs().is_empty(), "{when}: {:?}", host.run_dirs());
        // The image's lock is free, and so is everything else a start needs.
        daemon.start("web").await.unwrap_or_else(|error| panic!("{when}: {}", error.chain()));
        daemon.destroy("web").await.unwrap();
    });
    runtime.shutdown_background();
}
