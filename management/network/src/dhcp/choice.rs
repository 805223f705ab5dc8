//! [`Plan`]: which addresses there are, whom they are kept for, and which of them a client gets.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::packet::{Client, Request};
use super::table::{Entry, State, Table};
use crate::config::{Dhcp, Host, Range};
use crate::{Hex, Mac, names};

#[derive(Debug)]
pub(super) struct Plan {
    gateway: Ipv4Addr,
    /// In order, and apart from each other.
    ranges: Vec<Range>,
    /// Addresses in all ranges.
    total: u64,
    hosts: BTreeMap<Ipv4Addr, Host>,
    by_mac: BTreeMap<Mac, Ipv4Addr>,
    by_id: BTreeMap<Hex, Ipv4Addr>,
    by_name: BTreeMap<String, Ipv4Addr>,
}

impl Plan {
    pub(super) fn new(dhcp: &Dhcp, gateway: Ipv4Addr) -> Self {
        let hosts: BTreeMap<_, _> =
            dhcp.hosts.iter().map(|host| (host.address, host.clone())).collect();
        let by_mac = hosts.values().filter_map(|host| Some((host.mac?, host.address)));
        let by_id = hosts.values().filter_map(|host| Some((host.client_id.clone()?, host.address)));
        let by_name = hosts
            .values()
            .filter_map(|host| Some((names::canonical(host.name.as_ref()?), host.address)));
        let mut ranges = dhcp.ranges.clone();
        ranges.sort_by_key(|range| range.start);
        Self {
            gateway,
            total: dhcp.ranges.iter().map(length).sum(),
            by_mac: by_mac.collect(),
            by_id: by_id.collect(),
            by_name: by_name.collect(),
            ranges,
            hosts,
        }
    }

    /// The host of the configuration that this client is.
    pub(super) fn host_of(&self, client: &Client, hostname: Option<&str>) -> Option<&Host> {
        let by_id = client.id.as_ref().and_then(|id| self.by_id.get(id));
        let known = by_id.or_else(|| self.by_mac.get(&client.mac));
        // A name alone is no proof of who it is: it counts only where nothing better was given.
        let by_name = || {
            let host = self.host_named(hostname?)?;
            (host.mac.is_none() && host.client_id.is_none()).then_some(host)
        };
        known.and_then(|address| self.hosts.get(address)).or_else(by_name)
    }

    pub(super) fn host_named(&self, name: &str) -> Option<&Host> {
        self.by_name.get(name).and_then(|address| self.hosts.get(address))
    }

    pub(super) fn host_at(&self, address: Ipv4Addr) -> Option<&Host> {
        self.hosts.get(&address)
    }

    fn range_of(&self, address: Ipv4Addr) -> Option<&Range> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        self.ranges.get(after.checked_sub(1)?).filter(|range| address <= range.end)
    }

    /// Whether the address is ours to give at all.
    pub(super) fn serves(&self, address: Ipv4Addr) -> bool {
        address != self.gateway
            && (self.hosts.contains_key(&address) || self.range_of(address).is_some())
    }

    /// Seconds; `None` for a lease without end.
    pub(super) fn lease_seconds(&self, address: Ipv4Addr) -> Option<u32> {
        match self.hosts.get(&address) {
            Some(host) => host.lease_seconds,
            None => self.range_of(address)?.lease_seconds,
        }
    }

    fn nth(&self, mut number: u64) -> Option<Ipv4Addr> {
        for range in &self.ranges {
            let length = length(range);
            if number < length {
                let offset = u32::try_from(number).ok()?;
                return range.start.to_bits().checked_add(offset).map(Ipv4Addr::from_bits);
            }
            number -= length;
        }
        None
    }

    /// Whether the client that sent `request` can have `address` now.
    pub(super) fn is_usable(
        &self,
        table: &Table,
        request: &Request,
        address: Ipv4Addr,
        now: u64,
    ) -> bool {
        if !self.serves(address) {
            return false;
        }
        let kept_for = self.hosts.get(&address);
        let own = self.host_of(&request.client, request.hostname.as_deref());
        if kept_for.is_some_and(|host| own.is_none_or(|own| own.address != host.address)) {
            return false;
        }
        let Some(entry) = table.get(address) else { return true };
        if !entry.is_live(now) {
            return true;
        }
        // The boot loader of a static host has its address under another identifier than the
        // system that it starts.
        let same = entry.holder == request.client
            || kept_for.is_some() && entry.holder.mac == request.client.mac;
        same && entry.state != State::Declined
    }

    /// The address to offer: the one kept for the client, the one it has or had, the one it asks
    /// for, and else the one its MAC leads to, so that it is the same whenever nobody is in the way.
    pub(super) fn choose(
        &self,
        table: &mut Table,
        request: &Request,
        now: u64,
    ) -> Option<Ipv4Addr> {
        let known = self.choose_known(table, request, now);
        if known.is_some() || table.is_exhausted(now) {
            return known;
        }
        let ended = |(address, entry): &(Ipv4Addr, &Entry)| {
            !entry.is_live(now) && self.is_usable(table, request, *address, now)
        };
        let fresh = self.never_used(table, request.client.mac);
        let found = fresh.or_else(|| {
            let ended = table.iter().filter(ended);
            ended.min_by_key(|(_, entry)| entry.until).map(|(address, _)| address)
        });
        // Hosts with an address of their own never come this far while they can have it.
        if found.is_none() {
            table.set_exhausted(now);
        }
        found
    }

    /// An address that this client has a better claim to than others.
    fn choose_known(&self, table: &Table, request: &Request, now: u64) -> Option<Ipv4Addr> {
        let usable = |address: &Ipv4Addr| self.is_usable(table, request, *address, now);
        let kept = self.host_of(&request.client, request.hostname.as_deref());
        let kept = kept.map(|host| host.address).filter(usable);
        kept.or_else(|| {
            let held = table.of_client(&request.client).filter(|(address, _)| usable(address));
            held.max_by_key(|(_, entry)| entry.until.unwrap_or(u64::MAX))
                .map(|(address, _)| address)
        })
        .or_else(|| {
            let wanted = request.options.address(super::options::code::REQUESTED)?;
            let fresh = table.get(wanted).is_none() && !table.is_full();
            Some(wanted).filter(|wanted| fresh && usable(wanted))
        })
    }

    fn never_used(&self, table: &Table, mac: Mac) -> Option<Ipv4Addr> {
        if table.is_full() {
            return None;
        }
        let first = hash(mac).checked_rem(self.total)?;
        // Whatever is in the way has an entry or a host, or is the gateway.
        let in_the_way = (table.len() + self.hosts.len() + 1) as u64;
        (0..self.total.min(in_the_way + 1))
            .filter_map(|step| self.nth((first + step) % self.total))
            .find(|address| {
                *address != self.gateway
                    && table.get(*address).is_none()
                    && !self.hosts.contains_key(address)
            })
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        let ranges = self.ranges.iter().map(|range| format!("{} - {}", range.start, range.end));
        ranges.collect::<Vec<_>>().join(", ")
    }
}

fn length(range: &Range) -> u64 {
    u64::from(range.end.to_bits().saturating_sub(range.start.to_bits())) + 1
}

/// FNV-1a: the same in every version of the server, and spread over all of a range.
fn hash(mac: Mac) -> u64 {
    mac.0.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
