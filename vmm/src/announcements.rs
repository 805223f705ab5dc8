//! [`Announcements`]: a guest that goes on after a restore is announced to its networks, some times
//! over, as a bridge may not forward yet what comes first.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devices::alarm::Timed;
use devices::virtio::net::Announcer;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Between one round and the next: QEMU's, whose first comes at once.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(250),
    Duration::from_millis(350),
];

pub struct Announcements {
    interfaces: Mutex<BTreeMap<String, Announcer>>,
    /// The next round, and when it is due.
    next: Mutex<Option<(usize, Instant)>>,
    rearm: EventFd,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Announcements {
    /// # Errors
    /// When the host has no event for it.
    pub fn new() -> io::Result<Self> {
        let rearm = EventFd::new(EFD_NONBLOCK)?;
        Ok(Self { interfaces: Mutex::default(), next: Mutex::default(), rearm })
    }

    pub fn add(&self, id: &str, interface: Announcer) {
        hold(&self.interfaces).insert(id.to_owned(), interface);
    }

    pub fn remove(&self, id: &str) {
        hold(&self.interfaces).remove(id);
    }

    /// Announce every interface that there is.
    pub fn begin(&self) {
        hold(&self.interfaces).values().for_each(Announcer::ask_driver);
        *hold(&self.next) = Some((0, Instant::now()));
        // Full only if it is signalled already.
        let _ = self.rearm.write(1);
    }

    fn send(&self) {
        for (id, interface) in &*hold(&self.interfaces) {
            if let Err(error) = interface.send() {
                // A later round may find the host ready.
                tracing::debug!(interface = id, %error, "an interface is not announced");
            }
        }
    }
}

impl Timed for Announcements {
    fn tick(&self) -> Option<Duration> {
        let mut next = hold(&self.next);
        let (round, due) = (*next)?;
        let wait = due.saturating_duration_since(Instant::now());
        if wait > Duration::ZERO {
            return Some(wait);
        }
        self.send();
        let pause = PAUSES.get(round).copied();
        *next = pause.map(|pause| (round + 1, Instant::now() + pause));
        pause
    }

    fn rearm(&self) -> &EventFd {
        &self.rearm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_five_rounds_and_each_begins_anew() {
        let announcements = Announcements::new().unwrap();
        assert_eq!(announcements.tick(), None);
        for _ in 0..2 {
            announcements.begin();
            let begun = Instant::now();
            let mut waits = Vec::new();
            while let Some(wait) = announcements.tick() {
                waits.push(wait);
                std::thread::sleep(wait);
            }
            assert!(waits.len() >= PAUSES.len(), "{waits:?}");
            assert!(begun.elapsed() >= PAUSES.iter().sum(), "{waits:?}");
        }
    }
}
