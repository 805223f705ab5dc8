//! [`Table`]: who holds which address, in memory and on record. States are those of DHCP for IPv4.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::lease::MAX_LEASES;
use crate::record::Record;
use crate::{Hex, Lease, LeaseFile, Mac};

/// Addresses that are held at once from one address of the link. Beyond it the oldest goes: a guest
/// that makes identifiers up takes addresses from nobody but itself.
const PER_SOURCE: usize = 16;

/// An interface of a client: its identifier, and the number of the association.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pub id: Hex,
    pub association: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Offered,
    Leased,
    /// The client found somebody else there.
    Declined,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub holder: Holder,
    pub mac: Option<Mac>,
    /// Unspecified of what was read from the record.
    pub source: Ipv6Addr,
    pub state: State,
    /// Seconds since 1970; `None` never ends.
    pub until: Option<u64>,
    pub hostname: Option<String>,
}

impl Entry {
    pub(super) fn is_live(&self, now: u64) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// The address of the link belongs to it beside the identifier: copies of one image send the same
    /// identifier, and each of them needs an address of its own.
    pub(super) fn is_of(&self, holder: &Holder, source: Ipv6Addr) -> bool {
        self.holder == *holder && (self.source == source || self.source.is_unspecified())
    }
}

#[derive(Debug)]
pub(super) struct Table {
    entries: BTreeMap<Ipv6Addr, Entry>,
    by_holder: BTreeSet<(Holder, Ipv6Addr)>,
    by_source: BTreeSet<(Ipv6Addr, Ipv6Addr)>,
    names: BTreeMap<String, Ipv6Addr>,
    record: Record,
    /// No address is left before this time, unless something changes.
    exhausted_until: Option<u64>,
}

impl Table {
    pub(super) fn new(file: Option<LeaseFile>, leases: Vec<Lease>) -> Self {
        let mut table = Self {
            entries: BTreeMap::new(),
            by_holder: BTreeSet::new(),
            by_source: BTreeSet::new(),
            names: BTreeMap::new(),
            record: Record::new(None),
            exhausted_until: None,
        };
        for lease in leases {
            let (IpAddr::V6(address), Some(id)) = (lease.address, lease.client_id) else {
                continue;
            };
            let entry = Entry {
                holder: Holder { id, association: lease.association.unwrap_or(0) },
                mac: Some(lease.mac).filter(|mac| *mac != Mac::UNKNOWN),
                source: Ipv6Addr::UNSPECIFIED,
                state: State::Leased,
                until: lease.expires,
                hostname: lease.hostname,
            };
            table.insert(address, entry);
        }
        // Only now: these are on record already.
        table.record = Record::new(file);
        table
    }

    pub(super) fn get(&self, address: Ipv6Addr) -> Option<&Entry> {
        self.entries.get(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, &Entry)> {
        self.entries.iter().map(|(address, entry)| (*address, entry))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_LEASES
    }

    /// What this interface holds or held.
    pub(super) fn of_holder(&self, holder: &Holder) -> impl Iterator<Item = (Ipv6Addr, &Entry)> {
        let from = (holder.clone(), Ipv6Addr::UNSPECIFIED);
        let to = (holder.clone(), Ipv6Addr::from_bits(u128::MAX));
        let held = self.by_holder.range(from..=to);
        held.filter_map(|(_, address)| Some((*address, self.entries.get(address)?)))
    }

    /// Who goes by `name`.
    pub(super) fn named(&self, name: &str) -> Option<(Ipv6Addr, &Entry)> {
        let address = *self.names.get(name)?;
        Some((address, self.entries.get(&address)?))
    }

    pub(super) fn is_exhausted(&self, now: u64) -> bool {
        self.exhausted_until.is_some_and(|until| until > now)
    }

    /// Other addresses are served than before.
    pub(super) fn reconsider(&mut self) {
        self.exhausted_until = None;
    }

    pub(super) fn set_exhausted(&mut self, now: u64) {
        let live = self.entries.values().filter(|entry| entry.is_live(now));
        let first_end = live.filter_map(|entry| entry.until).min();
        self.exhausted_until = Some(first_end.unwrap_or(u64::MAX));
    }

    pub(super) fn insert(&mut self, address: Ipv6Addr, entry: Entry) {
        self.forget(address);
        if let Some(name) = &entry.hostname {
            self.names.insert(name.clone(), address);
        }
        self.by_holder.insert((entry.holder.clone(), address));
        self.by_source.insert((entry.source, address));
        let lease = (entry.state == State::Leased).then(|| Lease {
            mac: entry.mac.unwrap_or(Mac::UNKNOWN),
            client_id: Some(entry.holder.id.clone()),
            association: Some(entry.holder.association),
            address: address.into(),
            hostname: entry.hostname.clone(),
            expires: entry.until,
        });
        self.entries.insert(address, entry);
        self.record.write(address.into(), lease.as_ref());
    }

    pub(super) fn remove(&mut self, address: Ipv6Addr) {
        if self.forget(address) {
            self.record.write(address.into(), None);
        }
    }

    fn forget(&mut self, address: Ipv6Addr) -> bool {
        self.exhausted_until = None;
        let Some(entry) = self.entries.remove(&address) else { return false };
        if let Some(name) = &entry.hostname
            && self.names.get(name) == Some(&address)
        {
            self.names.remove(name);
        }
        self.by_source.remove(&(entry.source, address));
        self.by_holder.remove(&(entry.holder, address));
        true
    }

    /// An interface has one address: give up all but `kept`. What it found taken stays put aside.
    pub(super) fn drop_others(&mut self, holder: &Holder, source: Ipv6Addr, kept: Ipv6Addr) {
        let others = self
            .of_holder(holder)
            .filter(|(_, entry)| entry.state != State::Declined && entry.is_of(holder, source));
        let gone: Vec<_> =
            others.map(|(address, _)| address).filter(|address| *address != kept).collect();
        gone.into_iter().for_each(|address| self.remove(address));
    }

    /// Make room among what is held from `source`, for an interface that holds nothing yet.
    pub(super) fn make_room(&mut self, holder: &Holder, source: Ipv6Addr) {
        if self.of_holder(holder).any(|(_, entry)| entry.is_of(holder, source)) {
            return;
        }
        let to = (source, Ipv6Addr::from_bits(u128::MAX));
        let held = self.by_source.range((source, Ipv6Addr::UNSPECIFIED)..=to);
        let mut held: Vec<_> = held
            .filter_map(|(_, address)| Some((self.entries.get(address)?.until, *address)))
            .collect();
        if held.len() < PER_SOURCE {
            return;
        }
        held.sort_by_key(|(until, _)| until.unwrap_or(u64::MAX));
        let too_many = held.len() + 1 - PER_SOURCE;
        held.into_iter().take(too_many).for_each(|(_, address)| self.remove(address));
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Ipv6Addr) -> bool) {
        let gone: Vec<_> = self.entries.keys().copied().filter(|address| !keep(*address)).collect();
        gone.into_iter().for_each(|address| self.remove(address));
    }
}
