//! [`Plan`]: which addresses there are, whom they are kept for, and in which order they are tried.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use crate::config::{Dhcp6, Host6, Range6};
use crate::{Hex, Mac, names};

#[derive(Debug)]
pub(super) struct Plan {
    gateway: Ipv6Addr,
    /// In order, and apart from each other.
    ranges: Vec<Range6>,
    /// Addresses in all ranges.
    total: u128,
    hosts: BTreeMap<Ipv6Addr, Host6>,
    by_id: BTreeMap<Hex, Ipv6Addr>,
    by_mac: BTreeMap<Mac, Ipv6Addr>,
    by_name: BTreeMap<String, Ipv6Addr>,
}

impl Plan {
    pub(super) fn new(dhcp: &Dhcp6, gateway: Ipv6Addr) -> Self {
        let hosts: BTreeMap<_, _> =
            dhcp.hosts.iter().map(|host| (host.address, host.clone())).collect();
        let by_id = hosts.values().filter_map(|host| Some((host.client_id.clone()?, host.address)));
        let by_mac = hosts.values().filter_map(|host| Some((host.mac?, host.address)));
        let by_name = hosts
            .values()
            .filter_map(|host| Some((names::canonical(host.name.as_ref()?), host.address)));
        let mut ranges = dhcp.ranges.clone();
        ranges.sort_by_key(|range| range.start);
        Self {
            gateway,
            total: ranges.iter().fold(0, |sum: u128, range| sum.saturating_add(length(range))),
            by_id: by_id.collect(),
            by_mac: by_mac.collect(),
            by_name: by_name.collect(),
            ranges,
            hosts,
        }
    }

    /// The host of the configuration that this client is. A name alone is no proof of who it is: it
    /// counts only where nothing better was given.
    pub(super) fn host_of(
        &self,
        id: &Hex,
        mac: Option<Mac>,
        hostname: Option<&str>,
    ) -> Option<&Host6> {
        let by_id = self.by_id.get(id).or_else(|| self.by_mac.get(&mac?));
        let by_name = || {
            let host = self.host_named(hostname?)?;
            (host.mac.is_none() && host.client_id.is_none()).then_some(host)
        };
        by_id.and_then(|address| self.hosts.get(address)).or_else(by_name)
    }

    pub(super) fn host_named(&self, name: &str) -> Option<&Host6> {
        self.by_name.get(name).and_then(|address| self.hosts.get(address))
    }

    pub(super) fn host_at(&self, address: Ipv6Addr) -> Option<&Host6> {
        self.hosts.get(&address)
    }

    fn range_of(&self, address: Ipv6Addr) -> Option<&Range6> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        self.ranges.get(after.checked_sub(1)?).filter(|range| address <= range.end)
    }

    pub(super) fn serves(&self, address: Ipv6Addr) -> bool {
        address != self.gateway
            && (self.hosts.contains_key(&address) || self.range_of(address).is_some())
    }

    /// Seconds; `None` for a lease without end.
    pub(super) fn lease_seconds(&self, address: Ipv6Addr) -> Option<u32> {
        match self.hosts.get(&address) {
            Some(host) => host.lease_seconds,
            None => self.range_of(address)?.lease_seconds,
        }
    }

    /// Addresses of the ranges, from one that follows from `id` on: the same for it whenever nobody is in
    /// the way. Not more than `limit`.
    pub(super) fn candidates(&self, id: &[u8], limit: usize) -> impl Iterator<Item = Ipv6Addr> {
        let first = u128::from(hash(id)).checked_rem(self.total).unwrap_or(0);
        let count = self.total.min(u128::try_from(limit).unwrap_or(0));
        let wrapped = move |step: u128| first.checked_add(step)?.checked_rem(self.total);
        (0..count)
            .filter_map(move |step| self.nth(wrapped(step)?))
            .filter(|address| *address != self.gateway && !self.hosts.contains_key(address))
    }

    fn nth(&self, mut number: u128) -> Option<Ipv6Addr> {
        for range in &self.ranges {
            let length = length(range);
            if number < length {
                return range.start.to_bits().checked_add(number).map(Ipv6Addr::from_bits);
            }
            number -= length;
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.hosts.is_empty()
    }

    pub(super) fn reserved(&self) -> usize {
        self.hosts.len()
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        let ranges = self.ranges.iter().map(|range| format!("{} - {}", range.start, range.end));
        ranges.collect::<Vec<_>>().join(", ")
    }
}

fn length(range: &Range6) -> u128 {
    range.end.to_bits().saturating_sub(range.start.to_bits()).saturating_add(1)
}

/// FNV-1a: the same in every version of the server, and spread over all of a range.
fn hash(id: &[u8]) -> u64 {
    id.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
