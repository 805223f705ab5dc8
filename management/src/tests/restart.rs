//! A daemon that ends and one that comes after it, while guests run on.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerError, Granted, Request};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;

use super::rig::{Host, TestBroker, lifecycle_until, signal};
use crate::domain::{Paused, ShutOff, State, TurnChange};
use crate::error::Code;
use crate::events::{Event, EventKind, Lifecycle, Subscription};
use crate::ops::{
    CreateDomain, DumpXml, RebootDomain, SetAutostart, ShutdownDomain, SuspendDomain,
};

/// A daemon in a runtime of its own, which ends as if it were killed: no task does anything more.
pub(super) fn in_a_daemon<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(work());
    runtime.shutdown_background();
    result
}

#[test]
fn guests_run_on_and_are_managed_again_within_two_seconds() {
    let host = Host::new();
    let pids = in_a_daemon(async || {
        let daemon = host.daemon().await;
        for name in ["a", "b"] {
            daemon.define(host.xml(name, "")).await;
            daemon.start(name).await.unwrap();
        }
        daemon
            .call(CreateDomain {
                xml: host.xml("t", ""),
                cloud_init: None,
                paused: false,
                reset_variables: false,
            })
            .await
            .unwrap();
        daemon.call(SuspendDomain { domain: "b".into() }).await.unwrap();
        [daemon.pid("a").await, daemon.pid("b").await, daemon.pid("t").await]
    });
    in_a_daemon(async || {
        let start = Instant::now();
        let daemon = host.daemon().await;
        assert!(start.elapsed() < Duration::from_secs(2));
        let mut events = daemon.subscribe(0).await;
        while let Some(event) = next_now(&mut events).await {
            let quiet = !matches!(event.kind, EventKind::Reachable { .. });
            assert!(quiet, "a daemon that takes over is no event: {event:?}");
        }
        assert_eq!(daemon.names().await, ["a", "b", "t"]);
        let again = [daemon.pid("a").await, daemon.pid("b").await, daemon.pid("t").await];
        assert_eq!(again, pids);
        assert!(matches!(daemon.state("a").await, State::Running(_)));
        assert_eq!(daemon.state("b").await, State::Paused(Paused::User));
        assert!(!daemon.find("t").await.unwrap().persistent);
        assert!(daemon.start("a").await.unwrap_err().message.contains("running already"));
        let xml = daemon.call(DumpXml { domain: "t".into(), inactive: false }).await.unwrap();
        assert!(xml.contains("id='3'") && xml.contains("<alias name='serial0'/>"), "{xml}");
        // It never booted again.
        let mut seen = [0; 7];
        daemon.console("a").await.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"boot 1\n");
        daemon.call(ShutdownDomain { domain: "a".into(), modes: Vec::new() }).await.unwrap();
        daemon.wait_for("a", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;
        daemon.destroy("t").await.unwrap();
        // A number that was given is not given again.
        daemon.start("a").await.unwrap();
        assert_eq!(daemon.find("a").await.unwrap().id, Some(4));
    });
}

