//! [`Gate`]: lets a bounded number in at once, and of one client only a part of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    most: usize,
    most_each: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    each: BTreeMap<IpAddr, usize>,
}

/// Being inside; ends when dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Gate,
    client: IpAddr,
}

impl Gate {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self(Arc::new(Inside { most, most_each, counts: Mutex::default() }))
    }

    pub(super) fn enter(&self, client: IpAddr) -> Option<Place> {
        let mut counts = self.counts();
        let own = counts.each.get(&client).copied().unwrap_or(0);
        if counts.all >= self.0.most || own >= self.0.most_each {
            return None;
        }
        counts.all += 1;
        counts.each.insert(client, own + 1);
        Some(Place { gate: self.clone(), client })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        counts.all = counts.all.saturating_sub(1);
        match counts.each.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                counts.each.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_places_come_back() {
        let gate = Gate::new(3, 2);
        let [one, two] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let places = [gate.enter(one).unwrap(), gate.enter(one).unwrap()];
        assert!(gate.enter(one).is_none());
        let other = gate.enter(two).unwrap();
        assert!(gate.enter(two).is_none(), "full");
        drop(places);
        assert!(gate.enter(two).is_some());
        drop(other);
        assert_eq!(gate.counts().all, 0);
        assert!(gate.counts().each.is_empty());
    }
}
