//! Debian's own QEMU guest agent in a guest: asked, made to work, and asked to end its guest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use manor_tests::testbed::Outcome;
use manor_tests::{Xml, guest};

use crate::rig::{Daemon, LONG, Shell};

const CHANNEL: &str =
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";

fn until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + LONG;
    while !done()? {
        ensure!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

fn start_agent(shell: &mut Shell) -> Result<()> {
    shell.run("cp /agent/shutdown /sbin/shutdown; mkdir -p /var/run /usr/local/var/run")?;
    shell.run("port=$(grep -l guest_agent /sys/class/virtio-ports/*/name | cut -d/ -f5)")?;
    let ld = "/agent/lib/ld-linux-x86-64.so.2 --library-path /agent/lib /agent/qemu-ga";
    let how = "-m virtio-serial -t /run -f /run/qemu-ga.pid -l /tmp/agent.log";
    shell.run(&format!("({ld} {how} -p /dev/$port >/tmp/agent.out 2>&1 &)"))?;
    Ok(())
}

#[test]
fn a_stock_agent_is_asked_works_and_ends_its_guest() -> Result<()> {
    let daemon = Daemon::start("guest-agent")?;
    daemon.host.put(&guest::initrd_with_agent()?, "/guest/agent-initrd")?;
    let mut xml = Xml::new("asked", "manor.end=shell");
    xml.initrd = "/guest/agent-initrd".into();
    xml.memory_mib = 256;
    xml.devices = CHANNEL.into();
    daemon.define_and_start(&xml)?;
    let mut shell = daemon.shell("asked")?;
    let state = |state: &str| {
        let xml = daemon.manor("dumpxml asked")?;
        Ok(xml.contains(&format!("name='org.qemu.guest_agent.0' state='{state}'")))
    };
    ensure!(state("disconnected")?);
    let absent = daemon.refused("domhostname asked")?;
    ensure!(absent.contains("is not connected"), "{absent}");

    shell.run("hostname asked-itself; ip link set lo up")?;
    start_agent(&mut shell)?;
    until("the agent comes", || state("connected")).with_context(|| {
        shell.run("cat /tmp/agent.out /tmp/agent.log 2>/dev/null; true").unwrap_or_default()
    })?;
    ensure!(daemon.manor("domhostname asked")?.trim() == "asked-itself");
    let addresses = daemon.manor("domifaddr asked --source agent")?;
    ensure!(addresses.contains("lo ") && addresses.contains("127.0.0.1/8"), "{addresses}");
    let info = daemon.manor("guestinfo asked")?;
    ensure!(info.contains("hostname            : asked-itself\n"), "{info}");
    ensure!(info.contains("if.0.addr.0.addr    : 127.0.0.1\n"), "{info}");
    let time = daemon.manor("domtime asked")?;
    ensure!(time.starts_with("Time: ") && time.trim().len() > 14, "{time}");
    let pong = daemon.manor("qemu-agent-command asked '{\"execute\":\"guest-ping\"}'")?;
    ensure!(pong.trim() == "{\"return\":{}}", "{pong}");
    ensure!(daemon.manor("domfsfreeze asked")?.starts_with("Froze "));
    ensure!(daemon.manor("domfsthaw asked")?.starts_with("Thawed "));

    // Its output and its exit status are those of a program that ran here.
    let manor = format!("manor --connect {}/api.sock", daemon.dir);
    let script = format!("{manor} guest-exec asked -- /bin/sh -c 'echo out; echo err >&2; exit 3'");
    let ran = daemon.host.exec(&["/bin/sh", "-c", &script])?;
    ensure!(ran.outcome == Outcome::Code(3), "{:?}", ran.outcome);
    ensure!((ran.stdout().as_str(), ran.stderr().as_str()) == ("out\n", "err\n"));
    // An answer that is far larger than what lies between the guest and whoever asked: all arrives.
    let count = format!("{manor} guest-exec asked -- /bin/busybox seq 1 200000 | md5sum");
    let here = daemon.host.sh("busybox seq 1 200000 | md5sum")?;
    ensure!(daemon.host.sh(&count)? == here, "not all of a long answer arrived");

    daemon.kill_9()?;
    daemon.launch()?;
    daemon.api.await_ready(LONG)?;
    ensure!(daemon.manor("domhostname asked")?.trim() == "asked-itself");
    ensure!(state("connected")?);

    daemon.manor("shutdown asked --mode agent")?;
    until("the guest ends", || {
        Ok(daemon.manor("domstate asked --reason")?.trim() == "shut off (shutdown)")
    })
}
