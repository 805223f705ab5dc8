//! [`Server`]: what each message of a client leads to (RFC 2131 §4.3).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Reply;
use super::choice::Plan;
use super::options::code;
use super::packet::{Kind, Request};
use super::table::{Entry, State, Table};
use crate::config::{Dhcp, NetworkConfig, Settings};
use crate::limit::Quiet;
use crate::{Lease, LeaseFile, Mac, names};

/// Seconds that an offer stands; clients ask again after 4, 8, 16 … of them.
const OFFER_SECONDS: u64 = 60;
/// Seconds that an address rests after a client found it taken.
const DECLINE_SECONDS: u64 = 600;
/// Shortest lease a client can ask for, seconds, where the configuration has longer ones.
const SHORTEST_LEASE: u32 = 120;

/// What DHCP tells of the link and never changes while the network runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name of the network, for messages.
    pub network: String,
    pub gateway: Ipv4Net,
    pub mtu: Option<u16>,
    pub isolated: bool,
}

impl Link {
    pub fn of(config: &NetworkConfig) -> Option<Self> {
        let gateway = config.ipv4?;
        let NetworkConfig { mtu, isolated, .. } = *config;
        Some(Self { network: config.name.clone(), gateway, mtu, isolated })
    }

    /// Whether a guest could have `address`: messages sent there stay on the link, and are for one.
    fn can_be_guest(&self, address: Ipv4Addr) -> bool {
        let ours = [self.gateway.addr(), self.gateway.network(), self.gateway.broadcast()];
        self.gateway.contains(&address) && !ours.contains(&address)
    }
}

/// Messages since the start, by what they were or led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub discovers: u64,
    pub offers: u64,
    pub requests: u64,
    pub acks: u64,
    pub naks: u64,
    pub declines: u64,
    pub releases: u64,
    pub informs: u64,
    /// No address was left.
    pub exhausted: u64,
    /// Malformed, relayed, or of another kind.
    pub ignored: u64,
}

#[derive(Debug)]
pub struct Server {
    pub(super) link: Link,
    pub(super) dhcp: Dhcp,
    pub(super) domain: Option<String>,
    pub(super) dns: bool,
    /// The configuration has DHCP at all: without, clients of another server are not refused.
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
            plan: Plan::new(&Dhcp::default(), link.gateway.addr()),
            link,
            dhcp: Dhcp::default(),
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

