//! Which processes and cgroups of the host the daemon may look at, have ended, limited and moved: those of
//! guests and networks. And where it may have somebody listen.

use std::path::{Component, Path};

use super::{Judge, Policy};
use crate::{BrokerError, ProcessId, cgroup};

/// The names that they are started with.
const NAMES: [&str; 2] = ["manor guest=", "manor network="];

/// From which on everybody may listen (Documentation/networking/ip-sysctl.rst).
pub(super) const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

impl Judge<'_> {
    /// One that has ended is nobody's.
    pub(crate) fn process(self, process: ProcessId) -> Result<(), BrokerError> {
        let Some(policy) = self.0 else { return Ok(()) };
        let Some(_held) = process.open() else { return Ok(()) };
        match policy.is_ours(process.pid) {
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

    pub(crate) fn cgroup(self, path: Option<&Path>) -> Result<(), BrokerError> {
        let (Some(policy), Some(path)) = (self.0, path) else { return Ok(()) };
        match policy.has_cgroup(path) {
            true => Ok(()),
            false => Err(BrokerError::Stranger { what: format!("cgroup {}", path.display()) }),
        }
    }
}

impl Policy {
    /// By any of its marks: a guest that has taken its VMM over may have changed one of them.
    fn is_ours(&self, pid: u32) -> bool {
        let of = |name: &str| format!("/proc/{pid}/{name}");
        let words = std::fs::read(of("cmdline")).unwrap_or_default();
        let program = |path: &str| {
            let path = std::fs::read_link(path).unwrap_or_default();
            path.to_string_lossy().trim_end_matches(" (deleted)").to_owned()
        };
        let own = program("/proc/self/exe");
        let in_cgroup = || {
            let groups = std::fs::read_to_string(of("cgroup")).unwrap_or_default();
            let path = groups.lines().find_map(|line| line.strip_prefix("0::/"));
            let mount = cgroup::mount().ok();
            path.zip(mount).is_some_and(|(path, mount)| {
                mount.join(path).ancestors().any(|path| self.has_cgroup(path))
            })
        };
        NAMES.iter().any(|name| words.starts_with(name.as_bytes()))
            || !own.is_empty() && program(&of("exe")) == own
            || in_cgroup()
    }

    fn has_cgroup(&self, path: &Path) -> bool {
        let mount = cgroup::mount().ok();
        let below = [self.cgroups.as_deref(), mount.as_deref()];
        let is_below = below.into_iter().flatten().any(|top| path.starts_with(top));
        let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        is_below && plain && cgroup::is_of_a_domain(path)
    }
}
