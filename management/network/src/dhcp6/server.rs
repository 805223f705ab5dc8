//! [`Server`]: what each message of a client leads to (RFC 8415 §18.3).

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Kind as Reply, Outcome, Status};
use super::message::{Association, Kind, Request};
use super::plan::Plan;
use super::table::{Entry, Holder, State, Table};
use crate::config::{Dhcp6, NetworkConfig, Settings};
use crate::limit::Quiet;
use crate::{Hex, Lease, LeaseFile, Mac, names};

/// Seconds that an offer stands.
const OFFER_SECONDS: u64 = 60;
/// Seconds that an address rests after a client found it taken.
const DECLINE_SECONDS: u64 = 600;

/// What never changes while the network runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name of the network, for messages.
    pub network: String,
    pub gateway: Ipv6Net,
    /// By which clients know the server again (DUID).
    pub server_id: Vec<u8>,
}

impl Link {
    pub fn of(config: &NetworkConfig) -> Option<Self> {
        let ipv6 = config.ipv6.as_ref()?;
        let Hex(server_id) = ipv6.server_id.clone()?;
        Some(Self { network: config.name.clone(), gateway: ipv6.gateway, server_id })
    }
}

/// Messages since the start, by what they were or led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub solicits: u64,
    pub requests: u64,
    /// Renewals and rebindings.
    pub renewals: u64,
    pub leased: u64,
    pub releases: u64,
    pub declines: u64,
    pub confirms: u64,
    pub informations: u64,
    /// No address was left.
    pub exhausted: u64,
    /// Malformed, relayed, for another server, or of another kind.
    pub ignored: u64,
}

#[derive(Debug)]
pub struct Server {
    pub(super) link: Link,
    pub(super) domain: Option<String>,
    pub(super) dns: bool,
    serves: bool,
    plan: Plan,
    table: Table,
    /// Names that no client can take because the configuration gives them.
    reserved: BTreeSet<String>,
    counters: Counters,
    exhausted: Quiet,
    declined: Quiet,
}

impl Server {
    pub fn new(
        link: Link,
        settings: &Settings,
        file: Option<LeaseFile>,
        leases: Vec<Lease>,
    ) -> Self {
        let mut server = Self {
            plan: Plan::new(&Dhcp6::default(), link.gateway.addr()),
            link,
            domain: None,
            dns: false,
            serves: false,
            table: Table::new(file, leases),
            reserved: BTreeSet::new(),
            counters: Counters::default(),
            exhausted: Quiet::once_in(Duration::from_secs(60)),
            declined: Quiet::once_in(Duration::from_secs(60)),
        };
        server.configure(settings);
        server
    }

