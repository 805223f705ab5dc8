//! Many domains started and stopped at once: every call ends, and nothing is left behind, not even
//! a descriptor.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::rig::{Daemon, Host};
use crate::ops::{CreateDomain, GetAllStats, ListDomains};

const ROLE: &str = "MANOR_TEST_STORM";
const DOMAINS: usize = 12;
const ROUNDS: usize = 4;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn round(daemon: &Daemon, host: &Host) {
    let each = (0..DOMAINS).map(async |number| {
        let name = format!("d{number}");
        if number % 2 == 0 {
            daemon.start(&name).await.unwrap();
        } else {
            let xml = host.xml(&format!("t{number}"), "");
            daemon
                .call(CreateDomain { xml, cloud_init: None, paused: false, reset_variables: false })
                .await
                .unwrap();
        }
        daemon.call(GetAllStats).await.unwrap();
        daemon.call(ListDomains::default()).await.unwrap();
        let name = if number % 2 == 0 { name } else { format!("t{number}") };
        daemon.destroy(&name).await.unwrap();
    });
    join_all(each).await;
}

/// In a process of its own, where nobody else opens files.
#[tokio::test(flavor = "multi_thread")]
async fn plays_the_storm_when_it_is_started_as_one() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let host = Arc::new(Host::new());
    let daemon = host.daemon().await;
    for number in (0..DOMAINS).step_by(2) {
        daemon.define(host.xml(&format!("d{number}"), "")).await;
    }
    round(&daemon, &host).await;
    let before = descriptors();
    for _ in 0..ROUNDS {
        round(&daemon, &host).await;
    }
    assert_eq!(daemon.names().await.len(), DOMAINS / 2, "the transient ones are gone");
    assert!(host.run_dirs().is_empty());
    // A connection's tasks end a moment after its process.
    let start = Instant::now();
    while descriptors() > before {
        assert!(start.elapsed() < Duration::from_secs(10), "{} from {before}", descriptors());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_storm_of_starts_and_stops_leaves_nothing_behind() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::storm::plays_the_storm_when_it_is_started_as_one"])
        .env(ROLE, "yes")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