    /// Serve by `settings` from now on. Who holds an address that is no longer served hears so when
    /// it asks for more time.
    pub fn configure(&mut self, settings: &Settings) {
        self.serves = settings.dhcp.is_some();
        self.dhcp = settings.dhcp.clone().unwrap_or_default();
        self.domain = settings.domain.as_ref().map(|domain| names::canonical(&domain.name));
        self.dns = settings.dns.enabled;
        self.plan = Plan::new(&self.dhcp, self.link.gateway.addr());
        self.reserved = names::configured(settings);
        let plan = &self.plan;
        self.table.retain(|address| plan.serves(address));
        self.table.reconsider();
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Number of leases at `now`, seconds since 1970 (as everywhere in here).
    pub fn live_leases(&self, now: u64) -> usize {
        let leased = |entry: &Entry| entry.state == State::Leased && entry.is_live(now);
        self.table.iter().filter(|(_, entry)| leased(entry)).count()
    }

    /// The address of who goes by the label `name`: of a client, or of a static host that has yet to ask.
    pub fn address_of(&self, name: &str, now: u64) -> Option<Ipv4Addr> {
        let leased = self.table.named(name).filter(|(_, entry)| entry.is_live(now));
        leased
            .map(|(address, _)| address)
            .or_else(|| self.plan.host_named(name).map(|host| host.address))
    }

    /// Whose the name is, where it was leased.
    pub(crate) fn mac_named(&self, name: &str, now: u64) -> Option<Mac> {
        let leased = self.table.named(name).filter(|(_, entry)| entry.is_live(now));
        leased.map(|(_, entry)| entry.holder.mac)
    }

    pub fn name_of(&self, address: Ipv4Addr, now: u64) -> Option<String> {
        match self.table.get(address).filter(|entry| entry.is_live(now)) {
            Some(entry) => entry.hostname.clone(),
            None => self.plan.host_at(address)?.name.as_deref().map(names::canonical),
        }
    }

    /// What to answer to `packet`, if anything.
    pub fn handle(&mut self, packet: &[u8], now: u64) -> Option<Reply> {
        let request = Request::parse(packet).filter(|_| self.serves);
        let Some(request) = request else {
            self.counters.ignored += 1;
            return None;
        };
        match request.kind {
            Kind::Discover => self.discover(&request, now),
            Kind::Request => self.request(&request, now),
            Kind::Decline => self.decline(&request, now),
            Kind::Release => self.release(&request, now),
            Kind::Inform => self.inform(&request),
            Kind::Offer | Kind::Ack | Kind::Nak => None,
        }
    }

    fn discover(&mut self, request: &Request, now: u64) -> Option<Reply> {
        self.counters.discovers += 1;
        self.table.drop_offers(&request.client);
        self.table.make_room(&request.client);
        let Some(address) = self.plan.choose(&mut self.table, request, now) else {
            self.complain(request);
            return None;
        };
        let entry = self.table.get(address);
        if !entry.is_some_and(|entry| entry.holder == request.client && entry.is_live(now)) {
            let holder = request.client.clone();
            let until = Some(now.saturating_add(OFFER_SECONDS));
            let offer = Entry { holder, state: State::Offered, until, hostname: None };
            self.table.insert(address, offer);
        }
        self.counters.offers += 1;
        let hostname = self.hostname(request, now);
        let seconds = self.lease_seconds(request, address);
        Some(self.grant(request, Kind::Offer, address, seconds, hostname.as_deref()))
    }

    /// An offer taken, an address used before a restart (init-reboot), or more time asked for.
    fn request(&mut self, request: &Request, now: u64) -> Option<Reply> {
        self.counters.requests += 1;
        let server = request.options.address(code::SERVER);
        if server.is_some_and(|server| server != self.link.gateway.addr()) {
            // It took another's offer.
            self.table.drop_offers(&request.client);
            return None;
        }
        let wanted = request.options.address(code::REQUESTED);
        let address = match (wanted, request.ciaddr) {
            (Some(wanted), _) => wanted,
            (None, ciaddr) if !ciaddr.is_unspecified() => ciaddr,
            (None, _) => return None,
        };
        let usable = |address| self.plan.is_usable(&self.table, request, address, now);
        let kept = self.plan.host_of(&request.client, request.hostname.as_deref());
        // A host that was given a static address since has to move to it.
        let moves = kept.is_some_and(|host| host.address != address && usable(host.address));
        if moves || !usable(address) {
            self.counters.naks += 1;
            let reason = if moves { "another address is kept for you" } else { "not available" };
            return Some(self.refuse(request, reason));
        }
        self.table.make_room(&request.client);
        if self.table.get(address).is_none() && self.table.is_full() {
            self.complain(request);
            return None;
        }
        let hostname = self.hostname(request, now);
        let seconds = self.lease_seconds(request, address);
        let until = seconds.map(|seconds| now.saturating_add(seconds.into()));
        let holder = request.client.clone();
        let lease = Entry { holder, state: State::Leased, until, hostname: hostname.clone() };
        self.table.insert(address, lease);
        self.table.drop_others(&request.client, address);
        self.counters.acks += 1;
        tracing::debug!(%address, mac = %request.client.mac, "leased");
        Some(self.grant(request, Kind::Ack, address, seconds, hostname.as_deref()))
    }

    /// Only who was given an address can say that somebody else has it.
    fn decline(&mut self, request: &Request, now: u64) -> Option<Reply> {
        self.counters.declines += 1;
        let address = request.options.address(code::REQUESTED)?;
        let entry = self.table.get(address)?;
        if entry.holder != request.client || entry.state == State::Declined || !entry.is_live(now) {
            return None;
        }
        if !self.table.may_decline(&request.client, now) {
            self.table.remove(address);
            return None;
        }
        let holder = request.client.clone();
        if let Some(held_back) = self.declined.admit() {
            tracing::warn!(
                network = self.link.network, %address, mac = %holder.mac, held_back,
                "a client found its address in use; look for who was given it by hand"
            );
        }
        let until = Some(now.saturating_add(DECLINE_SECONDS));
        self.table.insert(address, Entry { holder, state: State::Declined, until, hostname: None });
        None
    }

    fn release(&mut self, request: &Request, now: u64) -> Option<Reply> {
        self.counters.releases += 1;
        let entry = self.table.get(request.ciaddr)?;
        if entry.holder == request.client && entry.state == State::Leased && entry.is_live(now) {
            // Kept, though ended: the client finds its address again while nobody needs it.
            let ended = Entry { until: Some(now), hostname: None, ..entry.clone() };
            self.table.insert(request.ciaddr, ended);
        }
        None
    }

    /// The client has an address from elsewhere and wants to know the rest.
    fn inform(&mut self, request: &Request) -> Option<Reply> {
        self.counters.informs += 1;
        if !self.link.can_be_guest(request.ciaddr) {
            return None;
        }
        self.counters.acks += 1;
        Some(self.inform_answer(request))
    }

    /// Seconds; `None` without end. A client can ask for less than is configured.
    fn lease_seconds(&self, request: &Request, address: Ipv4Addr) -> Option<u32> {
        let configured = self.plan.lease_seconds(address);
        let wanted = request.options.array::<4>(code::LEASE_TIME).map(u32::from_be_bytes);
        match (configured, wanted.filter(|wanted| *wanted != u32::MAX)) {
            (Some(configured), Some(wanted)) => {
                Some(wanted.clamp(SHORTEST_LEASE.min(configured), configured))
            }
            (None, Some(wanted)) => Some(wanted.max(SHORTEST_LEASE)),
            (configured, None) => configured,
        }
    }

    /// The name that the client goes by: the configured one, or its own unless that is taken.
    fn hostname(&self, request: &Request, now: u64) -> Option<String> {
        let own = self.plan.host_of(&request.client, request.hostname.as_deref());
        if let Some(name) = own.and_then(|host| host.name.as_deref()) {
            return Some(names::canonical(name));
        }
        let name = request.hostname.clone()?;
        let held = self
            .table
            .named(&name)
            .is_some_and(|(_, entry)| entry.is_live(now) && entry.holder.mac != request.client.mac);
        let special = names::is_unclaimable(&name);
        let configured =
            special || self.reserved.contains(&name) || self.plan.host_named(&name).is_some();
        (!held && !configured).then_some(name)
    }

    fn complain(&mut self, request: &Request) {
        self.counters.exhausted += 1;
        if let Some(held_back) = self.exhausted.admit() {
            tracing::warn!(
                network = self.link.network, mac = %request.client.mac, held_back,
                ranges = self.plan.describe(),
                "no address is left; give the network a wider DHCP range or shorter leases"
            );
        }
    }
}
