//! Guests and networks that a broker of an earlier version has started, which wrote nothing down: known by
//! what they hold open, which is in the daemon's directories and of no use to others. A lock counts in the run
//! directory alone: elsewhere another daemon's guest may have an image open, and this one may call that a lock.
//!
//! Looked for before this daemon has asked for anything. What an earlier one left behind may be called as it
//! likes and be ended for it; a process of somebody else's has neither such a name nor such a file.

use std::path::{Path, PathBuf};

use super::Policy;
use crate::{BrokerError, LOCK, ProcessId, cgroup, vmm};

impl Policy {
    /// From the broker before.
    pub(crate) fn take_up(&self, run_dir: &Path) -> Result<(), BrokerError> {
        let path = self.ledger.path().display();
        let failed = BrokerError::host(format!("bring the ledger in {path} up to date"));
        self.ledger.tidy().and_then(|()| self.write_down_earlier(run_dir)).map_err(failed)
    }

    fn write_down_earlier(&self, run_dir: &Path) -> std::io::Result<()> {
        let real = |dir: &Path| dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let own: Vec<_> = self.directories.iter().map(|dir| real(dir)).collect();
        let run_dir = [real(run_dir)];
        for process in vmm::pids().filter_map(ProcessId::of) {
            let is_ours = || match vmm::kind(process.pid) {
                Some(vmm::Kind::Guest) => has_open(process.pid, is_lock, &run_dir),
                Some(vmm::Kind::Network) => has_open(process.pid, is_lease_file, &own),
                None => false,
            };
            if self.ledger.has_process(process) || !is_ours() {
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

/// Whether a process has what is meant open, below one of these directories.
fn has_open(pid: u32, meant: fn(&Path) -> bool, directories: &[PathBuf]) -> bool {
    let is_it =
        |file: PathBuf| directories.iter().any(|dir| file.strip_prefix(dir).is_ok_and(meant));
    vmm::open_files(pid).is_some_and(|mut files| files.any(is_it))
}

/// `domains/UUID/lock`.
fn is_lock(path: &Path) -> bool {
    let run_dir = path.parent().and_then(Path::parent);
    run_dir == Some(Path::new("domains")) && path.ends_with(LOCK)
}

/// `leases/UUID.leases`.
fn is_lease_file(path: &Path) -> bool {
    path.parent() == Some(Path::new("leases")) && path.extension().is_some_and(|it| it == "leases")
}
