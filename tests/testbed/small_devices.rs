//! The small devices with their drivers in an unmodified kernel: the balloon, vsock.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use manor_tests::Xml;

use crate::rig::{Daemon, LONG, SHORT};

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

/// What the guest runs: its busybox knows no vsock, so that the agent comes in on a disk.
fn with_agent(daemon: &Daemon, name: &str) -> Result<Xml> {
    let disk = format!("/mnt/scratch/{name}-agent.img");
    daemon.host.sh(&format!("cp /init {disk}; truncate -s 8M {disk}"))?;
    let mut xml = Xml::new(name, "manor.end=shell").disk(&disk, "vda", "");
    xml.devices.push_str("<vsock model='virtio'><cid auto='yes'/></vsock>");
    Ok(xml)
}

/// Both ways, half-closes included, with a pause in between. `call` and `listen`: the words by which
/// the host's `/init vsock` finds the guest.
fn talk_over_vsock(daemon: &Daemon, name: &str, call: &str, listen: &[&str]) -> Result<()> {
    let host = &daemon.host;
    let mut shell = daemon.shell(name)?;
    shell.run("cat /dev/vda >/tmp/agent; chmod +x /tmp/agent")?;
    shell.run("(/tmp/agent vsock listen 5000 >/tmp/heard 2>&1 &)")?;
    shell.run("until grep -q LISTENS /tmp/heard; do usleep 50000; done")?;
    let answers =
        host.sh(&format!("(echo hello; sleep 1; echo again) | /init vsock call {call} 5000"))?;
    ensure!(answers == "echo hello\necho again\n", "{answers}");

    // The host is 2.
    let mut listener = host.spawn(&[&["/init", "vsock", "listen"], listen, &["5001"]].concat())?;
    listener.expect("VSOCK-LISTENS", SHORT)?;
    shell.run("mkfifo /tmp/say; (/tmp/agent vsock call 2 5001 </tmp/say >/tmp/heard 2>&1 &)")?;
    shell.run("exec 5>/tmp/say; echo one >&5")?;
    daemon.post(name, "suspend")?;
    daemon.post(name, "resume")?;
    shell.run("echo two >&5; exec 5>&-; until grep -q two /tmp/heard; do usleep 50000; done")?;
    let heard = shell.run("cat /tmp/heard")?;
    ensure!(heard.contains("echo one") && heard.contains("echo two"), "{heard}");
    Ok(())
}

#[test]
fn host_and_guest_talk_over_vsock_in_both_directions() -> Result<()> {
    let daemon = Daemon::start("vsock")?;
    daemon.host.sh("modprobe vhost_vsock; mknod /dev/vhost-vsock c 10 241 2>/dev/null || true")?;
    daemon.define_and_start(&with_agent(&daemon, "vsock")?)?;
    let live = daemon.manor("dumpxml vsock")?;
    let (_, rest) = live.split_once("<cid auto='yes' address='").unwrap_or_default();
    let cid: u32 = rest.split('\'').next().unwrap_or_default().parse()?;
    ensure!(cid >= 3, "{live}");
    talk_over_vsock(&daemon, "vsock", &cid.to_string(), &[])?;

    // Its address is taken.
    let mut other = Xml::new("vsock-other", "manor.end=shell");
    let taken = format!("<vsock model='virtio'><cid auto='no' address='{cid}'/></vsock>");
    other.devices.push_str(&taken);
    daemon.define(&other)?;
    let refused = daemon.refused("start vsock-other")?;
    ensure!(refused.contains(&format!("CID) {cid}")), "{refused}");
    Ok(())
}

#[test]
fn without_the_hosts_kernel_vsock_goes_through_a_socket_which_outlives_the_daemon() -> Result<()> {
    let daemon = Daemon::start("vsock-socket")?;
    // As on a host without the module, whichever test came before.
    daemon.host.sh("rm -f /dev/vhost-vsock")?;
    daemon.define_and_start(&with_agent(&daemon, "vsock-socket")?)?;
    daemon.await_guest("vsock-socket")?;
    let find = format!("find {}/run -name vsock.sock", daemon.dir);
    let socket = daemon.host.sh(&find)?.trim().to_owned();
    daemon.kill_9()?;
    daemon.launch()?;
    daemon.api.await_ready(SHORT)?;
    talk_over_vsock(&daemon, "vsock-socket", &socket, &[&socket])?;
    let refused = crate::rig::refused(&daemon.host, &format!("/init vsock call {socket} nowhere"))?;
    ensure!(refused.contains("say CONNECT PORT or LISTEN PORT"), "{refused}");
    Ok(())
}
