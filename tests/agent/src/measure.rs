//! `/init measure`: what a virtual machine monitor costs, seen from its host's kernel.
//!
//! Runs a command, waits for a line of its guest, and prints one `name value` per line: time since
//! the start, KVM's exit counters, processor time, and memory beside the guest's. Counters are
//! read here because a look from outside would come milliseconds, and so exits, too late.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::returns;

const COUNTERS: [&str; 9] = [
    "exits",
    "io_exits",
    "mmio_exits",
    "halt_exits",
    "irq_exits",
    "irq_injections",
    "irq_window_exits",
    "pf_taken",
    "pf_mmio_spte_created",
];

struct Arguments {
    /// Count from this line of the guest instead of from the start.
    from: Option<String>,
    until: String,
    /// Mappings of at least this size are the guest's memory.
    guest_mib: u64,
    /// Wait so long after `until` before memory is looked at.
    settle: Duration,
    command: Vec<String>,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse(std::env::args().skip(2))?;
    let (program, rest) = arguments.command.split_first().context("no command to measure")?;
    returns::count()?;
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // In our own group: whoever ends us, at a time limit or by leaving, ends the monitor too.
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let result = observe(&arguments, &mut child, started);
    for pid in family(child.id()) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    child.wait()?;
    let mut out = std::io::stdout().lock();
    for (name, value) in result? {
        writeln!(out, "{name} {value}")?;
    }
    Ok(())
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Arguments> {
        let mut arguments = Arguments {
            from: None,
            until: String::new(),
            guest_mib: 128,
            settle: Duration::ZERO,
            command: Vec::new(),
        };
        while let Some(word) = words.next() {
            if word == "--" {
                arguments.command = words.collect();
                return Ok(arguments);
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--from" => arguments.from = Some(value),
                "--until" => arguments.until = value,
                "--guest-mib" => arguments.guest_mib = value.parse()?,
                "--settle-ms" => arguments.settle = Duration::from_millis(value.parse()?),
                _ => bail!("unknown option {word}"),
            }
        }
        bail!("no -- and command")
    }
}

fn observe(
    arguments: &Arguments,
    child: &mut Child,
    started: Instant,
) -> anyhow::Result<BTreeMap<String, u64>> {
    let output = child.stdout.take().context("the output is piped")?;
    let mut before = BTreeMap::new();
    let mut since = started;
    let mut wrote = String::new();
    let mut reached = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if arguments.from.as_ref().is_some_and(|from| line.contains(from)) {
            before = counters(child.id())?;
            since = Instant::now();
        }
        if line.contains(&arguments.until) {
            reached = true;
            break;
        }
        wrote.push_str(&line);
        wrote.push('\n');
        if line.contains("MANOR-FAIL") {
            break;
        }
    }
    if !reached {
        bail!("no {:?} from the guest; it wrote:\n{wrote}", arguments.until);
    }
    let elapsed = since.elapsed();
    let mut result = counters(child.id())?;
    for (name, value) in &mut result {
        // User time is a difference of two clocks, and may step back by a tick.
        *value = value.saturating_sub(before.get(name).copied().unwrap_or(0));
    }
    result.insert("elapsed_us".to_owned(), u64::try_from(elapsed.as_micros())?);
    std::thread::sleep(arguments.settle);
    for pid in family(child.id()) {
        // Launchers, which have no guest, come and go; what stays is the monitor.
        if let Some(memory) = memory(pid, arguments.guest_mib)? {
            for (name, kib) in memory {
                *result.entry(name.to_owned()).or_insert(0) += kib;
            }
        }
    }
    Ok(result)
}

/// KVM's counters of the family's machines, and its processor time.
fn counters(pid: u32) -> anyhow::Result<BTreeMap<String, u64>> {
    let family = family(pid);
    let mut sums = BTreeMap::new();
    let mut machines = 0;
    for entry in fs::read_dir("/sys/kernel/debug/kvm")? {
        // <thread that created it>-<descriptor>
        let dir = entry?.path();
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((thread, _)) = name.split_once('-') else { continue };
        let ours = |pid: &u32| Path::new(&format!("/proc/{pid}/task/{thread}")).exists();
        if !family.iter().any(ours) {
            continue;
        }
        machines += 1;
        for counter in COUNTERS {
            let text = fs::read_to_string(dir.join(counter)).unwrap_or_default();
            *sums.entry(counter.to_owned()).or_insert(0) += text.trim().parse().unwrap_or(0);
        }
    }
    if machines == 0 {
        bail!("the command has no virtual machine");
    }
    let ours = |thread: u32| {
        family.iter().any(|pid| Path::new(&format!("/proc/{pid}/task/{thread}")).exists())
    };
    sums.insert("user_space_accesses".to_owned(), returns::accesses(ours)?);
    for pid in family {
        let (user, guest) = ticks(pid).unwrap_or_default();
        // The kernel counts the guest's time as the process's own, too.
        *sums.entry("user_ms".to_owned()).or_insert(0) += user.saturating_sub(guest) * 10;
        *sums.entry("guest_ms".to_owned()).or_insert(0) += guest * 10;
    }
    Ok(sums)
}

/// The process and all that descend from it.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family
}

/// The fields after the command's name, which may hold spaces: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn ticks(pid: u32) -> Option<(u64, u64)> {
    let stat = stat(pid)?;
    Some((stat.get(11)?.parse().ok()?, stat.get(40)?.parse().ok()?))
}

/// What a process has in memory beside its guest's, and for its guest; nothing without a guest.
fn memory(pid: u32, guest_mib: u64) -> anyhow::Result<Option<[(&'static str, u64); 3]>> {
    let (mut rss, mut pss, mut guest) = (0, 0, None);
    let mut is_guest = false;
    for line in fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default().lines() {
        let number = || {
            let word = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
            word.context("smaps has numbers")
        };
        if line.starts_with("Size:") {
            is_guest = number()? >= guest_mib * 1024;
        } else if line.starts_with("Pss:") && is_guest {
            *guest.get_or_insert(0) += number()?;
        } else if line.starts_with("Pss:") {
            pss += number()?;
        } else if line.starts_with("Rss:") && !is_guest {
            rss += number()?;
        }
    }
    Ok(guest.map(|guest| [("rss_kib", rss), ("pss_kib", pss), ("guest_pss_kib", guest)]))
}
