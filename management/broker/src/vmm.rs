//! Which process a running guest is, when nobody wrote it down: the one that holds its lock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::spawn::ProcessId;

/// What [`crate::spawn`] calls them in the process list.
const GUEST: &[u8] = b"manor guest=";
const NETWORK: &[u8] = b"manor network=";

/// What a process says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Guest,
    Network,
}

/// The VMM that has the lock file at `lock` open. `said` is the number that it gives itself, which is
/// looked at first and not trusted: whoever took a VMM over might name any process of the host. Where
/// others' descriptors cannot be seen, that it is a VMM at all has to do.
pub(crate) fn find(said: u32, lock: &Path) -> Option<ProcessId> {
    let lock = lock.canonicalize().ok()?;
    let is_vmm = |pid: u32| kind(pid) == Some(Kind::Guest);
    let holds = |pid: u32| is_vmm(pid).then(|| has_open(pid, &lock))?;
    match holds(said) {
        Some(true) => return ProcessId::of(said),
        None if is_vmm(said) => return ProcessId::of(said),
        Some(false) | None => {}
    }
    pids().find(|pid| holds(*pid) == Some(true)).and_then(ProcessId::of)
}

/// Those of the host, one after the other.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// None: something else.
pub(crate) fn kind(pid: u32) -> Option<Kind> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let called = [(GUEST, Kind::Guest), (NETWORK, Kind::Network)];
    called.into_iter().find(|(name, _)| line.starts_with(name)).map(|(_, kind)| kind)
}

/// None where its descriptors cannot be seen.
pub(crate) fn open_files(pid: u32) -> Option<impl Iterator<Item = PathBuf>> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(files.flatten().filter_map(|file| fs::read_link(file.path()).ok()))
}

fn has_open(pid: u32, lock: &Path) -> Option<bool> {
    open_files(pid).map(|mut files| files.any(|file| file == lock))
}
