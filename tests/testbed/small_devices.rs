//! The small devices with their drivers in an unmodified kernel: the balloon.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use manor_tests::Xml;

use crate::rig::{Daemon, LONG};

const MIB: u64 = 1 << 20;

/// Ask for the statistics until they are as wanted.
fn stats_until(daemon: &Daemon, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let end = Instant::now() + LONG;
    loop {
        let stats = daemon.api.get(&format!("/v1/domains/{name}/stats"))?.success()?.json()?;
        if wanted(&stats) {
            return Ok(stats);
        }
        if Instant::now() > end {
            bail!("the statistics stay {stats:#}");
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn actual(stats: &Value) -> u64 {
    stats["balloon"]["actual_bytes"].as_u64().unwrap_or(0)
}

#[test]
fn a_guest_gives_memory_back_and_gets_it_again_and_tells_of_it() -> Result<()> {
    let daemon = Daemon::start("balloon")?;
    let mut xml = Xml::new("balloon", "manor.end=shell");
    xml.memory_mib = 192;
    xml.domain = "<currentMemory unit='MiB'>160</currentMemory>".into();
    xml.balloon =
        "<memballoon model='virtio' freePageReporting='on'><stats period='1'/></memballoon>".into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("balloon")?;
    // What it was started with, without being asked again.
    stats_until(&daemon, "balloon", |stats| actual(stats) == 160 * MIB)?;
    // Memory that the guest has used and freed is given back when the balloon takes it.
    shell.run("dd if=/dev/zero of=/tmp/fill bs=1M count=60 2>/dev/null; rm /tmp/fill")?;
    daemon.manor("setmem balloon 96M")?;
    let stats = stats_until(&daemon, "balloon", |stats| actual(stats) == 96 * MIB)?;
    ensure!(stats["resident_bytes"].as_u64() < Some(170 * MIB), "{stats:#}");
    let told = stats_until(&daemon, "balloon", |stats| {
        stats["balloon"]["available_bytes"].as_u64().is_some_and(|bytes| bytes < 160 * MIB)
    })?;
    ensure!(told["balloon"]["unused_bytes"].is_u64(), "{told:#}");
    let text = daemon.manor("dommemstat balloon")?;
    for name in ["actual 98304\n", "swap_in ", "minor_fault ", "usable ", "last_update ", "rss "] {
        ensure!(text.contains(name), "no {name:?} in {text}");
    }
    daemon.manor("setmem balloon 192M")?;
    stats_until(&daemon, "balloon", |stats| actual(stats) == 192 * MIB)?;
    ensure!(shell.run("echo alive")?.contains("alive"));
    Ok(())
}