#[test]
fn what_happened_meanwhile_is_told_once() {
    let host = Host::new();
    let before = in_a_daemon(async || {
        let daemon = host.daemon().await;
        let mut events = daemon.subscribe(0).await;
        for name in ["gone", "crashed", "killed"] {
            daemon.define(host.xml(name, if name == "crashed" { "" } else { "deaf" })).await;
            daemon.start(name).await.unwrap();
        }
        daemon
            .call(CreateDomain {
                xml: host.xml("temp", ""),
                cloud_init: None,
                paused: false,
                reset_variables: false,
            })
            .await
            .unwrap();
        for _ in 0..4 {
            lifecycle_until(&mut events, Lifecycle::StartedBooted).await;
        }
        [daemon.pid("killed").await, daemon.pid("temp").await]
    });
    // No daemon: guests do as they like. Their consoles need no daemon either.
    for dir in host.run_dirs() {
        let record = crate::domain::record::Record::read(&dir).unwrap();
        let line = match record.name.as_str() {
            "gone" => "poweroff",
            "crashed" => "crash",
            _ => continue,
        };
        in_a_daemon(async || {
            let socket = dir.join(broker::CONTROL_SOCKET);
            let wait = Duration::from_secs(5);
            let mut stream =
                crate::control::open_console(&socket, "serial0", false, false, wait).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{line}\n").as_bytes())
                .await
                .unwrap();
            let mut end = Vec::new();
            let _ = stream.read_to_end(&mut end).await;
        });
    }
    for pid in before {
        signal(pid, Signal::KILL).unwrap();
    }
    // Until it is really gone: its lock is what tells.
    std::thread::sleep(Duration::from_millis(100));
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        assert_eq!(daemon.names().await, ["crashed", "gone", "killed"]);
        assert_eq!(daemon.state("gone").await, State::ShutOff(ShutOff::Shutdown));
        assert_eq!(daemon.state("crashed").await, State::ShutOff(ShutOff::Crashed));
        assert_eq!(daemon.state("killed").await, State::ShutOff(ShutOff::Crashed));
        assert!(host.run_dirs().is_empty());
        let mut events = daemon.subscribe(0).await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.extend(lifecycle_until_stopped(&mut events).await);
        }
        let count = |wanted| seen.iter().filter(|seen| **seen == wanted).count();
        assert_eq!(count(Lifecycle::StartedBooted), 4, "{seen:?}");
        assert_eq!(count(Lifecycle::StoppedShutdown), 1, "{seen:?}");
        assert_eq!(count(Lifecycle::StoppedCrashed), 1, "{seen:?}");
        assert_eq!(count(Lifecycle::StoppedFailed), 2, "{seen:?}");
    });
}

/// An event that is there already.
async fn next_now(events: &mut Subscription) -> Option<Event> {
    tokio::time::timeout(Duration::from_millis(50), events.next()).await.ok().flatten()
}

async fn lifecycle_until_stopped(events: &mut Subscription) -> Vec<Lifecycle> {
    let mut seen = Vec::new();
    loop {
        let event = super::rig::next(events).await;
        if let EventKind::Lifecycle { lifecycle, .. } = event.kind {
            seen.push(lifecycle);
            if lifecycle.words().0 == "Stopped" {
                return seen;
            }
        }
    }
}

#[test]
fn a_reboot_that_the_next_daemon_sees_ends_as_one() {
    let host = Host::new();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.define(host.xml("web", "deaf")).await;
        daemon.start("web").await.unwrap();
        daemon.call(RebootDomain { domain: "web".into(), modes: Vec::new() }).await.unwrap();
    });
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.type_in("web", "poweroff").await;
        let mut console = daemon.console("web").await;
        let mut seen = [0; 14];
        console.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"boot 1\nboot 2\n");
        drop(console);
        // And the next power-off is one.
        let start = Instant::now();
        while host
            .run_dirs()
            .first()
            .is_some_and(|dir| crate::domain::record::Record::read(dir).unwrap().rebooting)
        {
            assert!(start.elapsed() < Duration::from_secs(10), "the reboot does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        daemon.type_in("web", "poweroff").await;
        daemon.wait_for("web", "off", |state| state == State::ShutOff(ShutOff::Shutdown)).await;
    });
}

#[test]
fn a_lost_record_is_read_back_from_the_vmm() {
    let host = Host::new();
    let pid = in_a_daemon(async || {
        let daemon = host.daemon().await;
        let xml = host.xml("temp", "");
        daemon
            .call(CreateDomain { xml, cloud_init: None, paused: false, reset_variables: false })
            .await
            .unwrap();
        daemon.pid("temp").await
    });
    let record = host.run_dirs()[0].join(crate::domain::record::FILE);
    std::fs::write(record, "{ torn").unwrap();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        let handle = daemon.names().await;
        assert_eq!(handle.len(), 1);
        let found = daemon.find(&handle[0]).await.unwrap();
        assert!(matches!(found.state, State::Running(_)), "{found:?}");
        assert_eq!(found.name, "temp");
        assert_eq!(daemon.pid(&handle[0]).await, pid);
        daemon.destroy("temp").await.unwrap();
        assert!(host.run_dirs().is_empty());
    });
}

