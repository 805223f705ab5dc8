//! A daemon that is killed at every act it makes: what it promised is there, nothing runs twice,
//! nothing is left behind.

use super::doomed::{Part, doomed};
use super::rig::Host;
use crate::domain::State;
use crate::ops::{DefineDomain, ShutdownDomain};

const ROLE: &str = "MANOR_TEST_DAEMON";

/// The daemon to be killed: a process of its own, started by the test below.
#[tokio::test]
async fn plays_the_daemon_when_it_is_started_as_one() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (_host, daemon, own) = doomed(&role).await;
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
    let test = "tests::crash::plays_the_daemon_when_it_is_started_as_one";
    let host = async || {
        let host = Host::new();
        let disk = format!(
            "<disk><source file='{}'/><target dev='vda'/></disk>",
            host.path("disk.img").display()
        );
        std::fs::write(host.path("web.xml"), host.xml_with("web", "deaf-not", &disk)).unwrap();
        host
    };
    Part { test, role: ROLE }.dies_at_every_act(1, host, check);
}

async fn check(host: &Host, when: &str) {
    let defined = host.path("defined").exists();
    let daemon = host.daemon().await;
    if defined {
        assert_eq!(daemon.names().await, ["web"], "{when}");
    } else if daemon.names().await.is_empty() {
        return;
    }
    // A VMM that was just started may still be on its way.
    daemon.wait_for("web", "known", |state| state != State::Unknown).await;
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
}
