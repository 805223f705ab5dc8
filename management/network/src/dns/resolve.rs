//! What becomes of a question: an answer from here, or a question to others.

use std::net::IpAddr;

use ipnet::IpNet;

use super::query::{Query, kind};
use super::{Zone, reverse};
use crate::config::Srv;
use crate::{dhcp, dhcp6};

/// Seconds that an answer may be kept: what leases say changes as guests come and go.
const LEASE_TTL: u32 = 10;
const CONFIGURED_TTL: u32 = 60;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// All there is; nothing where the name exists without such records.
    Answer(Vec<Record>),
    NoSuchName,
    Forward,
    Refuse,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// Seconds.
    pub ttl: u32,
    pub data: Data,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Address(IpAddr),
    Pointer(String),
    Srv(Srv),
    Txt(String),
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => kind::A,
            Self::Address(IpAddr::V6(_)) => kind::AAAA,
            Self::Pointer(_) => kind::PTR,
            Self::Srv(_) => kind::SRV,
            Self::Txt(_) => kind::TXT,
        }
    }
}

/// What guests were given, by family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases<'a> {
    pub ipv4: Option<&'a dhcp::Server>,
    pub ipv6: Option<&'a dhcp6::Server>,
}

impl Leases<'_> {
    /// A name has addresses of both families where both were given to one guest: who is the first
    /// to take the name with IPv4 has it alone.
    fn addresses_of(&self, name: &str, now: u64) -> Vec<IpAddr> {
        let ipv4 = self.ipv4.and_then(|leases| leases.address_of(name, now));
        let holder = self.ipv4.and_then(|leases| leases.mac_named(name, now));
        let ipv6 = self.ipv6.and_then(|leases| leases.address_of(name, now));
        let ipv6 = ipv6.filter(|(_, mac)| holder.is_none() || *mac == holder);
        let ipv4 = ipv4.map(IpAddr::V4);
        ipv4.into_iter().chain(ipv6.map(|(address, _)| IpAddr::V6(address))).collect()
    }

    fn name_of(&self, address: IpAddr, now: u64) -> Option<String> {
        match address {
            IpAddr::V4(address) => self.ipv4?.name_of(address, now),
            IpAddr::V6(address) => self.ipv6?.name_of(address, now),
        }
    }
}

/// `now` in seconds since 1970.
pub(super) fn resolve(query: &Query<'_>, zone: &Zone, leases: Leases<'_>, now: u64) -> Verdict {
    let transfer = [kind::AXFR, kind::IXFR].contains(&query.kind);
    if ![kind::IN, kind::ANY].contains(&query.class) || transfer {
        return Verdict::Refuse;
    }
    if let Some(net) = reverse::net_of(&query.name) {
        return pointer(query, zone, leases, net, now);
    }
    if let Some(records) = known(&query.name, zone, leases, now) {
        return Verdict::Answer(of_kind(records, query.kind));
    }
    let in_domain = zone.domain.as_deref().is_some_and(|domain| {
        crate::names::below(&query.name, domain).is_some() && zone.local_only
    });
    if in_domain {
        return Verdict::NoSuchName;
    }
    if zone.local_only && zone.domain.as_ref() == Some(&query.name) {
        return Verdict::Answer(Vec::new());
    }
    // Only addresses: what a resolver asks of a top-level domain's keys has to get through.
    let of_host = [kind::A, kind::AAAA, kind::ANY].contains(&query.kind);
    if of_host && query.labels.len() == 1 && !zone.forward_plain_names {
        return Verdict::NoSuchName;
    }
    Verdict::Forward
}

/// Nobody else is asked about addresses of the network: no one else knows of them.
fn pointer(query: &Query<'_>, zone: &Zone, leases: Leases<'_>, net: IpNet, now: u64) -> Verdict {
    let whole = net.prefix_len() == net.max_prefix_len();
    let name = whole.then(|| name_of(net.addr(), zone, leases, now)).flatten();
    match name {
        Some(record) => Verdict::Answer(of_kind(vec![record], query.kind)),
        None if !zone.holds(&net) => Verdict::Forward,
        None if whole => Verdict::NoSuchName,
        // There are names below it.
        None => Verdict::Answer(Vec::new()),
    }
}

fn name_of(address: IpAddr, zone: &Zone, leases: Leases<'_>, now: u64) -> Option<Record> {
    if let Some(name) = zone.pointer(address) {
        return Some(Record { ttl: CONFIGURED_TTL, data: Data::Pointer(name.to_owned()) });
    }
    let label = leases.name_of(address, now)?;
    let name = match &zone.domain {
        Some(domain) => format!("{label}.{domain}"),
        None => label,
    };
    Some(Record { ttl: LEASE_TTL, data: Data::Pointer(name) })
}

/// All records of `name`, or `None` if it is not known here. A guest's name never stands beside a
/// configured one.
fn known(name: &str, zone: &Zone, leases: Leases<'_>, now: u64) -> Option<Vec<Record>> {
    let key = zone.key(name);
    let configured = |data| Record { ttl: CONFIGURED_TTL, data };
    let hosts = zone.addresses(key);
    let leased = match hosts {
        None => leases.addresses_of(key, now),
        Some(_) => Vec::new(),
    };
    let (srv, txt) = (zone.srv(name), zone.txt(name));
    if hosts.is_none() && leased.is_empty() && srv.is_none() && txt.is_none() {
        return None;
    }
    let mut records: Vec<Record> = hosts
        .unwrap_or_default()
        .iter()
        .map(|address| configured(Data::Address(*address)))
        .collect();
    records.extend(leased.into_iter().map(lease_record));
    records.extend(srv.unwrap_or_default().iter().cloned().map(Data::Srv).map(configured));
    records.extend(txt.unwrap_or_default().iter().cloned().map(Data::Txt).map(configured));
    Some(records)
}

fn lease_record(address: IpAddr) -> Record {
    Record { ttl: LEASE_TTL, data: Data::Address(address) }
}

fn of_kind(mut records: Vec<Record>, kind: u16) -> Vec<Record> {
    records.retain(|record| kind == kind::ANY || record.data.kind() == kind);
    records
}
