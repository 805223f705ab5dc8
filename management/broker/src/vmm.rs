//! Which process a running guest is, when nobody wrote it down: the one that holds its lock.

use std::fs;
use std::path::Path;

use crate::spawn::ProcessId;

/// What [`crate::spawn`] calls a VMM in the process list.
const CALLED: &[u8] = b"manor guest=";

/// The VMM that has the lock file at `lock` open. `said` is the number that it gives itself, which is
/// looked at first and not trusted: whoever took a VMM over might name any process of the host. Where
/// others' descriptors cannot be seen, that it is a VMM at all has to do.
pub(crate) fn find(said: u32, lock: &Path) -> Option<ProcessId> {
    let lock = lock.canonicalize().ok()?;
    let holds = |pid: u32| is_vmm(pid).then(|| has_open(pid, &lock))?;
    match holds(said) {
        Some(true) => return ProcessId::of(said),
        None if is_vmm(said) => return ProcessId::of(said),
        Some(false) | None => {}
    }
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| holds(*pid) == Some(true)).and_then(ProcessId::of)
}

fn is_vmm(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(CALLED))
}

/// None where its descriptors cannot be seen.
fn has_open(pid: u32, lock: &Path) -> Option<bool> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    Some(links.any(|link| link == lock))
}
