//! What a process may do, as the kernel says it: not what was meant.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One thing that a process may do, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityFact {
    pub name: String,
    pub value: String,
    /// As it should be for a process that a guest may have taken over.
    pub confined: bool,
}

/// Namespaces that a VMM has for itself, as `/proc/PID/ns` names them.
const NAMESPACES: [&str; 5] = ["mnt", "net", "ipc", "uts", "pid"];

/// Fact by fact; empty when the process is gone. Blocks.
pub(crate) fn facts(pid: u32) -> Vec<SecurityFact> {
    let process = Process::new(pid);
    let Some(status) = process.text("status") else { return Vec::new() };
    let mut facts = status_facts(&status);
    facts.push(process.namespaces());
    facts.push(process.root());
    facts.extend(process.limits());
    facts.push(process.files());
    if let Some(cgroup) = process.text("cgroup") {
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        facts.push(fact("Cgroup", path, path != "/"));
    }
    facts
}

fn fact(name: &str, value: impl Into<String>, confined: bool) -> SecurityFact {
    SecurityFact { name: name.to_owned(), value: value.into(), confined }
}

/// Of `/proc/PID/status` (proc_pid_status(5)).
fn status_facts(status: &str) -> Vec<SecurityFact> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    };
    // The real, effective, saved and file-system ids.
    let id = |name| -> Option<u32> {
        let mut ids = field(name).split_ascii_whitespace().map(str::parse);
        let first = ids.next()?.ok()?;
        ids.all(|id| id == Ok(first)).then_some(first)
    };
    let who = |name: &str, id: Option<u32>| match id {
        Some(id) => fact(name, id.to_string(), id != 0),
        None => fact(name, "several", false),
    };
    let groups = field("Groups");
    let sets = [("effective", "CapEff"), ("permitted", "CapPrm"), ("bounding", "CapBnd")];
    let held: Vec<_> = sets
        .into_iter()
        .filter(|(_, name)| u64::from_str_radix(field(name), 16) != Ok(0))
        .map(|(words, name)| format!("{words} {}", field(name)))
        .collect();
    let filters = field("Seccomp_filters");
    let filtered = field("Seccomp") == "2";
    vec![
        who("User", id("Uid")),
        who("Group", id("Gid")),
        fact("Groups", if groups.is_empty() { "none" } else { groups }, groups.is_empty()),
        fact(
            "Capabilities",
            if held.is_empty() { "none".to_owned() } else { held.join(", ") },
            held.is_empty(),
        ),
        fact(
            "New privileges",
            if field("NoNewPrivs") == "1" { "never" } else { "possible" },
            field("NoNewPrivs") == "1",
        ),
        fact(
            "Seccomp",
            match (filtered, filters) {
                (false, _) => "no filter".to_owned(),
                (true, "" | "1") => "a filter on each thread".to_owned(),
                (true, count) => format!("{count} filters on the main thread"),
            },
            filtered,
        ),
    ]
}

struct Process {
    path: String,
}

impl Process {
    fn new(pid: u32) -> Self {
        Self { path: format!("/proc/{pid}") }
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(format!("{}/{name}", self.path)).ok()
    }

