//! Threads of a VMM: which CPUs they run on, and how much CPU time kinds of them have. Known by
//! their names, which a VMM could change: it would only deal out its own share differently.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::limits::{CpuQuota, enable_below};
use crate::{BrokerError, ProcessId};

/// Threads that start meanwhile are looked for again; new ones are made by those that are tuned.
const MOST_PASSES: usize = 8;

/// Which threads, as libvirt tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threads {
    Vcpu(u16),
    /// Of `<iothreads>`.
    IoThread(u32),
    /// All the others.
    Emulator,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadRule {
    pub threads: Threads,
    /// Where they run: none, as it is; empty, everywhere.
    pub cpus: Option<Vec<u16>>,
    /// What each kind has; none: no limit.
    pub quota: Option<CpuQuota>,
}

impl Threads {
    /// The name of a sub-cgroup, libvirt's.
    fn group(self) -> String {
        match self {
            Self::Vcpu(index) => format!("vcpu{index}"),
            Self::IoThread(id) => format!("iothread{id}"),
            Self::Emulator => "emulator".to_owned(),
        }
    }

    /// By the name that the VMM gave a thread.
    fn of(name: &str) -> Self {
        let number = |prefix| name.strip_prefix(prefix).map(str::parse::<u32>);
        if let Some(Ok(index)) = number("vcpu")
            && let Ok(index) = u16::try_from(index)
        {
            return Self::Vcpu(index);
        }
        match number("iothread") {
            Some(Ok(id)) => Self::IoThread(id),
            _ => Self::Emulator,
        }
    }
}

/// Put `rules` into force in a process.
pub(crate) fn tune(
    process: ProcessId,
    cgroup: Option<&Path>,
    rules: &[ThreadRule],
) -> Result<(), BrokerError> {
    // Held, so that its number stays its own meanwhile.
    let held = process.open().ok_or(BrokerError::OtherProcess { pid: process.pid })?;
    for rule in rules {
        prepare(cgroup, rule)?;
    }
    let mut seen = BTreeSet::new();
    for _ in 0..MOST_PASSES {
        let mut new = false;
        for (thread, kind) in threads(process.pid)? {
            if seen.insert(thread) {
                new = true;
                if let Some(rule) = rules.iter().find(|rule| rule.threads == kind) {
                    apply(thread, cgroup, rule)?;
                }
            }
        }
        if !new {
            break;
        }
    }
    drop(held);
    Ok(())
}

fn threads(pid: u32) -> Result<Vec<(i32, Threads)>, BrokerError> {
    let dir = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&dir).map_err(BrokerError::host(format!("read {dir}")))?;
    let found = entries.flatten().filter_map(|entry| {
        let thread = entry.file_name().to_str()?.parse().ok()?;
        // None: it has just ended.
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((thread, Threads::of(name.trim_end())))
    });
    Ok(found.collect())
}

/// The sub-cgroup, where there is a quota or was one.
fn prepare(cgroup: Option<&Path>, rule: &ThreadRule) -> Result<(), BrokerError> {
    let Some(cgroup) = cgroup else {
        return match rule.quota {
            None => Ok(()),
            Some(_) => Err(BrokerError::NoController {
                controller: "cpu".into(),
                reason: "the domain has no cgroup".to_owned(),
            }),
        };
    };
    let group = cgroup.join(rule.threads.group());
    if rule.quota.is_none() && !group.exists() {
        return Ok(());
    }
    let write = |file: &str, value: String| {
        let path = group.join(file);
        std::fs::write(&path, &value).map_err(|source| BrokerError::Limit { path, value, source })
    };
    if !group.exists() {
        std::fs::create_dir(&group)
            .map_err(BrokerError::host(format!("make {}", group.display())))?;
    }
    let kind = std::fs::read_to_string(group.join("cgroup.type")).unwrap_or_default();
    if kind.trim() != "threaded" {
        write("cgroup.type", "threaded".to_owned())?;
    }
    enable_below(cgroup, &["cpu"])?;
    write("cpu.max", CpuQuota::text(rule.quota))
}

fn apply(thread: i32, cgroup: Option<&Path>, rule: &ThreadRule) -> Result<(), BrokerError> {
    if let Some(cpus) = &rule.cpus {
        pin(thread, cpus)?;
    }
    let group =
        cgroup.map(|cgroup| cgroup.join(rule.threads.group())).filter(|group| group.exists());
    let Some(group) = group else { return Ok(()) };
    let path = group.join("cgroup.threads");
    let value = thread.to_string();
    match std::fs::write(&path, &value) {
        // It has just ended.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map_err(|source| BrokerError::Limit { path, value, source }),
    }
}

fn pin(thread: i32, cpus: &[u16]) -> Result<(), BrokerError> {
    let mut set = CpuSet::new();
    let listed = cpus.iter().map(|cpu| usize::from(*cpu)).filter(|cpu| *cpu < CpuSet::MAX_CPU);
    match cpus.is_empty() {
        true => (0..CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu)),
        false => listed.for_each(|cpu| set.set(cpu)),
    }
    match sched_setaffinity(Pid::from_raw(thread), &set) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => {
            Err(BrokerError::host(format!("let a thread run on CPUs {cpus:?}"))(errno.into()))
        }
    }
}

/// The sub-cgroups, which go before their parent can.
pub(super) fn remove_groups(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_apart_by_their_names() {
        for (name, kind) in [
            ("vcpu0", Threads::Vcpu(0)),
            ("vcpu63", Threads::Vcpu(63)),
            ("iothread2", Threads::IoThread(2)),
            ("blk:vda", Threads::Emulator),
            ("manor", Threads::Emulator),
            ("vcpux", Threads::Emulator),
        ] {
            assert_eq!(Threads::of(name), kind, "{name}");
        }
    }

    #[test]
    fn a_thread_of_a_process_is_pinned_and_let_go_again() {
        let (tell, ended) = std::sync::mpsc::channel::<()>();
        let (id, its) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("vcpu7".to_owned()).spawn(move || {
            id.send(rustix::thread::gettid()).unwrap();
            let _ = ended.recv();
        });
        let thread_id = its.recv().unwrap();
        let allowed = || {
            let set = rustix::thread::sched_getaffinity(Some(thread_id)).unwrap();
            (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>()
        };
        let all = allowed();
        let first = u16::try_from(all[0]).unwrap();
        let process = ProcessId::of(std::process::id()).unwrap();
        let rule = |cpus| ThreadRule { threads: Threads::Vcpu(7), cpus, quota: None };
        tune(process, None, &[rule(Some(vec![first]))]).unwrap();
        assert_eq!(allowed(), [all[0]]);
        tune(process, None, &[rule(None)]).unwrap();
        assert_eq!(allowed(), [all[0]], "nothing was said of it");
        tune(process, None, &[rule(Some(Vec::new()))]).unwrap();
        assert_eq!(allowed(), all);
        let quota = Some(CpuQuota { quota: 1000, period: 10_000 });
        let limited = ThreadRule { threads: Threads::Vcpu(7), cpus: None, quota };
        let error = tune(process, None, &[limited]).unwrap_err();
        assert!(error.to_string().contains("the domain has no cgroup"), "{error}");
        drop(tell);
        thread.unwrap().join().unwrap();
    }
}
