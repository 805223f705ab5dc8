//! `cargo xtask bench`: the same kernel and initrd under Manor and under Debian's QEMU,
//! alternately in one testbed run. Exit counts repeat within a few per cent whatever the load;
//! times are for ratios within one run only (docs/testing.md). `api` is the exception: daemons beside each
//! other on this machine.

mod api;
mod installed;
mod raw;
mod table;
mod vmm;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use manor_tests::testbed::{Disk, Options};
use manor_tests::{Testbed, guest, manor_binary, qemu, state};

use table::Table;
use vmm::{Guest, Vmm};

/// Its own instance: nothing else may run in it.
const NAME: &str = "bench";
const GUEST_MIB: u64 = 128;
const READS: u64 = 2000;
const PINGS: u64 = 1000;
const SENT_MIB: u64 = 16;
const KERNEL: &str = "/bench/vmlinux";
const INITRD: &str = "/bench/initrd";
const DISK: &str = "/bench/disk";
const BRIDGE: &str = "br-bench";
const TAP: &str = "tap-bench";
const MAC: &str = "52:54:00:be:0c:01";
const HOST_ADDRESS: &str = "10.78.0.1";
const GUEST_ADDRESS: &str = "10.78.0.2";
/// A boot takes seconds; whatever takes minutes hangs.
const LIMIT: Duration = Duration::from_secs(180);

#[derive(Args)]
pub(crate) struct Bench {
    #[arg(value_enum)]
    what: What,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these (may be repeated)
    #[arg(long, value_enum)]
    vmm: Vec<Vmm>,
    /// Keep the testbed for the next run
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// From exec to the first line of the guest's init
    Boot,
    /// Memory of the VMM beside the guest's, alone and as one of four
    Memory,
    /// Exits per read of 4 KiB
    Disk,
    /// Exits per round trip, and per MiB sent
    Net,
    /// An installed Debian, from exec to its login prompt
    Installed,
    /// Save, restore, snapshot and clone
    State,
    /// What libvirt's clients ask of daemons, of Manor and of libvirt on this machine; needs root
    Api,
}

/// One measurement: the names of the testbed agent's `measure`.
type Sample = BTreeMap<String, u64>;

pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    if bench.what == What::Api {
        return api::run(bench.rounds);
    }
    let mut options = Options::named(NAME);
    options.disks = vec![Disk { name: "qemu".into(), image: qemu::peer()? }];
    if bench.what == What::Installed {
        options.guest_disks = vec![installed::disk()?];
    }
    if bench.what == What::State {
        options.disks.push(state::libvirt_disk()?);
    }
    let host = Testbed::up(&options)?;
    let result = prepare(&host).and_then(|()| measure_all(bench, &host));
    if !bench.keep {
        Testbed::down(NAME)?;
    }
    result
}

fn prepare(host: &Testbed) -> anyhow::Result<()> {
    host.put(&guest::vmlinux()?, KERNEL)?;
    host.put(&guest::initrd()?, INITRD)?;
    host.put(&manor_binary()?, "/usr/bin/manor")?;
    installed::prepare(host)?;
    // Read by every VMM: keep it in the page cache, as a tmpfs file is.
    host.sh(&format!("test -f {DISK} || dd if=/dev/urandom of={DISK} bs=1M count=64"))?;
    host.sh(&format!(
        "test -d /sys/class/net/{BRIDGE} || {{
             ip link add {BRIDGE} type bridge
             ip addr add {HOST_ADDRESS}/24 dev {BRIDGE}
             ip link set {BRIDGE} up
             tunctl -t {TAP}
             ip link set {TAP} master {BRIDGE} up
         }}"
    ))?;
    Ok(())
}

