//! [`Limiters`]: how much each disk may do, from one moment to the next.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use devices::backend::throttle::{Group, Limiter, Limits, Rate};
use vmm_protocol::config::{DiskLimits, IoRate};

#[derive(Default)]
pub struct Limiters {
    disks: BTreeMap<String, Arc<Limiter>>,
    /// Those that have a name.
    groups: Mutex<BTreeMap<String, Group>>,
}

impl Limiters {
    /// That of disk `id`, for so many users at once.
    pub(super) fn make(&mut self, id: &str, users: usize) -> io::Result<Arc<Limiter>> {
        if let Some(limiter) = self.disks.get(id) {
            return Ok(limiter.clone());
        }
        let limiter = Limiter::new(users)?;
        self.disks.insert(id.to_owned(), limiter.clone());
        Ok(limiter)
    }

    /// Disk `id` is gone.
    pub(super) fn forget(&mut self, id: &str) {
        self.disks.remove(id);
    }

    pub(crate) fn of(&self, id: &str) -> Option<Arc<Limiter>> {
        self.disks.get(id).cloned()
    }

    /// From now on; `false` if there is no such disk.
    pub fn limit(&self, limits: &DiskLimits) -> bool {
        let Some(limiter) = self.disks.get(&limits.id) else { return false };
        let budget = limits_of(limits);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = match &limits.group {
            Some(name) => {
                let group = groups.entry(name.clone()).or_default().clone();
                group.limit(budget);
                Some(group)
            }
            None => (!budget.is_none()).then(|| Group::new(budget)),
        };
        limiter.join(group);
        groups.retain(|_, group| group.is_used());
        true
    }
}

fn limits_of(limits: &DiskLimits) -> Limits {
    let rate = |rate: IoRate| Rate {
        average: rate.average,
        burst: rate.burst,
        burst_seconds: rate.burst_seconds,
    };
    Limits {
        total_bytes: rate(limits.total_bytes),
        read_bytes: rate(limits.read_bytes),
        write_bytes: rate(limits.write_bytes),
        total_requests: rate(limits.total_requests),
        read_requests: rate(limits.read_requests),
        write_requests: rate(limits.write_requests),
        request_size: limits.request_size,
    }
}
