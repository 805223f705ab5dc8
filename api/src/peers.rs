//! [`Peers`]: what each address has of us, so that none has all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections of one address at a time.
const MOST_CONNECTIONS: u32 = 64;
/// Wrong tokens and passwords of one address within a [`PERIOD`] that are looked at and written down each.
const MOST_FAILURES: u32 = 10;
pub(crate) const PERIOD: Duration = Duration::from_secs(60);
/// Addresses that are remembered for their failures; those beyond are treated as if they had many.
const MOST_PEERS: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Peers {
    table: Mutex<HashMap<IpAddr, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    connections: u32,
    failures: u32,
    /// When the first of the failures was.
    since: Option<Instant>,
}

impl Entry {
    fn forget_old(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now.saturating_duration_since(since) >= PERIOD) {
            (self.failures, self.since) = (0, None);
        }
    }
}

impl Peers {
    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more connection of this address, until what is returned is dropped; none if it has too
    /// many.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Peer> {
        let address = site(address);
        let mut table = self.table();
        let entry = table.entry(address).or_default();
        if entry.connections >= MOST_CONNECTIONS {
            return None;
        }
        entry.connections += 1;
        Some(Peer { peers: self.clone(), address })
    }

    /// A token or password of this address let nobody in. False if there were so many that this one is not
    /// worth a word.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) -> bool {
        let address = site(address);
        let mut table = self.table();
        if !table.contains_key(&address) && table.len() >= MOST_PEERS {
            table.retain(|_, entry| {
                entry.forget_old(now);
                entry.connections > 0 || entry.failures > 0
            });
            if table.len() >= MOST_PEERS {
                return false;
            }
        }
        let entry = table.entry(address).or_default();
        entry.forget_old(now);
        entry.since.get_or_insert(now);
        entry.failures = entry.failures.saturating_add(1);
        entry.failures <= MOST_FAILURES
    }
}

/// A connection's place among those of its address.
#[derive(Debug)]
pub(crate) struct Peer {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let mut table = self.peers.table();
        if let Some(entry) = table.get_mut(&self.address) {
            entry.connections = entry.connections.saturating_sub(1);
            entry.forget_old(Instant::now());
            if entry.connections == 0 && entry.failures == 0 {
                table.remove(&self.address);
            }
        }
    }
}

/// Who has one IPv6 address has the 2^64 beside it.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

    #[test]
    fn an_address_has_so_many_connections_and_more_when_it_closes_some() {
        let peers = Arc::new(Peers::default());
        let mut open: Vec<_> = std::iter::from_fn(|| peers.connect(ADDRESS)).collect();
        assert_eq!(open.len(), MOST_CONNECTIONS as usize);
        assert!(peers.connect("203.0.113.6".parse().unwrap()).is_some());
        open.pop();
        assert!(peers.connect(ADDRESS).is_some());
        drop(open);
        assert!(peers.table().is_empty());
    }

    #[test]
    fn failures_are_counted_by_address_and_forgotten_after_a_while() {
        let (peers, begin) = (Peers::default(), Instant::now());
        let fail = |address: &str, now| peers.failed(address.parse().unwrap(), now);
        for _ in 0..MOST_FAILURES {
            assert!(fail("2001:db8::1", begin));
        }
        // The next house, and the same one by another number.
        assert!(!fail("2001:db8::2", begin));
        assert!(fail("2001:db8:0:1::1", begin));
        assert!(!fail("2001:db8::1", begin + PERIOD / 2));
        assert!(fail("2001:db8::1", begin + PERIOD));
    }

    #[test]
    fn a_crowd_is_not_remembered_without_end() {
        let (peers, begin) = (Peers::default(), Instant::now());
        for number in 0..MOST_PEERS as u32 + 100 {
            let address = IpAddr::V4(number.into());
            assert_eq!(peers.failed(address, begin), (number as usize) < MOST_PEERS);
        }
        assert!(peers.failed(ADDRESS, begin + PERIOD));
        assert_eq!(peers.table().len(), 1);
    }
}