    /// Serve by `settings` from now on.
    pub fn configure(&mut self, settings: &Settings) {
        self.serves = settings.dhcp6.is_some();
        self.domain = settings.domain.as_ref().map(|domain| names::canonical(&domain.name));
        self.dns = settings.dns.enabled;
        let dhcp = settings.dhcp6.clone().unwrap_or_default();
        self.plan = Plan::new(&dhcp, self.link.gateway.addr());
        self.reserved = names::configured(settings);
        let plan = &self.plan;
        self.table.retain(|address| plan.serves(address));
        self.table.reconsider();
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn live_leases(&self, now: u64) -> usize {
        let leased = |entry: &Entry| entry.state == State::Leased && entry.is_live(now);
        self.table.iter().filter(|(_, entry)| leased(entry)).count()
    }

    /// The address of who goes by the label `name`, and whose it is where it was leased.
    pub(crate) fn address_of(&self, name: &str, now: u64) -> Option<(Ipv6Addr, Option<Mac>)> {
        let leased = self.table.named(name).filter(|(_, entry)| entry.is_live(now));
        leased
            .map(|(address, entry)| (address, entry.mac))
            .or_else(|| self.plan.host_named(name).map(|host| (host.address, host.mac)))
    }

    pub(crate) fn name_of(&self, address: Ipv6Addr, now: u64) -> Option<String> {
        match self.table.get(address).filter(|entry| entry.is_live(now)) {
            Some(entry) => entry.hostname.clone(),
            None => self.plan.host_at(address)?.name.as_deref().map(names::canonical),
        }
    }

    /// What to answer to `packet`, which came from an address of the link, if anything.
    pub fn handle(&mut self, packet: &[u8], source: Ipv6Addr, now: u64) -> Option<Vec<u8>> {
        let request = Request::parse(packet, source).filter(|_| self.serves);
        let Some(request) = request.filter(|request| self.is_meant(request)) else {
            self.counters.ignored += 1;
            return None;
        };
        let counters = &mut self.counters;
        match (request.kind, &request.client) {
            (Kind::Information, _) => {
                counters.informations += 1;
                let answer = Answer::new(self, &request, Reply::Reply);
                Some(answer.finish(self, &request))
            }
            (_, None) => {
                counters.ignored += 1;
                None
            }
            (Kind::Solicit, Some(id)) => {
                counters.solicits += 1;
                self.solicit(&request, id, now)
            }
            (Kind::Request, Some(id)) => {
                counters.requests += 1;
                Some(self.lease(&request, id, now))
            }
            (Kind::Renew | Kind::Rebind, Some(id)) => {
                counters.renewals += 1;
                Some(self.lease(&request, id, now))
            }
            (Kind::Confirm, Some(_)) => {
                counters.confirms += 1;
                self.confirm(&request)
            }
            (Kind::Release, Some(id)) => {
                counters.releases += 1;
                Some(self.give_up(&request, id, now))
            }
            (Kind::Decline, Some(id)) => {
                counters.declines += 1;
                Some(self.give_up(&request, id, now))
            }
        }
    }

    /// RFC 8415 §16: some messages name the server that they are for, and others must not.
    fn is_meant(&self, request: &Request) -> bool {
        let ours = || request.server.as_ref() == Some(&self.link.server_id);
        match request.kind {
            Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => ours(),
            Kind::Solicit | Kind::Confirm | Kind::Rebind => request.server.is_none(),
            // With addresses it would be another message.
            Kind::Information => {
                request.associations.is_empty() && (request.server.is_none() || ours())
            }
        }
    }

    fn solicit(&mut self, request: &Request, id: &Hex, now: u64) -> Option<Vec<u8>> {
        // Who wants only what we do not have (prefixes, temporary addresses) hears so.
        let mut outcomes = Vec::new();
        for (number, association) in request.associations.iter().enumerate() {
            let commits = request.rapid_commit;
            let outcome = self.assign(request, id, association, number == 0, commits, now);
            outcomes.push((association.id, outcome));
        }
        let is_lease = |outcome: &Outcome| matches!(outcome, Outcome::Lease(..));
        if !outcomes.iter().any(|(_, outcome)| is_lease(outcome)) {
            let answer = Answer::new(self, request, Reply::Advertise).status(Status::NoAddress);
            return Some(answer.finish(self, request));
        }
        let mut answer = match request.rapid_commit {
            true => Answer::new(self, request, Reply::Reply).rapid(),
            false => Answer::new(self, request, Reply::Advertise),
        };
        outcomes.iter().for_each(|(id, outcome)| answer.association(*id, outcome));
        Some(answer.finish(self, request))
    }

    /// An offer taken, or more time asked for.
    fn lease(&mut self, request: &Request, id: &Hex, now: u64) -> Vec<u8> {
        let mut outcomes = Vec::new();
        for (number, association) in request.associations.iter().enumerate() {
            let outcome = self.assign(request, id, association, number == 0, true, now);
            // What it had and has no more, it is to give up at once.
            let gone = !association.addresses.is_empty() && request.kind != Kind::Request;
            let outcome = match outcome {
                Outcome::Refused(_) if gone => Outcome::Withdrawn(association.addresses.clone()),
                other => other,
            };
            outcomes.push((association.id, outcome));
        }
        let mut answer = Answer::new(self, request, Reply::Reply);
        outcomes.iter().for_each(|(id, outcome)| answer.association(*id, outcome));
        answer.finish(self, request)
    }

    /// Give an association its address: offered, or leased where it `commits`.
    fn assign(
        &mut self,
        request: &Request,
        id: &Hex,
        association: &Association,
        is_first: bool,
        commits: bool,
        now: u64,
    ) -> Outcome {
        if self.plan.is_empty() {
            return Outcome::Refused(Status::NoAddress);
        }
        let holder = Holder { id: id.clone(), association: association.id };
        self.table.make_room(&holder, request.source);
        let Some(address) = self.choose(request, &holder, association, is_first, now) else {
            self.complain(request);
            return Outcome::Refused(Status::NoAddress);
        };
        let seconds = self.plan.lease_seconds(address);
        let held = self.table.get(address);
        let held = held.is_some_and(|it| it.is_of(&holder, request.source) && it.is_live(now));
        if commits || !held {
            let lease_end = || seconds.map(|seconds| now.saturating_add(seconds.into()));
            let (state, until) = match commits {
                true => (State::Leased, lease_end()),
                false => (State::Offered, Some(now.saturating_add(OFFER_SECONDS))),
            };
            let hostname = commits.then(|| self.hostname(request, now)).flatten();
            let (mac, source) = (request.mac(), request.source);
            let entry = Entry { holder: holder.clone(), mac, source, state, until, hostname };
            self.table.insert(address, entry);
        }
        if commits {
            self.table.drop_others(&holder, request.source, address);
            self.counters.leased += 1;
            tracing::debug!(%address, client = %holder.id, "leased");
        }
        Outcome::Lease(address, seconds)
    }

    /// The address kept for the client, the one it has or had, the one it asks for, and else the one
    /// that its identifier leads to.
    fn choose(
        &mut self,
        request: &Request,
        holder: &Holder,
        association: &Association,
        is_first: bool,
        now: u64,
    ) -> Option<Ipv6Addr> {
        let own = self.plan.host_of(&holder.id, request.mac(), request.hostname.as_deref());
        let own = own.map(|host| host.address);
        let usable = |address: Ipv6Addr| {
            if !self.plan.serves(address) {
                return false;
            }
            let is_kept = self.plan.host_at(address).is_some();
            if is_kept && (own != Some(address) || !is_first) {
                return false;
            }
            let Some(entry) = self.table.get(address).filter(|entry| entry.is_live(now)) else {
                return true;
            };
            // The system that a static host starts has another identifier than its boot loader.
            (entry.is_of(holder, request.source) || is_kept) && entry.state != State::Declined
        };
        let held = || {
            let held = self.table.of_holder(holder).filter(|(address, _)| usable(*address));
            held.max_by_key(|(_, entry)| entry.until.unwrap_or(u64::MAX)).map(|(it, _)| it)
        };
        let is_new = |address: &Ipv6Addr| self.table.get(*address).is_none();
        let wanted = || {
            let mut wanted = association.addresses.iter().copied();
            wanted.find(|it| usable(*it) && is_new(it) && !self.table.is_full())
        };
        let known = own.filter(|address| usable(*address)).or_else(held).or_else(wanted);
        if known.is_some() || self.table.is_exhausted(now) {
            return known;
        }
        let id = [holder.id.0.as_slice(), &holder.association.to_be_bytes()].concat();
        // Whatever is in the way has an entry or a host, or is the gateway.
        let limit = self.table.len() + self.plan.reserved() + 2;
        let fresh = match self.table.is_full() {
            true => None,
            false => self.plan.candidates(&id, limit).find(is_new),
        };
        let found = fresh.or_else(|| {
            let ended = self
                .table
                .iter()
                .filter(|(address, entry)| !entry.is_live(now) && usable(*address));
            ended.min_by_key(|(_, entry)| entry.until).map(|(address, _)| address)
        });
        if found.is_none() {
            self.table.set_exhausted(now);
        }
        found
    }

    /// Whether addresses are those of this link (RFC 8415 §18.3.3), whoever has them.
    fn confirm(&self, request: &Request) -> Option<Vec<u8>> {
        let mut addresses = request.associations.iter().flat_map(|it| &it.addresses).peekable();
        addresses.peek()?;
        let status = match addresses.all(|address| self.link.gateway.contains(address)) {
            true => Status::Success,
            false => Status::NotOnLink,
        };
        let answer = Answer::new(self, request, Reply::Reply).status(status);
        Some(answer.finish(self, request))
    }

    /// Released, or found taken: only who was given an address can say so.
    fn give_up(&mut self, request: &Request, id: &Hex, now: u64) -> Vec<u8> {
        let mut unknown = Vec::new();
        for association in &request.associations {
            let holder = Holder { id: id.clone(), association: association.id };
            let mut found = false;
            for address in &association.addresses {
                let entry = self.table.get(*address).filter(|entry| {
                    entry.is_of(&holder, request.source)
                        && entry.state == State::Leased
                        && entry.is_live(now)
                });
                let Some(entry) = entry.cloned() else { continue };
                found = true;
                let entry = match request.kind {
                    Kind::Decline => {
                        self.warn_of_decline(*address, &entry);
                        let until = Some(now.saturating_add(DECLINE_SECONDS));
                        Entry { state: State::Declined, until, hostname: None, ..entry }
                    }
                    // Kept, though ended: the client finds its address again while nobody needs it.
                    _ => Entry { until: Some(now), hostname: None, ..entry },
                };
                self.table.insert(*address, entry);
            }
            if !found {
                unknown.push(association.id);
            }
        }
        let mut answer = Answer::new(self, request, Reply::Reply).status(Status::Success);
        let refused = Outcome::Refused(Status::NoBinding);
        unknown.into_iter().for_each(|id| answer.association(id, &refused));
        answer.finish(self, request)
    }

    fn warn_of_decline(&mut self, address: Ipv6Addr, entry: &Entry) {
        if let Some(held_back) = self.declined.admit() {
            tracing::warn!(
                network = self.link.network, %address, client = %entry.holder.id, held_back,
                "a client found its address in use; look for who was given it by hand"
            );
        }
    }

    /// The name that the client goes by: the configured one, or its own unless that is taken.
    fn hostname(&self, request: &Request, now: u64) -> Option<String> {
        let id = request.client.as_ref()?;
        let own = self.plan.host_of(id, request.mac(), request.hostname.as_deref());
        if let Some(name) = own.and_then(|host| host.name.as_deref()) {
            return Some(names::canonical(name));
        }
        let name = request.hostname.clone()?;
        let held = self
            .table
            .named(&name)
            .is_some_and(|(_, entry)| entry.is_live(now) && entry.holder.id != *id);
        let configured = names::is_unclaimable(&name)
            || self.reserved.contains(&name)
            || self.plan.host_named(&name).is_some();
        (!held && !configured).then_some(name)
    }

    fn complain(&mut self, request: &Request) {
        self.counters.exhausted += 1;
        if let Some(held_back) = self.exhausted.admit() {
            tracing::warn!(
                network = self.link.network, source = %request.source, held_back,
                ranges = self.plan.describe(),
                "no IPv6 address is left; give the network a wider DHCP range or shorter leases"
            );
        }
    }
}
