//! What DHCP for IPv6 must hold to.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::check::{ConfigError, MAX_RANGES, MAX_RECORDS, count};
use super::{Dhcp6, Host6};
use crate::dhcp6::DUID;
use crate::names;

pub(super) fn check(dhcp: &Dhcp6, network: Ipv6Net) -> Result<(), ConfigError> {
    count("DHCP ranges", dhcp.ranges.len(), MAX_RANGES)?;
    count("static hosts", dhcp.hosts.len(), MAX_RECORDS)?;
    check_ranges(dhcp, network)?;
    let mut addresses = BTreeSet::new();
    let mut macs = BTreeSet::new();
    let mut clients = BTreeSet::new();
    for host in &dhcp.hosts {
        check_host(host, network)?;
        if !addresses.insert(host.address) {
            return problem("static address", host.address, "is given to two hosts of", network);
        }
        if let Some(mac) = host.mac.filter(|mac| !macs.insert(*mac)) {
            return Err(ConfigError::MacTwice { mac });
        }
        if let Some(id) = host.client_id.as_ref().filter(|id| !clients.insert(*id)) {
            return Err(ConfigError::ClientTwice { id: id.clone() });
        }
    }
    Ok(())
}

fn problem(
    what: &'static str,
    address: Ipv6Addr,
    problem: &'static str,
    network: Ipv6Net,
) -> Result<(), ConfigError> {
    Err(ConfigError::Address6 { what, address, problem, network })
}

fn check_ranges(dhcp: &Dhcp6, network: Ipv6Net) -> Result<(), ConfigError> {
    let mut sorted: Vec<_> = dhcp.ranges.iter().collect();
    sorted.sort_by_key(|range| range.start);
    for range in &sorted {
        for address in [range.start, range.end] {
            if !network.contains(&address) {
                return problem("the DHCP range with", address, "lies outside", network);
            }
        }
        if range.end < range.start {
            return problem(
                "the DHCP range from",
                range.start,
                "ends before it begins, in",
                network,
            );
        }
        // The subnet-router anycast address (RFC 4291 §2.6.1).
        if range.start == network.network() {
            return problem("the DHCP range from", range.start, "takes in the routers of", network);
        }
        if range.lease_seconds == Some(0) {
            return Err(ConfigError::NoTime { address: range.start.into() });
        }
    }
    for (range, other) in sorted.iter().zip(sorted.iter().skip(1)) {
        if other.start <= range.end {
            return Err(ConfigError::Overlap6 { start: range.start, other_start: other.start });
        }
    }
    Ok(())
}

fn check_host(host: &Host6, network: Ipv6Net) -> Result<(), ConfigError> {
    let wrong = |what| problem("static address", host.address, what, network);
    if !network.contains(&host.address) {
        return wrong("lies outside");
    }
    if [network.network(), network.addr()].contains(&host.address) {
        return wrong("is the gateway's or stands for all routers of");
    }
    if host.mac.is_none() && host.client_id.is_none() && host.name.is_none() {
        return wrong("has neither MAC nor client identifier nor name to go by, in");
    }
    if host.client_id.as_ref().is_some_and(|id| !DUID.contains(&id.0.len())) {
        return wrong("has a client identifier (DUID) of fewer than 3 or more than 130 bytes, in");
    }
    if host.lease_seconds == Some(0) {
        return Err(ConfigError::NoTime { address: host.address.into() });
    }
    match host.name.as_ref().filter(|name| !names::is_label(name)) {
        Some(name) => Err(ConfigError::Name { what: "a host's name", name: name.clone() }),
        None => Ok(()),
    }
}
