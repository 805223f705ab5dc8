//! Guests and networks that a broker of an earlier version has started, which wrote nothing down: known by
//! what they hold open, which is in the daemon's directories and of no use to others.
//!
//! Looked for before this daemon has asked for anything. What an earlier one left behind may be called as it
//! likes and be ended for it; a process of somebody else's has neither such a name nor such a file.

use std::path::{Path, PathBuf};

use super::Policy;
use crate::{BrokerError, LOCK, ProcessId, cgroup, vmm};

impl Policy {
    /// From the broker before.
    pub(crate) fn take_up(&self) -> Result<(), BrokerError> {
        let path = self.ledger.path().display();
        let failed = BrokerError::host(format!("bring the ledger in {path} up to date"));
        self.ledger.tidy().and_then(|()| self.write_down_earlier()).map_err(failed)
    }

    fn write_down_earlier(&self) -> std::io::Result<()> {
        let directories: Vec<_> =
            self.directories.iter().map(|dir| dir.canonicalize().unwrap_or(dir.clone())).collect();
        for process in vmm::pids().filter_map(ProcessId::of) {
            if self.ledger.has_process(process) || !is_of(process.pid, &directories) {
                continue;
            }
            self.ledger.add_process(process)?;
            if let Some(path) = self.cgroup_of(process.pid) {
                self.ledger.add_cgroup(&path)?;
            }
        }
        Ok(())
    }

    /// Its guest's; its threads may be in some below that.
    fn cgroup_of(&self, pid: u32) -> Option<PathBuf> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = cgroup::mount().ok()?.join(path);
        path.ancestors().find(|path| self.is_place_of_cgroups(path)).map(Path::to_owned)
    }
}

fn is_of(pid: u32, directories: &[PathBuf]) -> bool {
    let mark: fn(&Path) -> bool = match vmm::kind(pid) {
        Some(vmm::Kind::Guest) => is_lock,
        Some(vmm::Kind::Network) => is_lease_file,
        None => return false,
    };
    let is_ours =
        |file: PathBuf| directories.iter().any(|dir| file.strip_prefix(dir).is_ok_and(mark));
    vmm::open_files(pid).is_some_and(|mut files| files.any(is_ours))
}

/// `domains/UUID/lock`, below a directory of the daemon's.
fn is_lock(path: &Path) -> bool {
    let run_dir = path.parent().and_then(Path::parent);
    run_dir == Some(Path::new("domains")) && path.ends_with(LOCK)
}

/// `leases/UUID.leases`.
fn is_lease_file(path: &Path) -> bool {
    path.parent() == Some(Path::new("leases")) && path.extension().is_some_and(|it| it == "leases")
}
