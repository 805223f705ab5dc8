//! The host in figures, from /proc and /sys: of this computer, or of one that is made up.

mod capabilities;
mod cells;
mod processor;
mod same_pages;
mod sysinfo;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::ops::{NodeCounters, NodeDetails};

pub(crate) use capabilities::capabilities;
pub use cells::{Cell, CellCpu, PAGE, Pages};
pub(crate) use cells::{in_all, read_cells};
pub use processor::CpuComparison;
pub(crate) use processor::{Processor, baseline, compare};
pub use same_pages::SharedMemory;
pub(crate) use same_pages::shared_memory;
pub(crate) use sysinfo::describe as sysinfo;

const SECOND_NS: u64 = 1_000_000_000;

/// What runs guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    #[default]
    Kvm,
    /// None are run: this is for tests of what talks to the daemon.
    Test,
}

/// The computer that guests run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Where its /proc and /sys are.
    root: PathBuf,
    pub(crate) driver: Driver,
}

impl Host {
    /// This computer.
    #[must_use]
    pub fn own() -> Self {
        Self { root: "/".into(), driver: Driver::Kvm }
    }

    /// One that is made up: what would be read in its /proc and /sys lies below `root`.
    #[must_use]
    pub fn made_up(root: PathBuf) -> Self {
        Self { root, driver: Driver::Test }
    }

    pub(crate) fn sys(&self) -> PathBuf {
        self.root.join("sys")
    }

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        read(self.root.join(path))
    }

    /// All of its memory, KiB.
    pub(crate) fn memory(&self) -> u64 {
        kib(&self.read("proc/meminfo"), "MemTotal")
    }

    /// Of hugetlbfs where no size is named, KiB.
    pub(crate) fn huge_page_size(&self) -> u64 {
        kib(&self.read("proc/meminfo"), "Hugepagesize")
    }
}

pub(crate) fn details(host: &Host) -> NodeDetails {
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let cpuinfo = host.read("proc/cpuinfo");
    let memory = host.read("proc/meminfo");
    let shape = Shape::read(&host.sys());
    let nodes = count_dirs(&host.sys().join("devices/system/node"), "node").max(1);
    NodeDetails {
        hostname: host.read("proc/sys/kernel/hostname").trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: host.read("proc/sys/kernel/osrelease").trim().to_owned(),
        architecture: text(system.machine()),
        cpu_model: field(&cpuinfo, "model name").unwrap_or_default().to_owned(),
        cpus: shape.cpus,
        mhz: field(&cpuinfo, "cpu MHz")
            .and_then(|mhz| mhz.split('.').next()?.parse().ok())
            .unwrap_or(0),
        nodes,
        sockets: (shape.sockets / nodes).max(1),
        cores: shape.cores,
        threads: shape.threads,
        memory: kib(&memory, "MemTotal"),
        free_memory: kib(&memory, "MemAvailable"),
        counters: counters(&host.read("proc/stat"), "cpu", &memory),
        uptime: host
            .read("proc/uptime")
            .split('.')
            .next()
            .and_then(|s| s.parse().ok())
            .unwrap_or(0),
        quarantined: Vec::new(),
        degraded: Vec::new(),
    }
}

/// Of one of its CPUs; none: there is no such one, or it is off.
pub(crate) fn cpu_counters(host: &Host, cpu: u32) -> Option<NodeCounters> {
    let (stat, name) = (host.read("proc/stat"), format!("cpu{cpu}"));
    let is_there = stat.lines().any(|line| line.split_whitespace().next() == Some(&name));
    is_there.then(|| counters(&stat, &name, ""))
}

/// Of one line of /proc/stat: `cpu` is all of them, `cpu0` the first.
fn counters(stat: &str, cpu: &str, memory: &str) -> NodeCounters {
    let tick = SECOND_NS / rustix::param::clock_ticks_per_second().max(1);
    let of = |line: &&str| line.split_whitespace().next() == Some(cpu);
    let line = stat.lines().find(of).and_then(|line| line.strip_prefix(cpu)).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // proc_stat(5): user, nice, system, idle, iowait, irq, softirq.
    let time = |of: &[usize]| {
        let sum =
            of.iter().filter_map(|at| ticks.get(*at)).fold(0, |sum: u64, n| sum.saturating_add(*n));
        sum.saturating_mul(tick)
    };
    NodeCounters {
        user: time(&[0, 1]),
        system: time(&[2, 5, 6]),
        idle: time(&[3]),
        iowait: time(&[4]),
        free: kib(memory, "MemFree"),
        buffers: kib(memory, "Buffers"),
        cached: kib(memory, "Cached"),
    }
}