/// Makes cgroups that are directories of the test's.
struct WithCgroups {
    inner: TestBroker,
    groups: PathBuf,
}

impl Broker for WithCgroups {
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match request {
            Request::MakeCgroup { name } => {
                let path = self.groups.join(name);
                std::fs::create_dir_all(&path).unwrap();
                Ok(Granted::Path(path))
            }
            other => self.inner.perform(other, files),
        }
    }
}

#[test]
fn a_start_that_was_cut_short_before_it_wrote_anything_down_leaves_no_cgroup() {
    let host = Host::new();
    let groups = host.path("groups");
    let uuid = in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.define(host.xml("web", "")).await;
        daemon.find("web").await.unwrap().uuid
    });
    let run_dir = host.path("run/domains").join(uuid.to_string());
    for dir in [&run_dir, &groups.join(uuid.to_string())] {
        std::fs::create_dir_all(dir).unwrap();
    }
    in_a_daemon(async || {
        let broker = WithCgroups { inner: TestBroker::new(), groups: groups.clone() };
        let daemon = host.daemon_with(Arc::new(broker)).await;
        daemon.wait_for("web", "off", |state| !state.is_active()).await;
        let begun = Instant::now();
        while run_dir.exists() || std::fs::read_dir(&groups).unwrap().next().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(20), "something is left");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn domains_start_in_their_order_wherever_an_earlier_daemon_stopped() {
    let host = Host::new();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.manager.autostart().await;
        // By name the other way round; of one order the broken one holds nobody up.
        for (name, order) in [("c", 0), ("b", 10), ("broken", 10), ("a", 20)] {
            daemon.define(host.xml(name, if name == "broken" { "cannot-build" } else { "" })).await;
            let turn = TurnChange { order: Some(order), ..TurnChange::default() };
            let domain = name.into();
            daemon.call(SetAutostart { domain, autostart: true, turn }).await.unwrap();
        }
        let turn = TurnChange { delay: Some(4000), ..TurnChange::default() };
        let refused = daemon.call(SetAutostart { domain: "a".into(), autostart: true, turn }).await;
        assert_eq!(refused.unwrap_err().code, Code::InvalidArgument);
    });
    std::fs::remove_dir_all(host.path("run")).unwrap();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.manager.autostart().await;
        let mut ids = Vec::new();
        for name in ["c", "b", "a"] {
            ids.push(daemon.describe(name).await.summary.id.unwrap());
            daemon.destroy(name).await.unwrap();
        }
        assert!(ids.is_sorted(), "{ids:?}");
    });
    let marker = host.path("run").join("autostarted");
    let boot = std::fs::read_to_string(&marker).unwrap();
    // A daemon that died when it had begun with order 10.
    std::fs::write(&marker, format!("{} 10\n", boot.trim())).unwrap();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.manager.autostart().await;
        let active = async |name| daemon.state(name).await.is_active();
        assert!(active("a").await && !active("b").await && !active("c").await);
        daemon.destroy("a").await.unwrap();
    });
}

#[test]
fn domains_start_with_the_host_and_not_with_the_daemon() {
    let host = Host::new();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.manager.autostart().await;
        for name in ["auto", "manual", "broken"] {
            daemon.define(host.xml(name, if name == "broken" { "cannot-build" } else { "" })).await;
        }
        for name in ["auto", "broken"] {
            daemon
                .call(SetAutostart {
                    domain: name.into(),
                    autostart: true,
                    turn: Default::default(),
                })
                .await
                .unwrap();
        }
    });
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        daemon.manager.autostart().await;
        assert!(!daemon.state("auto").await.is_active(), "the daemon was restarted, not the host");
    });
    // The run directory does not outlast the host.
    std::fs::remove_dir_all(host.path("run")).unwrap();
    in_a_daemon(async || {
        let daemon = host.daemon().await;
        assert!(!daemon.state("auto").await.is_active());
        daemon.manager.autostart().await;
        assert!(daemon.state("auto").await.is_active());
        assert!(!daemon.state("manual").await.is_active());
        assert!(!daemon.state("broken").await.is_active());
    });
}
