//! The main job: two guests side by side on a bridge, and a daemon that may die under them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::rig::{Daemon, LONG, SHORT, Shell, Xml, ticks};

const ADDRESSES: [&str; 2] = ["10.77.2.2", "10.77.2.3"];
const NAMES: [&str; 2] = ["side-a", "side-b"];

#[test]
fn two_guests_ping_each_other_outlive_the_daemon_and_obey_the_next_one() -> Result<()> {
    let daemon = Daemon::start("side")?;
    daemon.host.sh("ip link del br-side 2>/dev/null || true
         ip link add br-side type bridge
         ip addr add 10.77.2.1/24 dev br-side
         ip link set br-side up")?;
    let mut events = daemon.api.events(None)?;
    for index in 0..2 {
        daemon.define_and_start(&definition(index))?;
    }
    let started = events.expect(SHORT, |event| is(event, NAMES[1], "Started"))?;
    let mut guests = [daemon.shell(NAMES[0])?, daemon.shell(NAMES[1])?];
    ping_each_other(&mut guests)?;
    let before = pids(&daemon)?;

    // Killed like by a power failure, while the guests work.
    let last = [guests[0].tick()?, guests[1].tick()?];
    daemon.kill_9()?;
    drop(events);
    std::thread::sleep(Duration::from_secs(1));
    daemon.launch()?;
    daemon.api.await_ready(SHORT)?;
    let adopted = Instant::now();
    for name in NAMES {
        daemon.api.await_state(name, "running", SHORT)?;
    }
    // Two seconds on hardware; the emulated host is ten times slower.
    ensure!(adopted.elapsed() < Duration::from_secs(20), "adopted after {:?}", adopted.elapsed());
    println!("adopted {:?} after the daemon answered", adopted.elapsed());
    assert_eq!(pids(&daemon)?, before, "the same processes");
    let mut guests = [daemon.shell_again(NAMES[0])?, daemon.shell_again(NAMES[1])?];
    for (guest, last) in guests.iter_mut().zip(last) {
        let now = guest.tick()?;
        ensure!(now > last, "tick {now} after {last}: the guest began anew");
        let all = ticks(guest.console.text());
        ensure!(all.is_sorted(), "a counter went back: {all:?}");
    }
    ping_each_other(&mut guests)?;

    // A client that saw the start goes on after it, over the daemon's death.
    let id = started["id"].as_u64();
    let mut events = daemon.api.events(id)?;
    suspend_and_resume(&daemon, &mut guests[0])?;
    events.expect(SHORT, |event| is(event, NAMES[0], "Suspended"))?;
    events.expect(SHORT, |event| is(event, NAMES[0], "Resumed"))?;

    link_down_and_up(&daemon, &mut guests)?;

    let [mut first, second] = guests;
    // From inside, and through the API: by the power button, and the hard way.
    first.last("reboot -f")?;
    first.await_prompt()?;
    first.console.forget();
    daemon.post(NAMES[0], "reset")?;
    first.await_prompt()?;
    first.run("true")?;
    daemon.api.await_state(NAMES[0], "running", SHORT)?;
    assert_eq!(pids(&daemon)?, before, "a reboot needs no new process");

    drop((first, second));
    daemon.post(NAMES[0], "shutdown")?;
    let off = daemon.api.await_state(NAMES[0], "shut-off", LONG)?;
    assert_eq!(off["reason"], "shutdown", "{off}");
    daemon.post(NAMES[1], "destroy")?;
    let off = daemon.api.await_state(NAMES[1], "shut-off", SHORT)?;
    assert_eq!(off["reason"], "destroyed", "{off}");
    // Nothing stays: no tap, no process, no control socket.
    assert_eq!(daemon.host.sh("ls /sys/class/net/br-side/brif")?, "");
    for pid in before {
        daemon.host.sh(&format!("test ! -e /proc/{pid}"))?;
    }
    for name in NAMES {
        daemon.api.delete(&format!("/v1/domains/{name}"))?.success()?;
    }
    let list = daemon.api.get("/v1/domains")?.success()?.json()?;
    assert_eq!(list["domains"], Value::Array(Vec::new()));
    daemon.host.sh("ip link del br-side")?;
    Ok(())
}

fn definition(index: usize) -> Xml {
    let words = format!("manor.ip={}/24 manor.tick=200 manor.end=shell", ADDRESSES[index]);
    let mut xml =
        Xml::new(NAMES[index], &words).bridge("br-side", &format!("52:54:00:00:77:1{index}"), "");
    xml.vcpus = 2;
    xml
}

fn is(event: &Value, name: &str, lifecycle: &str) -> bool {
    event["name"] == name && event["lifecycle"] == lifecycle
}

fn ping_each_other(guests: &mut [Shell; 2]) -> Result<()> {
    for (guest, peer) in guests.iter_mut().zip([ADDRESSES[1], ADDRESSES[0]]) {
        let text = guest.run(&format!("ping -c 2 -W 5 {peer}"))?;
        ensure!(text.contains("2 packets received"), "{text}");
    }
    Ok(())
}

fn pids(daemon: &Daemon) -> Result<Vec<u64>> {
    NAMES
        .iter()
        .map(|name| {
            let domain = daemon.api.get(&format!("/v1/domains/{name}"))?.success()?.json()?;
            domain["pid"].as_u64().ok_or_else(|| anyhow::anyhow!("no pid in {domain}"))
        })
        .collect()
}

fn suspend_and_resume(daemon: &Daemon, guest: &mut Shell) -> Result<()> {
    daemon.post(NAMES[0], "suspend")?;
    assert_eq!(daemon.api.state(NAMES[0])?["state"], "paused");
    while !guest.console.read(Duration::from_millis(500))?.is_empty() {}
    // Five ticks' time without one.
    let silent = guest.console.read(Duration::from_secs(1))?;
    assert_eq!(silent, "", "a paused guest wrote");
    daemon.post(NAMES[0], "resume")?;
    assert_eq!(daemon.api.state(NAMES[0])?["state"], "running");
    guest.tick()?;
    Ok(())
}

fn link_down_and_up(daemon: &Daemon, guests: &mut [Shell; 2]) -> Result<()> {
    let tap = daemon.host.sh("ls /sys/class/net/br-side/brif | head -n 1")?;
    let tap = tap.trim();
    ensure!(!tap.is_empty(), "no tap on the bridge");
    daemon.host.sh(&format!("ip link set {tap} nomaster"))?;
    let failed = guests[0].run(&format!("! ping -c 1 -W 1 {}", ADDRESSES[1]))?;
    ensure!(failed.contains("100% packet loss"), "{failed}");
    daemon.host.sh(&format!("ip link set {tap} master br-side"))?;
    ping_each_other(guests)
}
