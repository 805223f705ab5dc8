//! A guest that must not lose or repeat a step while it is saved, restored, taken back and cloned:
//! it counts, writes each number to its disk, and tells it over a TCP connection.
//!
//! Saving and cloning are nothing to its connection, which lasts. Going back is: what came after the
//! snapshot is gone by intent, also to the guest's side of the connection, and the other side has
//! heard it. So neither takes what the other says, the guest gives up after its retries, and counts
//! on over another one, from what the snapshot held.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::rig::{Daemon, LONG, Xml};

const BRIDGE: &str = "br-state";
const HERE: &str = "10.77.9.1";
const THERE: &str = "10.77.9.2";
const PORT: u16 = 5003;
/// Who listens there, also after a test that failed.
const LISTENER: &str = "/run/state-listener";
/// In memory: how long a disk of the host takes to write is another test's affair.
const SCRATCH: &str = "/run/state-images";
const BLOCK: usize = 512;
/// Room for as many numbers.
const BLOCKS: usize = 8192;
/// Of so many rounds one has a twin, and another goes back.
const EACH: u32 = 10;

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
    let rig = Rig::start()?;
    let mut last = rig.await_more(0)?;
    for round in 1..=count {
        rig.daemon.manor("managedsave state")?;
        rig.daemon.manor("start state")?;
        last = rig.await_more(last)?;
        if round % EACH == EACH / 2 || round == count {
            rig.clone_once(&format!("twin{round}"))?;
        }
        if round % EACH == 2 {
            last = rig.go_back_once(&format!("back{round}"))?;
        }
    }
    rig.check(last)?;
    println!("{count} rounds, {last} steps heard");
    rig.end()
}

/// A guest that counts, and who hears it.
struct Rig {
    daemon: Daemon,
    /// A directory with a file for each connection, named 0, 1, … as they came.
    heard: String,
}

impl Rig {
    fn start() -> Result<Rig> {
        let daemon = Daemon::start("state")?;
        let heard = format!("{}/heard", daemon.dir);
        daemon.host.sh(&format!(
            "kill $(cat {LISTENER}) 2>/dev/null || true
             ip link del {BRIDGE} 2>/dev/null || true
             ip link add {BRIDGE} type bridge
             ip addr add {HERE}/24 dev {BRIDGE}
             ip link set {BRIDGE} up
             rm -rf {SCRATCH}
             mkdir -p {SCRATCH} {heard}
             truncate -s {} {SCRATCH}/state.img
             cd {heard}
             nc -ll -p {PORT} -e sh -c 'cat >$(ls | wc -l)' >/dev/null 2>&1 </dev/null &
             echo $! >{LISTENER}",
            BLOCK * BLOCKS
        ))?;
        let words = format!("manor.blk=vda manor.ip={THERE}/24 manor.end=shell");
        let disk = format!("{SCRATCH}/state.img");
        let xml = Xml::new("state", &words).disk(&disk, "vda", "");
        daemon.define_and_start(&xml.bridge(BRIDGE, "52:54:00:00:77:09", ""))?;
        // A number is told only once it is on the disk. Whoever has no answer gives up after 13 s.
        daemon.shell("state")?.run(&format!(
            "echo 5 >/proc/sys/net/ipv4/tcp_retries2
             echo 0 >/tmp/n
             (while :; do
                 (n=$(cat /tmp/n); while :; do
                     n=$((n+1))
                     printf '%-511s\\n' $n | dd of=/dev/vda bs={BLOCK} seek=$n count=1 \
                         iflag=fullblock oflag=direct conv=notrunc,fsync 2>/dev/null
                     echo $n >/tmp/n
                     echo $n || exit
                     usleep 500000
                 done) | nc {HERE} {PORT} >/dev/null 2>&1
                 usleep 500000
             done) & true"
        ))?;
        Ok(Rig { daemon, heard })
    }

    /// The twin counts on by itself, on a disk of its own, and is not heard.
    fn clone_once(&self, name: &str) -> Result<()> {
        self.daemon.manor(&format!("clone state {name}"))?;
        let image = self.image(name)?;
        let first = self.steps(&image)?;
        let until = Instant::now() + LONG;
        while self.steps(&image)? < first + 3 {
            ensure!(Instant::now() < until, "{name} does not count on");
            std::thread::sleep(Duration::from_millis(200));
        }
        self.daemon.manor(&format!("destroy {name}"))?;
        self.daemon.manor(&format!("undefine {name}"))?;
        self.daemon.host.sh(&format!("rm -f {image}"))?;
        Ok(())
    }