/// What a process and its threads have run, nanoseconds (`proc_pid_stat(5)`); 0 of one that is gone.
pub(crate) fn cpu_time(pid: u32) -> u64 {
    let tick = SECOND_NS / rustix::param::clock_ticks_per_second().max(1);
    let stat = read(format!("/proc/{pid}/stat"));
    // Fields 14 and 15; the name, field 2, may hold anything.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    let spent = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks = spent.filter_map(|ticks| ticks.parse().ok()).fold(0, u64::saturating_add);
    ticks.saturating_mul(tick)
}

/// On which of the host's CPUs each vCPU of a VMM ran last.
pub(crate) fn vcpu_places(pid: u32) -> BTreeMap<usize, u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let place = |thread: fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let vcpu = name.trim_end().strip_prefix("vcpu")?.parse().ok()?;
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        // Field 39; the name, field 2, may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        Some((vcpu, fields.split_ascii_whitespace().nth(36)?.parse().ok()?))
    };
    threads.filter_map(place).collect()
}

struct Shape {
    cpus: u32,
    sockets: u32,
    cores: u32,
    threads: u32,
}

impl Shape {
    fn read(sys: &Path) -> Self {
        let cpus = sys.join("devices/system/cpu");
        let online = xml_cpus(&read(cpus.join("online")));
        let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
        for cpu in &online {
            let place =
                |name: &str| read(cpus.join(format!("cpu{cpu}/topology/{name}"))).trim().to_owned();
            let socket = place("physical_package_id");
            cores.insert((socket.clone(), place("core_id")));
            sockets.insert(socket);
        }
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).max(1);
        let (cpus, sockets, cores) =
            (count(online.len()), count(sockets.len()), count(cores.len()));
        Self { cpus, sockets, cores: (cores / sockets).max(1), threads: (cpus / cores).max(1) }
    }
}

/// `0-3,8`
fn xml_cpus(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn kib(meminfo: &str, name: &str) -> u64 {
    let value = field(meminfo, name).and_then(|value| value.split(' ').next()?.parse().ok());
    value.unwrap_or(0)
}

fn count_dirs(dir: &Path, prefix: &str) -> u32 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let numbered = entries.filter(|entry| {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(prefix));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    });
    u32::try_from(numbered.count()).unwrap_or(u32::MAX)
}

pub(crate) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_grows_as_it_runs_and_one_that_is_gone_has_none() {
        let pid = std::process::id();
        let before = cpu_time(pid);
        let begun = std::time::Instant::now();
        while cpu_time(pid) == before {
            assert!(begun.elapsed().as_secs() < 20, "it stays {before}");
        }
        assert_eq!(cpu_time(u32::MAX), 0);
    }

    #[test]
    fn counters_are_nanoseconds_and_kib_and_what_is_absent_is_0() {
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let stat = "cpu  10 5 20 100 7 1 2 0 0 0\ncpu0 1 1 1 1\n";
        let found = counters(stat, "cpu", "MemFree:  12 kB\nBuffers: 3 kB\nCached: 4 kB\n");
        let expected = NodeCounters {
            user: 15 * tick,
            system: 23 * tick,
            idle: 100 * tick,
            iowait: 7 * tick,
            free: 12,
            buffers: 3,
            cached: 4,
        };
        assert_eq!(found, expected);
        assert_eq!(counters("", "cpu", ""), NodeCounters::default());
        let first = counters(stat, "cpu0", "");
        assert_eq!((first.user, first.system, first.idle), (2 * tick, tick, tick));
    }

    #[test]
    fn threads_that_are_no_vcpus_have_no_place() {
        let (tell, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("vcpu3".to_owned()).spawn(move || {
            let _ = ended.recv();
        });
        let start = std::time::Instant::now();
        while vcpu_places(std::process::id()).keys().ne([&3]) {
            assert!(start.elapsed().as_secs() < 20, "{:?}", vcpu_places(std::process::id()));
        }
        drop(tell);
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn this_host_has_figures() {
        let host = details(&Host::own());
        assert!(host.cpus > 0 && host.memory > 0 && host.uptime > 0, "{host:?}");
        assert_eq!(host.architecture, "x86_64");
        assert!(host.sockets * host.cores * host.threads <= host.cpus, "{host:?}");
        assert!(capabilities(&Host::own()).contains("<domain type='kvm'/>"));
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(xml_cpus("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(xml_cpus(""), Vec::<u32>::new());
    }
}
