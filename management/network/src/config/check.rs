//! What a configuration must hold to: a server starts with all of it or not at all.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Dhcp, Dns, NetworkConfig, Settings, VERSION, check6};
use crate::dhcp::MAX_CLIENT_ID;
use crate::dhcp::options::code;
use crate::names;
use crate::{Hex, Mac};

/// Ranges of a network; libvirt's users have one.
pub(super) const MAX_RANGES: usize = 256;
/// Static hosts, and records of each kind.
pub(super) const MAX_RECORDS: usize = 65_536;
/// Bytes of a boot file's name (RFC 2131 §2, `file` with its NUL) and of a server's.
const MAX_BOOT_FILE: usize = 127;
const MAX_BOOT_SERVER: usize = 63;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("the configuration is of version {found}; this server reads {VERSION}")]
    Version { found: u32 },
    #[error("DHCP is configured, but {missing}")]
    DhcpWithout { missing: &'static str },
    #[error("{network} has no room for guests: DHCP takes a prefix of at most 30 bits")]
    TooSmall { network: Ipv4Net },
    #[error("DHCP range {start} - {end} {problem} {network}")]
    Range { start: Ipv4Addr, end: Ipv4Addr, problem: &'static str, network: Ipv4Net },
    #[error("DHCP ranges {start} - {end} and {other_start} - {other_end} overlap")]
    Overlap { start: Ipv4Addr, end: Ipv4Addr, other_start: Ipv4Addr, other_end: Ipv4Addr },
    #[error("static address {address} {problem}")]
    Host { address: Ipv4Addr, problem: &'static str },
    #[error("{what} {address} {problem} {network}")]
    Address6 { what: &'static str, address: Ipv6Addr, problem: &'static str, network: Ipv6Net },
    #[error("DHCP ranges from {start} and from {other_start} overlap")]
    Overlap6 { start: Ipv6Addr, other_start: Ipv6Addr },
    #[error("{mac} has two static addresses")]
    MacTwice { mac: Mac },
    #[error("client identifier {id} has two static addresses")]
    ClientTwice { id: Hex },
    #[error("a lease of {address} lasts 0 seconds; leave the time out for a lease without end")]
    NoTime { address: IpAddr },
    #[error("DHCP option {code} {problem}")]
    Option { code: u8, problem: &'static str },
    #[error("{what} {name:?} is longer than {limit} bytes")]
    TooLong { what: &'static str, name: String, limit: usize },
    #[error("{name:?} cannot be {what}: a name is labels of letters, digits and hyphens")]
    Name { what: &'static str, name: String },
    #[error("{count} {what} are more than {limit}")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("guests make addresses from prefixes of 64 bits, and this one has {length}")]
    Slaac { length: u8 },
}

impl NetworkConfig {
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.version != VERSION {
            return Err(ConfigError::Version { found: self.version });
        }
        if let Some(ipv6) = self.ipv6.as_ref().filter(|ipv6| ipv6.slaac)
            && ipv6.gateway.prefix_len() != 64
        {
            return Err(ConfigError::Slaac { length: ipv6.gateway.prefix_len() });
        }
        self.check_settings(&self.settings)
    }

    /// Whether this network can change to `settings`.
    pub fn check_settings(&self, settings: &Settings) -> Result<(), ConfigError> {
        if let Some(domain) = &settings.domain {
            name("a domain", &domain.name)?;
        }
        if let Some(dhcp) = &settings.dhcp {
            let missing = |missing| ConfigError::DhcpWithout { missing };
            self.files
                .dhcp
                .ok_or(missing("no socket for it was given when the network started"))?;
            let network = self.ipv4.ok_or(missing("the network has no IPv4 address"))?;
            check_dhcp(dhcp, network)?;
        }
        if let Some(dhcp) = &settings.dhcp6 {
            let missing = |missing| ConfigError::DhcpWithout { missing };
            self.files
                .dhcp6
                .ok_or(missing("no socket for DHCPv6 was given when the network started"))?;
            let ipv6 = self.ipv6.as_ref().ok_or(missing("the network has no IPv6 address"))?;
            ipv6.server_id.as_ref().ok_or(missing("its server has no identifier (DUID)"))?;
            check6::check(dhcp, ipv6.gateway)?;
        }
        check_dns(&settings.dns)
    }
}

fn check_dhcp(dhcp: &Dhcp, network: Ipv4Net) -> Result<(), ConfigError> {
    if network.prefix_len() > 30 {
        return Err(ConfigError::TooSmall { network });
    }
    count("DHCP ranges", dhcp.ranges.len(), MAX_RANGES)?;
    count("static hosts", dhcp.hosts.len(), MAX_RECORDS)?;
    check_ranges(dhcp, network)?;
    check_hosts(dhcp, network)?;
    for option in &dhcp.options {
        let problem = |problem| Err(ConfigError::Option { code: option.code, problem });
        if code::OURS.contains(&option.code) {
            return problem("follows from the rest of the configuration");
        }
        if option.value.0.len() > 255 {
            return problem("is longer than 255 bytes");
        }
    }
    if let Some(boot) = &dhcp.boot {
        short("boot file", &boot.file, MAX_BOOT_FILE)?;
        short("boot server", boot.server.as_deref().unwrap_or_default(), MAX_BOOT_SERVER)?;
    }
    Ok(())
}

fn check_ranges(dhcp: &Dhcp, network: Ipv4Net) -> Result<(), ConfigError> {
    let mut sorted: Vec<_> = dhcp.ranges.iter().collect();
    sorted.sort_by_key(|range| range.start);
    for range in &sorted {
        let (start, end) = (range.start, range.end);
        let problem = |problem| Err(ConfigError::Range { start, end, problem, network });
        if end < start {
            return problem("ends before it begins, in");
        }
        if !(network.contains(&start) && network.contains(&end)) {
            return problem("lies outside");
        }
        if start == network.network() || end == network.broadcast() {
            return problem("takes in the first or the last address, which stand for all of");
        }
        if range.lease_seconds == Some(0) {
            return Err(ConfigError::NoTime { address: start.into() });
        }
    }
    for (range, other) in sorted.iter().zip(sorted.iter().skip(1)) {
        if other.start <= range.end {
            return Err(ConfigError::Overlap {
                start: range.start,
                end: range.end,
                other_start: other.start,
                other_end: other.end,
            });
        }
    }
    Ok(())
}

fn check_hosts(dhcp: &Dhcp, network: Ipv4Net) -> Result<(), ConfigError> {
    let mut addresses = BTreeSet::new();
    let mut macs = BTreeSet::new();
    let mut clients = BTreeSet::new();
    for host in &dhcp.hosts {
        let address = host.address;
        let problem = |problem| Err(ConfigError::Host { address, problem });
        if !network.contains(&address) {
            return problem("lies outside the network");
        }
        if [network.network(), network.broadcast(), network.addr()].contains(&address) {
            return problem("is the gateway's or stands for the whole network");
        }
        if !addresses.insert(address) {
            return problem("is given to two hosts");
        }
        if host.mac.is_none() && host.client_id.is_none() && host.name.is_none() {
            return problem("has neither MAC nor client identifier nor name to go by");
        }
        if let Some(mac) = host.mac.filter(|mac| !macs.insert(*mac)) {
            return Err(ConfigError::MacTwice { mac });
        }
        let id = host.client_id.as_ref();
        if id.is_some_and(|id| !(2..=MAX_CLIENT_ID).contains(&id.0.len())) {
            return problem("has a client identifier of fewer than 2 or more than 140 bytes");
        }
        if let Some(id) = id.filter(|id| !clients.insert(*id)) {
            return Err(ConfigError::ClientTwice { id: id.clone() });
        }
        if host.lease_seconds == Some(0) {
            return Err(ConfigError::NoTime { address: address.into() });
        }
        if let Some(name) = host.name.as_ref().filter(|name| !names::is_label(name)) {
            return Err(ConfigError::Name { what: "a host's name", name: name.clone() });
        }
    }
    Ok(())
}

fn check_dns(dns: &Dns) -> Result<(), ConfigError> {
    count("DNS hosts", dns.hosts.len(), MAX_RECORDS)?;
    count("SRV records", dns.srv.len(), MAX_RECORDS)?;
    count("TXT records", dns.txt.len(), MAX_RECORDS)?;
    count("forwarders", dns.forwarders.len(), MAX_RECORDS)?;
    let names = dns.hosts.iter().flat_map(|host| &host.names);
    names.chain(&dns.gateway_names).try_for_each(|host| name("a host's name", host))?;
    let domains = dns.forwarders.iter().filter_map(|forwarder| forwarder.domain.as_ref());
    domains.into_iter().try_for_each(|domain| name("a forwarder's domain", domain))?;
    for srv in &dns.srv {
        name("the name of a SRV record", &srv.name)?;
        srv.target.iter().try_for_each(|target| name("the target of a SRV record", target))?;
    }
    for txt in &dns.txt {
        name("the name of a TXT record", &txt.name)?;
        short("TXT record", &txt.value, MAX_TXT)?;
    }
    Ok(())
}

/// Bytes of a TXT record: it must fit an answer over TCP, and no one has use for more.
const MAX_TXT: usize = 4096;

fn name(what: &'static str, name: &str) -> Result<(), ConfigError> {
    match names::is_name(name) {
        true => Ok(()),
        false => Err(ConfigError::Name { what, name: name.to_owned() }),
    }
}

fn short(what: &'static str, name: &str, limit: usize) -> Result<(), ConfigError> {
    match name.len() <= limit {
        true => Ok(()),
        false => Err(ConfigError::TooLong { what, name: name.to_owned(), limit }),
    }
}

pub(super) fn count(what: &'static str, count: usize, limit: usize) -> Result<(), ConfigError> {
    match count <= limit {
        true => Ok(()),
        false => Err(ConfigError::TooMany { what, count, limit }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(settings: serde_json::Value) -> Result<(), ConfigError> {
        let config = json!({
            "version": 1, "name": "lab", "bridge": "br0",
            "files": { "control": 4, "dhcp": 5 },
            "ipv4": "192.168.7.1/24",
            "settings": settings,
        });
        serde_json::from_value::<NetworkConfig>(config).expect("well formed").check()
    }

    fn with_dhcp(dhcp: serde_json::Value) -> Result<(), ConfigError> {
        checked(json!({ "dhcp": dhcp }))
    }

    #[test]
    fn a_range_lies_within_the_network_and_apart_from_others() {
        let range = |start: &str, end: &str| json!({ "start": start, "end": end });
        let good =
            json!([range("192.168.7.2", "192.168.7.9"), range("192.168.7.10", "192.168.7.99")]);
        assert_eq!(with_dhcp(json!({ "ranges": good })), Ok(()));
        for (start, end) in [
            ("192.168.7.9", "192.168.7.2"),
            ("192.168.7.2", "192.168.8.2"),
            ("192.168.7.0", "192.168.7.9"),
            ("192.168.7.2", "192.168.7.255"),
        ] {
            let found = with_dhcp(json!({ "ranges": [range(start, end)] }));
            assert!(matches!(found, Err(ConfigError::Range { .. })), "{start} {end}: {found:?}");
        }
        let both =
            json!([range("192.168.7.2", "192.168.7.9"), range("192.168.7.9", "192.168.7.99")]);
        let found = with_dhcp(json!({ "ranges": both }));
        assert!(matches!(found, Err(ConfigError::Overlap { .. })), "{found:?}");
    }

    #[test]
    fn hosts_are_told_apart() {
        let mac = "52:54:00:00:00:01";
        let twice = json!([
            { "mac": mac, "address": "192.168.7.2" }, { "mac": mac, "address": "192.168.7.3" },
        ]);
        let found = with_dhcp(json!({ "hosts": twice }));
        assert!(matches!(found, Err(ConfigError::MacTwice { .. })), "{found:?}");
        for host in [
            json!({ "address": "192.168.7.2" }),
            json!({ "mac": mac, "address": "192.168.7.1" }),
            json!({ "mac": mac, "address": "192.168.8.2" }),
            json!({ "client_id": "01", "address": "192.168.7.2" }),
        ] {
            let found = with_dhcp(json!({ "hosts": [host] }));
            assert!(matches!(found, Err(ConfigError::Host { .. })), "{found:?}");
        }
    }

    #[test]
    fn options_that_follow_from_the_rest_are_not_set_by_hand() {
        let option = json!([{ "code": 54, "value": "0a000001" }]);
        assert_eq!(
            with_dhcp(json!({ "options": option })).unwrap_err().to_string(),
            "DHCP option 54 follows from the rest of the configuration"
        );
        assert_eq!(with_dhcp(json!({ "options": [{ "code": 119, "value": "00" }] })), Ok(()));
    }

    #[test]
    fn names_are_names() {
        let found = checked(json!({ "domain": { "name": "no good" } }));
        assert!(matches!(found, Err(ConfigError::Name { .. })), "{found:?}");
        let host = json!([{ "address": "192.168.7.2", "names": ["ok", "-"] }]);
        let found = checked(json!({ "dns": { "hosts": host } }));
        assert!(matches!(found, Err(ConfigError::Name { .. })), "{found:?}");
    }

    #[test]
    fn fields_nobody_knows_are_refused() {
        let text = r#"{"version":1,"name":"n","bridge":"b","files":{"control":4},"colour":1}"#;
        assert!(serde_json::from_str::<NetworkConfig>(text).is_err());
    }
}