fn measure_all(bench: &Bench, host: &Testbed) -> anyhow::Result<ExitCode> {
    let all = match bench.what {
        _ if !bench.vmm.is_empty() => &bench.vmm,
        What::Installed => &installed::VMMS[..],
        What::State => &vmm::WITH_A_STATE[..],
        _ => &vmm::ALONE[..],
    };
    if bench.what == What::State {
        let peers: Vec<_> = all.iter().filter_map(|vmm| vmm.peer()).collect();
        state::prepare(host, &peers)?;
    }
    let mut samples: BTreeMap<Vmm, Vec<Sample>> = BTreeMap::new();
    let mut failed = false;
    for round in 0..bench.rounds {
        // Alternately, so that a change of the machine's load meets all of them.
        for vmm in all {
            match measure(bench.what, *vmm, host) {
                Ok(sample) => samples.entry(*vmm).or_default().push(sample),
                Err(error) => {
                    eprintln!("{} in round {}: {error:#}", vmm.name(), round + 1);
                    failed = true;
                }
            }
        }
    }
    if samples.is_empty() {
        bail!("nothing was measured");
    }
    let mut table = Table::new(all.iter().copied().filter(|vmm| samples.contains_key(vmm)));
    for (title, value) in rows(bench.what) {
        table.row(title, &samples, value);
    }
    print!("{table}");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

type Value = fn(&Sample) -> Option<f64>;

fn rows(what: What) -> Vec<(&'static str, Value)> {
    fn field(sample: &Sample, name: &str) -> Option<f64> {
        sample.get(name).map(|value| *value as f64)
    }
    /// Exits that come with time, and so with load: the host's interrupts, and for each interrupt
    /// of the guest the window it waits for and the write that arms its timer anew.
    fn of_time(sample: &Sample) -> Option<f64> {
        let counters = ["irq_exits", "irq_window_exits", "irq_injections"];
        counters.iter().map(|name| field(sample, name)).sum()
    }
    match what {
        What::Installed => vec![
            ("exec to login, s", |s| Some(field(s, "elapsed_us")? / 1e6)),
            ("VM exits", |s| field(s, "exits")),
            ("… to user space", |s| field(s, "user_space_accesses")),
            ("user CPU of the VMM, s", |s| Some(field(s, "user_ms")? / 1e3)),
        ],
        // It has figures of its own.
        What::Api => Vec::new(),
        What::State => vec![
            ("save, s", |s| Some(field(s, "save")? / 100.0)),
            ("file, KiB", |s| field(s, "kib")),
            ("restore to running, s", |s| Some(field(s, "running")? / 100.0)),
            ("restore to first output, s", |s| Some(field(s, "output")? / 100.0)),
            ("longest ping at rest, ms", |s| Some(field(s, "rest")? / 1000.0)),
            ("snapshot of a disk, s", |s| Some(field(s, "snapshot")? / 100.0)),
            ("… longest ping meanwhile, ms", |s| Some(field(s, "snapshot_pause")? / 1000.0)),
            ("… with memory, ms", |s| Some(field(s, "memory_pause")? / 1000.0)),
            ("… with memory, live, ms", |s| Some(field(s, "live_pause")? / 1000.0)),
            ("clone of a running guest, s", |s| Some(field(s, "clone")? / 100.0)),
            ("… longest ping meanwhile, ms", |s| Some(field(s, "clone_pause")? / 1000.0)),
        ],
        What::Boot => vec![
            ("exec to init, s", |s| Some(field(s, "elapsed_us")? / 1e6)),
            ("VM exits", |s| field(s, "exits")),
            ("… beside time and interrupts", |s| Some(field(s, "exits")? - of_time(s)?)),
            ("… to user space", |s| field(s, "user_space_accesses")),
            // KVM's own chips and writes that wait in its ring included.
            ("ports", |s| field(s, "io_exits")),
            ("MMIO", |s| field(s, "mmio_exits")),
            ("user CPU of the VMM, s", |s| Some(field(s, "user_ms")? / 1e3)),
        ],
        What::Memory => vec![
            ("beside guest RAM, KiB: RSS", |s| field(s, "rss_kib")),
            ("… PSS, alone", |s| field(s, "pss_kib")),
            ("… PSS, each of four", |s| field(s, "of_four_pss_kib")),
            ("guest RAM, KiB", |s| field(s, "guest_pss_kib")),
        ],
        What::Disk => vec![
            ("VM exits per read", |s| Some(field(s, "exits")? / READS as f64)),
            ("… beside time and interrupts", |s| {
                // An injection is a read's completion, or a tick of the guest.
                let of_time = of_time(s)? - READS as f64;
                Some((field(s, "exits")? - of_time) / READS as f64)
            }),
            ("… to user space", |s| Some(field(s, "user_space_accesses")? / READS as f64)),
            ("reads per second", |s| Some(READS as f64 * 1e6 / field(s, "elapsed_us")?)),
        ],
        What::Net => vec![
            ("VM exits per round trip", |s| Some(field(s, "exits")? / PINGS as f64)),
            ("… to user space", |s| Some(field(s, "user_space_accesses")? / PINGS as f64)),
            ("round trips per second", |s| Some(PINGS as f64 * 1e6 / field(s, "elapsed_us")?)),
            ("VM exits per MiB sent", |s| Some(field(s, "send_exits")? / SENT_MIB as f64)),
            ("MiB sent per second", |s| Some(SENT_MIB as f64 * 1e6 / field(s, "send_elapsed_us")?)),
        ],
    }
}

fn measure(what: What, vmm: Vmm, host: &Testbed) -> anyhow::Result<Sample> {
    let hold = Guest { words: "manor.hold".into(), disk: false, net: false };
    match what {
        What::Boot => run_one(vmm, host, &hold, &["--until", "MANOR-GUEST-UP"]),
        What::State => match vmm.peer() {
            Some(peer) => state::measure(peer, host),
            None => bail!("the state of a guest is measured on q35"),
        },
        What::Api => bail!("daemons are measured on this machine"),
        What::Installed => {
            let command = installed::command(vmm, host)?;
            let marks = ["--until", installed::LOGIN];
            observe(host, &command, installed::GUEST_MIB, &marks, installed::LIMIT)
        }
        What::Memory => {
            let settled = ["--until", "MANOR-GUEST-UP", "--settle-ms", "2000"];
            let mut sample = run_one(vmm, host, &hold, &settled)?;
            let mut others = Vec::new();
            for index in 1..4 {
                let command = vmm.command(host, &hold, index)?;
                let words: Vec<_> = command.iter().map(String::as_str).collect();
                let mut other = host.spawn(&words)?;
                other.expect("MANOR-GUEST-UP", LIMIT)?;
                others.push(other);
            }
            let fourth = run_one(vmm, host, &hold, &settled)?;
            let pss = fourth.get("pss_kib").context("no pss_kib")?;
            sample.insert("of_four_pss_kib".into(), *pss);
            Ok(sample)
        }
        What::Disk => {
            let words = format!("manor.reads={READS}");
            let reader = Guest { words, disk: true, net: false };
            let marks = ["--from", "MANOR-READS-BEGIN", "--until", "MANOR-READS-END"];
            run_one(vmm, host, &reader, &marks)
        }
        What::Net => {
            let net = |what: String| Guest {
                words: format!("manor.ip={GUEST_ADDRESS}/24 manor.ping={HOST_ADDRESS} {what}"),
                disk: false,
                net: true,
            };
            let marks = ["--from", "MANOR-PINGS-BEGIN", "--until", "MANOR-PINGS-END"];
            let mut sample = run_one(vmm, host, &net(format!("manor.pings={PINGS}")), &marks)?;
            // Busybox's nc does not say when its input ends: who receives all closes.
            let sink = format!("head -c {} >/dev/null", SENT_MIB << 20);
            let _sink = host.spawn(&["nc", "-l", "-p", "5001", "-e", "sh", "-c", &sink])?;
            let marks = ["--from", "MANOR-SEND-BEGIN", "--until", "MANOR-SEND-END"];
            let sent = run_one(vmm, host, &net(format!("manor.send={SENT_MIB}")), &marks)?;
            sample.extend(sent.into_iter().map(|(name, value)| (format!("send_{name}"), value)));
            Ok(sample)
        }
    }
}

fn run_one(vmm: Vmm, host: &Testbed, guest: &Guest, marks: &[&str]) -> anyhow::Result<Sample> {
    observe(host, &vmm.command(host, guest, 0)?, GUEST_MIB, marks, LIMIT)
}

fn observe(
    host: &Testbed,
    command: &[String],
    guest_mib: u64,
    marks: &[&str],
    limit: Duration,
) -> anyhow::Result<Sample> {
    let mut argv = vec!["/init", "measure", "--guest-mib"];
    let guest_mib = guest_mib.to_string();
    argv.push(&guest_mib);
    argv.extend(marks);
    argv.push("--");
    argv.extend(command.iter().map(String::as_str));
    let text = host.command(&argv).timeout(limit).output()?.success()?;
    let mut sample = Sample::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(' ') else { bail!("not a measurement: {line}") };
        sample.insert(name.to_owned(), value.parse()?);
    }
    Ok(sample)
}
