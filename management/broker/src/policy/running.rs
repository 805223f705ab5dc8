//! Which processes and cgroups of the host the daemon may look at, have ended, limited and moved: those of
//! its own guests and networks. And where it may have somebody listen.

use std::io;
use std::path::{Component, Path};

use super::{Judge, Policy};
use crate::ledger::Ledger;
use crate::{BrokerError, ProcessId, cgroup};

/// From which on everybody may listen (Documentation/networking/ip-sysctl.rst).
pub(super) const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

impl<'a> Judge<'a> {
    /// Where it is written down what is the daemon's; none: it may do as it likes.
    pub(crate) fn ledger(self) -> Option<&'a Ledger> {
        self.0.map(|policy| &*policy.ledger)
    }

    /// One that has ended is nobody's.
    pub(crate) fn process(self, process: ProcessId) -> Result<(), BrokerError> {
        let Some(ledger) = self.ledger() else { return Ok(()) };
        let Some(_held) = process.open() else { return Ok(()) };
        match ledger.has_process(process) {
            true => Ok(()),
            false => Err(BrokerError::Stranger { what: format!("process {}", process.pid) }),
        }
    }

    /// Those that take privilege are for the host's own services.
    pub(crate) fn port(self, first: u16) -> Result<(), BrokerError> {
        let free = std::fs::read_to_string(FIRST_FREE_PORT).ok();
        let free = free.and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        match self.0 {
            Some(_) if first < free => Err(BrokerError::LowPort { port: first, free }),
            _ => Ok(()),
        }
    }

    /// It, if it is there: then it has to be one of the daemon's. Where none is yet, it has to be a place of
    /// guests.
    pub(crate) fn cgroup(self, path: Option<&Path>) -> Result<Option<&Path>, BrokerError> {
        let (Some(policy), Some(path)) = (self.0, path) else { return Ok(path) };
        let is_there = path.symlink_metadata().is_ok();
        match policy.is_place_of_cgroups(path) && (!is_there || policy.ledger.has_cgroup(path)) {
            true => Ok(Some(path).filter(|_| is_there)),
            false => Err(stranger(path)),
        }
    }

    /// Made for a guest. What is there by its name and was not made for this daemon makes room, if nobody is in
    /// it.
    pub(crate) fn make_cgroup(self, path: &Path) -> Result<(), BrokerError> {
        let failed = |error: io::Error| BrokerError::NoCgroup {
            reason: format!("cannot make {}: {error}", path.display()),
        };
        let Some(ledger) = self.ledger() else {
            return std::fs::create_dir_all(path).map_err(failed);
        };
        std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if ledger.has_cgroup(path) {
                    return Ok(());
                }
                cgroup::remove(path).map_err(|_| stranger(path))?;
                std::fs::create_dir(path)
            }
            made => made,
        }
        .and_then(|()| ledger.add_cgroup(path))
        .map_err(failed)
    }
}

impl Policy {
    pub(super) fn is_place_of_cgroups(&self, path: &Path) -> bool {
        let mount = cgroup::mount().ok();
        let below = [self.cgroups.as_deref(), mount.as_deref()];
        let is_below = below.into_iter().flatten().any(|top| path.starts_with(top));
        let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        is_below && plain && cgroup::is_of_a_domain(path)
    }
}

fn stranger(cgroup: &Path) -> BrokerError {
    BrokerError::Stranger { what: format!("cgroup {}", cgroup.display()) }
}
