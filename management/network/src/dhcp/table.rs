//! [`Table`]: who holds which address, in memory and on record.
//!
//! ```text
//!            offer              request
//! (no entry) ─────▶ Offered ───────────▶ Leased ──▶ ended: kept for its client until another needs it
//!                      │ time                 │ decline
//!                      ▼                      ▼
//!                 as if ended             Declined ──▶ as if ended, ten minutes later
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::packet::Client;
use crate::lease::MAX_LEASES;
use crate::record::Record;
use crate::{Lease, LeaseFile, Mac};

/// Addresses that one MAC holds at once under different client identifiers; room for a boot loader,
/// an installer and a few ipvlan interfaces. Beyond it the oldest goes: a guest that makes
/// identifiers up takes addresses from nobody but itself.
const PER_MAC: usize = 16;
/// Addresses that one MAC can have put aside as taken.
const DECLINES_PER_MAC: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Offered,
    Leased,
    /// The client found somebody else there.
    Declined,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub holder: Client,
    pub state: State,
    /// Seconds since 1970; `None` never ends.
    pub until: Option<u64>,
    pub hostname: Option<String>,
}

impl Entry {
    pub(super) fn is_live(&self, now: u64) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    entries: BTreeMap<Ipv4Addr, Entry>,
    by_holder: BTreeSet<(Client, Ipv4Addr)>,
    names: BTreeMap<String, Ipv4Addr>,
    record: Record,
    /// No address is left before this time, unless something changes. Spares a search of the whole
    /// table for each message of a guest that asks without end.
    exhausted_until: Option<u64>,
}

impl Table {
    pub(super) fn new(file: Option<LeaseFile>, leases: Vec<Lease>) -> Self {
        let mut table = Self {
            entries: BTreeMap::new(),
            by_holder: BTreeSet::new(),
            names: BTreeMap::new(),
            record: Record::new(None),
            exhausted_until: None,
        };
        for lease in leases {
            let IpAddr::V4(address) = lease.address else { continue };
            let holder = Client { mac: lease.mac, id: lease.client_id };
            let (until, hostname) = (lease.expires, lease.hostname);
            table.insert(address, Entry { holder, state: State::Leased, until, hostname });
        }
        // Only now: these are on record already.
        table.record = Record::new(file);
        table
    }

    pub(super) fn get(&self, address: Ipv4Addr) -> Option<&Entry> {
        self.entries.get(&address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Entry)> {
        self.entries.iter().map(|(address, entry)| (*address, entry))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_LEASES
    }

    /// What `client` holds or held.
    pub(super) fn of_client(&self, client: &Client) -> impl Iterator<Item = (Ipv4Addr, &Entry)> {
        let from = (client.clone(), Ipv4Addr::UNSPECIFIED);
        let to = (client.clone(), Ipv4Addr::BROADCAST);
        let held = self.by_holder.range(from..=to);
        held.filter_map(|(_, address)| Some((*address, self.entries.get(address)?)))
    }

    fn of_mac(&self, mac: Mac) -> impl Iterator<Item = (Ipv4Addr, &Entry)> {
        // No identifier comes before any identifier.
        let from = (Client { mac, id: None }, Ipv4Addr::UNSPECIFIED);
        let held = self.by_holder.range(from..).take_while(move |(client, _)| client.mac == mac);
        held.filter_map(|(_, address)| Some((*address, self.entries.get(address)?)))
    }

    /// Who goes by `name`.
    pub(super) fn named(&self, name: &str) -> Option<(Ipv4Addr, &Entry)> {
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

    pub(super) fn insert(&mut self, address: Ipv4Addr, entry: Entry) {
        self.forget(address);
        if let Some(name) = &entry.hostname {
            self.names.insert(name.clone(), address);
        }
        self.by_holder.insert((entry.holder.clone(), address));
        let lease = (entry.state == State::Leased).then(|| Lease {
            mac: entry.holder.mac,
            client_id: entry.holder.id.clone(),
            association: None,
            address: address.into(),
            hostname: entry.hostname.clone(),
            expires: entry.until,
        });
        self.entries.insert(address, entry);
        self.record.write(address.into(), lease.as_ref());
    }

    pub(super) fn remove(&mut self, address: Ipv4Addr) {
        if self.forget(address) {
            self.record.write(address.into(), None);
        }
    }

    fn forget(&mut self, address: Ipv4Addr) -> bool {
        self.exhausted_until = None;
        let Some(entry) = self.entries.remove(&address) else { return false };
        if let Some(name) = &entry.hostname
            && self.names.get(name) == Some(&address)
        {
            self.names.remove(name);
        }
        self.by_holder.remove(&(entry.holder, address));
        true
    }

    /// Take back what was offered to `client` and not taken.
    pub(super) fn drop_offers(&mut self, client: &Client) {
        self.remove_of(client, |_, entry| entry.state == State::Offered);
    }

    /// A client has one lease: give up all but `kept`. What it found taken stays put aside.
    pub(super) fn drop_others(&mut self, client: &Client, kept: Ipv4Addr) {
        self.remove_of(client, |address, entry| address != kept && entry.state != State::Declined);
    }

    fn remove_of(&mut self, client: &Client, which: impl Fn(Ipv4Addr, &Entry) -> bool) {
        let gone: Vec<_> = self
            .of_client(client)
            .filter(|(address, entry)| which(*address, entry))
            .map(|(address, _)| address)
            .collect();
        gone.into_iter().for_each(|address| self.remove(address));
    }

    /// Make room among what the MAC of `client` holds, if `client` is new there.
    pub(super) fn make_room(&mut self, client: &Client) {
        if self.of_client(client).next().is_some() {
            return;
        }
        let held = self.of_mac(client.mac).filter(|(_, entry)| entry.state != State::Declined);
        let mut held: Vec<_> = held.map(|(address, entry)| (entry.until, address)).collect();
        if held.len() < PER_MAC {
            return;
        }
        held.sort_by_key(|(until, _)| until.unwrap_or(u64::MAX));
        let too_many = held.len() + 1 - PER_MAC;
        held.into_iter().take(too_many).for_each(|(_, address)| self.remove(address));
    }

    /// Whether `client` may have one more address put aside.
    pub(super) fn may_decline(&self, client: &Client, now: u64) -> bool {
        let declined = |entry: &Entry| entry.state == State::Declined && entry.is_live(now);
        let count = self.of_mac(client.mac).filter(|(_, entry)| declined(entry)).count();
        count < DECLINES_PER_MAC
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Ipv4Addr) -> bool) {
        let gone: Vec<_> = self.entries.keys().copied().filter(|address| !keep(*address)).collect();
        gone.into_iter().for_each(|address| self.remove(address));
    }
}
