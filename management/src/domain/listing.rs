//! The list of all domains. It is made when someone asks for it and one of them has changed; until the next change
//! everyone is given the same one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::DomainSummary;
use super::handle::View;

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// All but the time on host CPUs, which never stands still.
    pub summary: Arc<DomainSummary>,
    /// Of its VMM.
    pid: Option<u32>,
}

/// Active ones come first, by id, then the others by name.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    changes: AtomicU64,
    /// The list, and how many changes it has seen.
    latest: Mutex<Option<(u64, Arc<[Listed]>)>>,
}

impl Listing {
    /// To be said after whoever asks could see the change, and before anyone is told that it was made.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// A change that comes while the list is made may be in it or not: its number is not, so the next one
    /// who asks has it made again.
    pub(crate) fn get(&self, make: impl FnOnce() -> Vec<Listed>) -> Arc<[Listed]> {
        let changes = self.changes.load(Ordering::Acquire);
        // Who waits here would have to make it as well.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((seen, list)) if *seen >= changes => list.clone(),
            _ => {
                let mut rows = make();
                rows.sort_by(|a, b| a.place().cmp(&b.place()));
                let list = Arc::from(rows);
                *latest = Some((changes, Arc::clone(&list)));
                list
            }
        }
    }
}

impl Listed {
    fn place(&self) -> (u32, &str) {
        (self.summary.id.unwrap_or(u32::MAX), &self.summary.name)
    }

    /// With its time on host CPUs, as it is now.
    pub(crate) fn timed(&self) -> Arc<DomainSummary> {
        let Some(pid) = self.pid else { return self.summary.clone() };
        let mut summary = DomainSummary::clone(&self.summary);
        summary.cpu_time = crate::host::cpu_time(pid);
        Arc::new(summary)
    }
}

impl View {
    pub(crate) fn listed(&self) -> Listed {
        let process = self.live.as_ref().and_then(|live| live.record.process);
        Listed { summary: Arc::new(self.timeless()), pid: process.map(|process| process.pid) }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::{ShutOff, State};

    fn row(id: Option<u32>, name: &str) -> Listed {
        let summary = DomainSummary {
            id,
            uuid: Uuid::nil(),
            name: name.to_owned(),
            title: None,
            state: State::ShutOff(ShutOff::Unknown),
            persistent: true,
            autostart: false,
            max_memory: 0,
            memory: 0,
            vcpus: 1,
            max_vcpus: 1,
            cpu_time: 0,
            managed_save: false,
        };
        Listed { summary: Arc::new(summary), pid: None }
    }

    #[test]
    fn a_list_is_made_anew_after_a_change_and_only_then() {
        let listing = Listing::default();
        let made = std::cell::Cell::new(0);
        let get = || {
            listing.get(|| {
                made.set(made.get() + 1);
                vec![row(None, "b"), row(Some(7), "c"), row(None, "a"), row(Some(3), "d")]
            })
        };
        let first = get();
        let names: Vec<_> = first.iter().map(|row| row.summary.name.as_str()).collect();
        assert_eq!(names, ["d", "c", "a", "b"]);
        assert!(Arc::ptr_eq(&first, &get()));
        assert_eq!(made.get(), 1);
        listing.changed();
        assert!(!Arc::ptr_eq(&first, &get()));
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn a_change_that_comes_meanwhile_is_in_the_next_list() {
        let listing = Listing::default();
        listing.get(|| {
            listing.changed();
            vec![row(None, "old")]
        });
        assert_eq!(listing.get(|| vec![row(None, "new")])[0].summary.name, "new");
    }
}
