//! VMMs that do not answer, or talk too much: nobody else pays for them.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::rig::{Host, next, signal};
use crate::domain::{ShutOff, State};
use crate::error::Code;
use crate::events::EventKind;
use crate::ops::{DestroyDomain, GetAllStats, ListDomains, SuspendDomain};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_vmm_costs_its_own_calls_and_can_be_destroyed() {
    let host = Host::new();
    let daemon = host.daemon().await;
    for name in ["stuck", "well"] {
        daemon.define(host.xml(name, "")).await;
        daemon.start(name).await.unwrap();
    }
    signal(daemon.pid("stuck").await, Signal::STOP).unwrap();

    let start = Instant::now();
    let all = daemon.call(GetAllStats).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(all.len(), 2);
    let start = Instant::now();
    for _ in 0..20 {
        daemon.call(GetAllStats).await.unwrap();
        daemon.call(ListDomains::default()).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_millis(500), "asked again: {:?}", start.elapsed());

    // A call on the stuck one ends by its deadline, and the other one answers meanwhile.
    let start = Instant::now();
    let stuck = daemon.call(SuspendDomain { domain: "stuck".into() });
    let well = async {
        daemon.call(SuspendDomain { domain: "well".into() }).await.unwrap();
        start.elapsed()
    };
    let (stuck, well) = tokio::join!(stuck, well);
    assert_eq!(stuck.unwrap_err().code, Code::Timeout);
    assert!(well < Duration::from_millis(500), "{well:?}");

    let graceful = DestroyDomain { domain: "stuck".into(), graceful: true };
    let error = daemon.call(graceful).await.unwrap_err();
    assert!(error.message.contains("does not end by itself"), "{error}");
    daemon.destroy("stuck").await.unwrap();
    assert_eq!(daemon.state("stuck").await, State::ShutOff(ShutOff::Destroyed));
    assert_eq!(host.run_dirs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_overtakes_a_command_that_hangs() {
    let mut host = Host::new();
    host.config.domains.command_timeout = 30;
    let daemon = host.daemon().await;
    daemon.define(host.xml("stuck", "")).await;
    daemon.start("stuck").await.unwrap();
    signal(daemon.pid("stuck").await, Signal::STOP).unwrap();
    let start = Instant::now();
    let suspend = daemon.call(SuspendDomain { domain: "stuck".into() });
    let destroy = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        daemon.destroy("stuck").await
    };
    let (suspend, destroy) = tokio::join!(suspend, destroy);
    destroy.unwrap();
    assert!(suspend.unwrap_err().message.contains("destroyed meanwhile"));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_hangs_can_be_destroyed_and_leaves_nothing() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("slow", "never-ready")).await;
    let start = daemon.start("slow");
    let destroy = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        daemon.destroy("slow").await
    };
    let (start, destroy) = tokio::join!(start, destroy);
    assert!(start.unwrap_err().message.contains("destroyed while it started"));
    // It is off, which is what was wanted.
    assert!(destroy.is_ok() || destroy.is_err_and(|error| error.code == Code::InvalidState));
    assert!(!daemon.state("slow").await.is_active());
    assert!(host.run_dirs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_never_gets_ready_is_given_up() {
    let mut host = Host::new();
    host.config.domains.start_timeout = 1;
    let daemon = host.daemon().await;
    daemon.define(host.xml("slow", "never-ready")).await;
    let error = daemon.start("slow").await.unwrap_err();
    assert_eq!(error.code, Code::Timeout);
    assert!(!daemon.state("slow").await.is_active());
    assert!(host.run_dirs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_refuses_to_end_is_killed() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "undying")).await;
    daemon.start("web").await.unwrap();
    daemon.destroy("web").await.unwrap();
    assert_eq!(daemon.state("web").await, State::ShutOff(ShutOff::Destroyed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_vmm_at_the_start_delays_nobody_and_is_not_killed() {
    let host = Host::new();
    let first = host.daemon().await;
    for name in ["stuck", "well"] {
        first.define(host.xml(name, "")).await;
        first.start(name).await.unwrap();
    }
    let pid = first.pid("stuck").await;
    signal(pid, Signal::STOP).unwrap();
    let start = Instant::now();
    // Beside the first, which does nothing any more: a daemon that is gone does not matter here.
    let daemon = host.daemon().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(matches!(daemon.state("well").await, State::Running(_)));
    daemon.wait_for("stuck", "unknown", |state| state == State::Unknown).await;
    let error = daemon.call(SuspendDomain { domain: "stuck".into() }).await.unwrap_err();
    assert_eq!(error.code, Code::VmmUnreachable);
    assert!(error.message.contains(&pid.to_string()), "{error}");
    assert_eq!(daemon.start("stuck").await.unwrap_err().code, Code::VmmUnreachable);
    signal(pid, Signal::CONT).unwrap();
    daemon.wait_for("stuck", "running", |state| matches!(state, State::Running(_))).await;
    assert_eq!(daemon.pid("stuck").await, pid);
    let mut events = daemon.subscribe(0).await;
    for expected in [false, true] {
        loop {
            if let EventKind::Reachable { reachable } = next(&mut events).await.kind {
                assert_eq!(reachable, expected);
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let pid = daemon.pid("web").await;
    daemon.type_in("web", "hang up").await;
    let start = Instant::now();
    while let Err(error) = daemon.call(SuspendDomain { domain: "web".into() }).await {
        assert!(start.elapsed() < Duration::from_secs(10), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(daemon.pid("web").await, pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vmm_says_is_bounded_and_harmless() {
    let host = Host::new();
    let daemon = host.daemon().await;
    daemon.define(host.xml("web", "")).await;
    daemon.start("web").await.unwrap();
    let mut events = daemon.subscribe(0).await;
    daemon.type_in("web", "\u{1b}[2J").await;
    let (device, reason) = loop {
        if let EventKind::DeviceBroken { device, reason } = next(&mut events).await.kind {
            break (device, reason);
        }
    };
    assert!(!device.contains(char::is_control) && reason.len() < 1000);
    let before = next_id(&daemon, &host).await;
    daemon.type_in("web", "flood").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = next_id(&daemon, &host).await;
    assert!(after - before < 1000, "{} events were passed on", after - before);
    daemon.destroy("web").await.unwrap();
}

/// The number of an event made now.
async fn next_id(daemon: &super::rig::Daemon, host: &Host) -> u64 {
    let mut events =
        daemon.call(crate::ops::Subscribe { after: None, domain: None }).await.unwrap();
    let name = format!("x{}", uuid::Uuid::new_v4());
    daemon.define(host.xml(&name, "")).await;
    loop {
        let event = next(&mut events).await;
        if event.domain.is_some_and(|domain| domain.name == name) {
            return event.id;
        }
    }
}