    /// The guest counts on from a snapshot. How much is heard comes back.
    fn go_back_once(&self, name: &str) -> Result<usize> {
        let held = self.image("state")?;
        let memory = format!("file={SCRATCH}/{name}.mem,snapshot=external");
        self.daemon.manor(&format!("snapshot-create-as state {name} --memspec {memory} --live"))?;
        // Its interface is served by the host's kernel, and its memory is copied all the same.
        self.daemon
            .host
            .sh(&format!("! grep 'waits for its snapshot' {}/daemon.log", self.daemon.dir))?;
        let held_steps = self.steps(&held)?;
        let before = self.copy(&held, "before.raw")?;
        let connections = self.connections()?.len();
        let mut last = self.heard()?;
        for _ in 0..3 {
            last = self.await_more(last)?;
        }
        // What its disk stands on by now is a twin's ground, too.
        self.clone_once(&format!("{name}-twin"))?;
        let left = self.image("state")?;
        ensure!(self.steps(&left)? > held_steps + 1, "nothing came after the snapshot");

        self.daemon.manor(&format!("snapshot-revert state {name} --paused"))?;
        let now = self.image("state")?;
        ensure!(now != left && now != held, "it is in {now} again");
        let after = self.copy(&now, "after.raw")?;
        let compared = format!("cmp {before} {after} && rm {before} {after} && test ! -e {left}");
        self.daemon.host.sh(&compared).context("the disk is not what the snapshot held")?;
        self.daemon.manor("resume state")?;

        let until = Instant::now() + LONG;
        let first = loop {
            let heard = self.connections()?;
            ensure!(heard.len() <= connections + 1, "{} connections", heard.len());
            if let Some(first) = heard.get(connections).and_then(|numbers| numbers.first()) {
                break *first;
            }
            ensure!(Instant::now() < until, "no connection came after that of before {name}");
            std::thread::sleep(Duration::from_millis(200));
        };
        ensure!(first > held_steps, "{first} is heard, and the snapshot had {held_steps}");
        // Its images stay, and what the guest writes to goes on to lie on them.
        self.daemon.manor(&format!("snapshot-delete state {name} --metadata"))?;
        self.daemon.host.sh(&format!("rm {SCRATCH}/{name}.mem"))?;
        self.heard()
    }

    /// Everything that was heard, and what is on the disk.
    fn check(&self, last: usize) -> Result<()> {
        self.daemon.manor("destroy state")?;
        let connections = self.connections()?;
        let heard: usize = connections.iter().map(Vec::len).sum();
        ensure!(heard >= last && last > 0, "{heard} of {last}");
        for (number, heard) in connections.iter().enumerate() {
            if number == 0 {
                ensure!(heard.first() == Some(&1), "the first was {:?}", heard.first());
            }
            for pair in heard.windows(2) {
                ensure!(pair[1] == pair[0] + 1, "{} came after {}", pair[1], pair[0]);
            }
        }
        let steps = self.steps(&self.image("state")?)?;
        let told = connections.last().and_then(|heard| heard.last()).copied().unwrap_or(0);
        ensure!(steps >= told, "{steps} on the disk, {told} told");
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.daemon.manor("undefine state")?;
        let script = format!("kill $(cat {LISTENER}); ip link del {BRIDGE}; rm -rf {SCRATCH}");
        self.daemon.host.sh(&script)?;
        Ok(())
    }

    /// Where a domain's disk is.
    fn image(&self, domain: &str) -> Result<String> {
        let listed = self.daemon.manor(&format!("domblklist {domain}"))?;
        let mut lines = listed.lines().filter_map(|line| line.trim().strip_prefix("vda"));
        Ok(lines.next().with_context(|| format!("no vda in {listed}"))?.trim().to_owned())
    }

    /// What the guest has there, as it would read it.
    fn copy(&self, image: &str, name: &str) -> Result<String> {
        let format = if image.ends_with(".img") { "-f raw" } else { "-f qcow2" };
        let to = format!("{SCRATCH}/{name}");
        self.daemon
            .host
            .sh(&format!("rm -f {to}; manor image convert -U {format} {image} {to}"))?;
        Ok(to)
    }

    /// How many steps are on a disk, each in its block and none left out.
    fn steps(&self, image: &str) -> Result<usize> {
        let copy = self.copy(image, "steps.raw")?;
        // Of each block that holds a number, that number.
        let text = self.daemon.host.sh(&format!("tr -d ' \\000' <{copy}"))?;
        let numbers: Vec<usize> = text.lines().filter_map(|line| line.parse().ok()).collect();
        for (index, number) in numbers.iter().enumerate() {
            ensure!(*number == index + 1, "{image}: {number} lies after {index}");
        }
        Ok(numbers.len())
    }

    /// What each connection has told.
    fn connections(&self) -> Result<Vec<Vec<usize>>> {
        let script =
            format!("cd {}; for n in $(ls | sort -n); do echo =; cat $n; done", self.heard);
        let text = self.daemon.host.sh(&script)?;
        let numbers = |part: &str| {
            // The last line may be half there.
            let whole = part.rfind('\n').map_or("", |end| &part[..end]);
            whole.lines().filter_map(|line| line.parse().ok()).collect()
        };
        Ok(text.split("=\n").skip(1).map(numbers).collect())
    }

    fn heard(&self) -> Result<usize> {
        let script = format!("cat {}/* 2>/dev/null | wc -l", self.heard);
        Ok(self.daemon.host.sh(&script)?.trim().parse()?)
    }

    /// Returns what is heard when it is more than `last`.
    fn await_more(&self, last: usize) -> Result<usize> {
        let until = Instant::now() + LONG;
        loop {
            let count = self.heard()?;
            if count > last {
                return Ok(count);
            }
            ensure!(Instant::now() < until, "nothing more is heard after {last}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