    fn namespaces(&self) -> SecurityFact {
        // Another user's, or one in a user namespace, as the daemon of a user has them.
        if let Err(error) = fs::read_link(format!("{}/ns/mnt", self.path)) {
            return fact("Namespaces", format!("unknown: {error}"), false);
        }
        let own = |name: &&'static str| {
            let of = |process: &str| fs::read_link(format!("{process}/ns/{name}")).ok();
            of(&self.path).zip(of("/proc/self")).is_some_and(|(its, ours)| its != ours)
        };
        let (own, shared): (Vec<_>, Vec<_>) = NAMESPACES.into_iter().partition(own);
        let text = match (own.is_empty(), shared.is_empty()) {
            (_, true) => format!("of its own: {}", own.join(", ")),
            (true, _) => "the daemon's".to_owned(),
            _ => format!("of its own: {}; the daemon's: {}", own.join(", "), shared.join(", ")),
        };
        fact("Namespaces", text, shared.is_empty())
    }

    fn root(&self) -> SecurityFact {
        let root = format!("{}/root", self.path);
        let read_only = self.text("mountinfo").is_some_and(|mounts| {
            let mut roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/"));
            roots
                .next_back()
                .and_then(|line| line.split(' ').nth(5))
                .is_some_and(|options| options.split(',').any(|option| option == "ro"))
        });
        match fs::read_dir(Path::new(&root)) {
            Ok(entries) => match entries.count() {
                0 if read_only => fact("Root directory", "empty, read-only", true),
                0 => fact("Root directory", "empty, can be written", false),
                count => fact("Root directory", format!("{count} entries"), false),
            },
            Err(error) => fact("Root directory", format!("unknown: {error}"), false),
        }
    }

    /// Of `/proc/PID/limits`: a name of 26 characters, then the limits.
    fn limits(&self) -> Vec<SecurityFact> {
        let text = self.text("limits").unwrap_or_default();
        let limit = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.get(26..)?.split_ascii_whitespace().nth(1)
        };
        let row = |name: &str, key: &str, words: &str| {
            let most = limit(key)?;
            Some(fact(name, format!("{most}{words}"), most != "unlimited"))
        };
        let rows = [
            row("Own memory", "Max data size", " bytes at most"),
            row("Threads", "Max processes", " at most"),
            row("Core dumps", "Max core file size", " bytes at most"),
            row("Open files", "Max open files", " at most"),
        ];
        rows.into_iter().flatten().collect()
    }

    /// What it has open, by kind.
    fn files(&self) -> SecurityFact {
        let Ok(entries) = fs::read_dir(format!("{}/fd", self.path)) else {
            return fact("Descriptors", "unknown", false);
        };
        let mut kinds = std::collections::BTreeMap::<String, usize>::new();
        for entry in entries.flatten().take(4096) {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            *kinds.entry(kind(&target.to_string_lossy())).or_default() += 1;
        }
        let total: usize = kinds.values().sum();
        let parts: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        fact("Descriptors", format!("{total}: {}", parts.join(", ")), true)
    }
}

/// Of an open file, by what its link says.
fn kind(target: &str) -> String {
    if let Some(name) = target.strip_prefix("anon_inode:") {
        return name.trim_matches(['[', ']']).to_owned();
    }
    if let Some(name) = target.strip_prefix("/memfd:") {
        return format!("memory ({})", name.trim_end_matches(" (deleted)"));
    }
    match target.split_once(":[") {
        Some((kind, _)) => kind.to_owned(),
        None if target.starts_with("/dev/") => target.to_owned(),
        None => "file".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFINED: &str = "Uid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nGroups:\t \nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
        Seccomp_filters:\t1\n";

    fn open(facts: &[SecurityFact]) -> Vec<&str> {
        facts.iter().filter(|fact| !fact.confined).map(|fact| fact.name.as_str()).collect()
    }

    #[test]
    fn each_freedom_is_named() {
        assert_eq!(open(&status_facts(CONFINED)), [""; 0]);
        for (from, to, name) in [
            ("Uid:\t7", "Uid:\t0", "User"),
            ("Gid:\t7\t7", "Gid:\t7\t8", "Group"),
            ("Groups:\t ", "Groups:\t27 ", "Groups"),
            ("CapBnd:\t0000", "CapBnd:\t0001", "Capabilities"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "New privileges"),
            ("Seccomp:\t2", "Seccomp:\t0", "Seccomp"),
        ] {
            let status = CONFINED.replace(from, to);
            assert_ne!(status, CONFINED);
            assert_eq!(open(&status_facts(&status)), [name]);
        }
    }

    #[test]
    fn who_is_not_confined_at_all_is_shown_as_such() {
        let facts = facts(std::process::id());
        let open = open(&facts);
        for name in ["New privileges", "Seccomp", "Namespaces", "Root directory"] {
            assert!(open.contains(&name), "{name}: {facts:?}");
        }
    }

    #[test]
    fn a_process_that_is_gone_has_no_facts() {
        assert!(facts(u32::MAX).is_empty());
    }

    #[test]
    fn descriptors_are_told_apart_by_kind() {
        for (target, expected) in [
            ("socket:[1234]", "socket"),
            ("anon_inode:[eventfd]", "eventfd"),
            ("anon_inode:kvm-vm", "kvm-vm"),
            ("/memfd:guest-ram (deleted)", "memory (guest-ram)"),
            ("/dev/kvm", "/dev/kvm"),
            ("/srv/images/web.qcow2", "file"),
        ] {
            assert_eq!(kind(target), expected);
        }
    }
}
