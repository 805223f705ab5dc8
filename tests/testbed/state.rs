//! A guest that must not lose or repeat a step while it is saved, restored and cloned: it counts,
//! writes each number to its disk, and sends it over a TCP connection that lasts all the while.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::rig::{Daemon, LONG, Xml};

const BRIDGE: &str = "br-state";
const HERE: &str = "10.77.9.1";
const THERE: &str = "10.77.9.2";
const DISK: &str = "/mnt/scratch/state.img";
const BLOCK: usize = 4096;
/// Room for as many numbers.
const BLOCKS: usize = 8192;
/// The twin of each so many rounds.
const CLONED_EACH: u32 = 10;

#[test]
fn a_guest_loses_and_repeats_no_step_over_a_few_rounds() -> Result<()> {
    rounds(3)
}

#[test]
#[ignore = "takes long: --all"]
fn a_guest_loses_and_repeats_no_step_over_a_hundred_rounds() -> Result<()> {
    rounds(100)
}

fn rounds(count: u32) -> Result<()> {
    let daemon = Daemon::start("state")?;
    let heard = format!("{}/heard", daemon.dir);
    // Busybox's nc hears nothing once it has nothing more to say.
    daemon.host.sh(&format!(
        "ip link del {BRIDGE} 2>/dev/null || true
         ip link add {BRIDGE} type bridge
         ip addr add {HERE}/24 dev {BRIDGE}
         ip link set {BRIDGE} up
         rm -f /mnt/scratch/*state*.img
         truncate -s {} {DISK}
         sleep 3600 </dev/null 2>/dev/null | nc -l -p 5003 >{heard} 2>/dev/null &",
        BLOCK * BLOCKS
    ))?;
    let words = format!("manor.blk=vda manor.ip={THERE}/24 manor.end=shell");
    let xml =
        Xml::new("state", &words).disk(DISK, "vda", "").bridge(BRIDGE, "52:54:00:00:77:09", "");
    daemon.define_and_start(&xml)?;
    let mut guest = daemon.shell("state")?;
    // A number is heard only once it is on the disk.
    guest.run(&format!(
        "(n=0; while :; do
             n=$((n+1))
             printf '%-4095s\\n' $n | dd of=/dev/vda bs={BLOCK} seek=$n count=1 iflag=fullblock \
                 oflag=direct conv=notrunc 2>/dev/null
             echo $n
             usleep 50000
         done) | nc {HERE} 5003 >/dev/null 2>&1 & true"
    ))?;
    drop(guest);
    let mut last = await_more(&daemon, &heard, 0)?;
    for round in 1..=count {
        daemon.manor("managedsave state")?;
        daemon.manor("start state")?;
        if round % CLONED_EACH == CLONED_EACH / 2 || round == count {
            clone_once(&daemon, &format!("twin{round}"))?;
        }
        last = await_more(&daemon, &heard, last)?;
    }
    daemon.manor("destroy state")?;
    let heard = daemon.host.sh(&format!("cat {heard}"))?;
    let heard: Vec<usize> = heard.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(heard.len() >= last && !heard.is_empty(), "{} of {last}", heard.len());
    for (index, number) in heard.iter().enumerate() {
        ensure!(*number == index + 1, "step {number} came after {index}");
    }
    let steps = steps(&daemon, DISK)?;
    ensure!(steps >= heard.len(), "{steps} on the disk, {} heard", heard.len());
    println!("{count} rounds, {steps} steps");
    daemon.manor("undefine state")?;
    daemon.host.sh(&format!("ip link del {BRIDGE}; rm -f /mnt/scratch/*state*.img"))?;
    Ok(())
}

/// The twin counts on by itself, on a disk of its own, and is not heard.
fn clone_once(daemon: &Daemon, name: &str) -> Result<()> {
    daemon.manor(&format!("clone state {name}"))?;
    let image = format!("/mnt/scratch/{name}-vda.img");
    let first = steps(daemon, &image)?;
    let until = Instant::now() + LONG;
    while steps(daemon, &image)? < first + 3 {
        ensure!(Instant::now() < until, "{name} does not count on");
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.manor(&format!("destroy {name}"))?;
    daemon.manor(&format!("undefine {name}"))?;
    daemon.host.sh(&format!("rm -f {image}"))?;
    Ok(())
}

/// How many steps are on a disk, each in its block and none left out.
fn steps(daemon: &Daemon, image: &str) -> Result<usize> {
    // Of each block that holds a number, that number.
    let text = daemon.host.sh(&format!("tr -d ' \\000' <{image}"))?;
    let numbers: Vec<usize> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for (index, number) in numbers.iter().enumerate() {
        ensure!(*number == index + 1, "{image}: {number} lies after {index}");
    }
    Ok(numbers.len())
}

/// Returns what is heard when it is more than `last`.
fn await_more(daemon: &Daemon, heard: &str, last: usize) -> Result<usize> {
    let until = Instant::now() + LONG;
    loop {
        let count: usize = daemon.host.sh(&format!("wc -l <{heard}"))?.trim().parse()?;
        if count > last {
            return Ok(count);
        }
        ensure!(Instant::now() < until, "nothing more is heard after {last}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
