//! The advertisement itself (RFC 4861 §4.2, §4.6; RFC 8106).

use std::net::Ipv6Addr;

use super::schedule::LONGEST_INTERVAL;
use crate::config::{Dhcp6, NetworkConfig};
use crate::names;

const ROUTER_ADVERTISEMENT: u8 = 134;
/// What guests put into packets as their hop limit.
const HOP_LIMIT: u8 = 64;
const MANAGED: u8 = 1 << 7;
const OTHER: u8 = 1 << 6;
const ON_LINK: u8 = 1 << 7;
const AUTONOMOUS: u8 = 1 << 6;
/// Seconds: AdvDefaultLifetime's usual value, and lifetimes of addresses. These are shorter than the
/// standard's weeks, so that a network whose prefix changed is rid of the old one within a day.
const ROUTER_LIFETIME: u16 = 1800;
const VALID: u32 = 86_400;
const PREFERRED: u32 = 14_400;

mod option {
    pub(super) const PREFIX: u8 = 3;
    pub(super) const MTU: u8 = 5;
    pub(super) const RDNSS: u8 = 25;
    pub(super) const DNSSL: u8 = 31;
}

/// The message, its checksum left to the kernel. `last` takes back the route and the resolver.
pub(crate) fn advertisement(config: &NetworkConfig, last: bool) -> Option<Vec<u8>> {
    let ipv6 = config.ipv6.as_ref()?;
    let gateway = ipv6.gateway;
    let served = config.settings.dhcp6.as_ref();
    let managed = ipv6.managed || served.is_some_and(Dhcp6::gives_addresses);
    // The rest is asked of a DHCPv6 server wherever addresses are.
    let other = managed || served.is_some();
    let flags = if managed { MANAGED } else { 0 } | if other { OTHER } else { 0 };
    // Isolated: guests reach each other on the link, and nothing through us.
    let lifetime = if config.isolated || last { 0 } else { ROUTER_LIFETIME };
    let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, flags];
    bytes.extend(lifetime.to_be_bytes());
    // Reachable and retransmission times: unspecified.
    bytes.extend([0; 8]);

    let autonomous = if ipv6.slaac && !managed { AUTONOMOUS } else { 0 };
    bytes.extend([option::PREFIX, 4, gateway.prefix_len(), ON_LINK | autonomous]);
    bytes.extend(VALID.to_be_bytes());
    bytes.extend(PREFERRED.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(gateway.network().octets());

    // RFC 8200 §5: a link of less than 1280 bytes carries no IPv6.
    if let Some(mtu) = config.mtu.filter(|mtu| *mtu >= 1280) {
        bytes.extend([option::MTU, 1, 0, 0]);
        bytes.extend(u32::from(mtu).to_be_bytes());
    }
    if config.settings.dns.enabled {
        let lifetime = if last { 0 } else { 3 * LONGEST_INTERVAL };
        resolver(&mut bytes, gateway.addr(), lifetime);
        if let Some(domain) = &config.settings.domain {
            search_list(&mut bytes, &names::canonical(&domain.name), lifetime);
        }
    }
    Some(bytes)
}

fn resolver(bytes: &mut Vec<u8>, address: Ipv6Addr, lifetime: u32) {
    bytes.extend([option::RDNSS, 3, 0, 0]);
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(address.octets());
}

fn search_list(bytes: &mut Vec<u8>, domain: &str, lifetime: u32) {
    let mut name = Vec::new();
    for label in domain.split('.') {
        let Ok(length) = u8::try_from(label.len()) else { return };
        name.push(length);
        name.extend(label.as_bytes());
    }
    name.push(0);
    // Units of eight bytes, filled up with zeros.
    name.resize(name.len().next_multiple_of(8), 0);
    let Ok(units) = u8::try_from(1 + name.len() / 8) else { return };
    bytes.extend([option::DNSSL, units, 0, 0]);
    bytes.extend(lifetime.to_be_bytes());
    bytes.extend(name);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(changes: serde_json::Value) -> NetworkConfig {
        let mut config = json!({
            "version": 1, "name": "lab", "bridge": "br0", "files": { "control": 4 }, "mtu": 1400,
            "ipv6": { "gateway": "fd00:7::1/64", "slaac": true },
            "settings": { "domain": { "name": "Lab.Example" } },
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        serde_json::from_value(config).unwrap()
    }

    /// Options by number.
    fn options(message: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut rest = &message[16..];
        let mut options = Vec::new();
        while let [number, units, ..] = rest {
            let (option, after) = rest.split_at(usize::from(*units) * 8);
            options.push((*number, option[2..].to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
        options
    }

    #[test]
    fn it_tells_of_prefix_route_mtu_and_resolver() {
        let message = advertisement(&config(json!({})), false).unwrap();
        assert_eq!(message[..8], [134, 0, 0, 0, 64, 0, 7, 8]);
        let options = options(&message);
        let numbers: Vec<u8> = options.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [3, 5, 25, 31]);
        let prefix = &options[0].1;
        assert_eq!(prefix[..2], [64, 0xc0]);
        assert_eq!(prefix[14..22], [0xfd, 0, 0, 7, 0, 0, 0, 0]);
        assert_eq!(prefix[22..], [0; 8], "no bits of the host");
        assert_eq!(options[1].1[2..], 1400u32.to_be_bytes());
        assert_eq!(options[2].1[6..], "fd00:7::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(options[3].1[6..], *b"\x03lab\x07example\0\0\0\0");
    }

    #[test]
    fn an_isolated_network_is_no_way_out_and_a_managed_one_has_no_addresses_of_ones_own() {
        let ipv6 = json!({ "gateway": "fd00:7::1/64", "managed": true });
        let message = advertisement(&config(json!({ "isolated": true, "ipv6": ipv6 })), false);
        let message = message.unwrap();
        assert_eq!(message[5..8], [0xc0, 0, 0]);
        assert_eq!(options(&message)[0].1[1], 0x80);
    }

    #[test]
    fn a_dhcpv6_server_is_told_of_for_all_that_it_gives() {
        let range = json!({ "start": "fd00:7::10", "end": "fd00:7::20" });
        let flags = |dhcp6| {
            let message = advertisement(&config(json!({ "settings": { "dhcp6": dhcp6 } })), false);
            let message = message.unwrap();
            (message[5], options(&message)[0].1[1])
        };
        assert_eq!(flags(json!({ "ranges": [range] })), (0xc0, 0x80), "addresses come from it");
        assert_eq!(flags(json!({})), (0x40, 0xc0), "guests have addresses of their own");
        assert_eq!(flags(json!(null)), (0, 0xc0));
    }

    #[test]
    fn the_last_one_takes_back_the_route() {
        let message = advertisement(&config(json!({})), true).unwrap();
        assert_eq!(message[6..8], [0, 0]);
        assert_eq!(options(&message)[2].1[2..6], [0; 4]);
    }

    #[test]
    fn without_ipv6_there_is_nothing_to_say() {
        assert_eq!(advertisement(&config(json!({ "ipv6": null })), false), None);
    }
}
