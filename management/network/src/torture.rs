//! What the fuzz targets do with the messages of guests and upstreams, and with settings.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use simple_dns::{Packet, PacketFlag};

use crate::config::{Dhcp, Dhcp6, Domain, Ipv6, NetworkConfig, Range, Range6, Settings};
use crate::config::{FIRST_FD, Fd, NetworkFiles, VERSION};
use crate::state::{Shared, State};
use crate::{dhcp, dhcp6, dns, router};

/// The first host address and the last that guests of a network are given here.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 10);
const LAST: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 14);
/// Messages of one input.
const MESSAGES: usize = 64;

/// Messages of clients, one after the other: before each two bytes with its length, and one with the
/// minutes since the last.
///
/// # Panics
/// If a reply is none, or offers what is not there to give.
pub fn dhcp(bytes: &[u8]) {
    let config = config(settings());
    let Some(link) = dhcp::Link::of(&config) else { return };
    let mut server = dhcp::Server::new(link, &config.settings, None, Vec::new());
    let (mut rest, mut now) = (bytes, 1_000_000);
    for _ in 0..MESSAGES {
        let Some(([high, low, minutes], next)) = rest.split_first_chunk() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(next.len());
        let (message, next) = next.split_at(length);
        (rest, now) = (next, now + u64::from(*minutes) * 60);
        if let Some(reply) = server.handle(message, now) {
            dhcp_reply(message, &reply.bytes);
        }
        let most = u32::from(LAST) - u32::from(FIRST) + 1;
        assert!(server.live_leases(now) <= most as usize, "more leases than addresses");
    }
}

fn dhcp_reply(message: &[u8], reply: &[u8]) {
    assert!((300..=1472).contains(&reply.len()), "a reply of {} bytes", reply.len());
    assert_eq!(reply[0], 2, "BOOTREPLY");
    assert_eq!(reply[4..8], message[4..8], "the transaction");
    let given = Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19]);
    assert!(
        given.is_unspecified() || (FIRST..=LAST).contains(&given),
        "{given} is not ours to give"
    );
    let mut rest = &reply[dhcp::FIXED..];
    // Whole options, then the end, then nothing.
    while let [1..=254, length, option @ ..] = rest {
        rest = &option[usize::from(*length)..];
    }
    assert_eq!(rest.first(), Some(&255), "options without an end");
    assert!(rest[1..].iter().all(|byte| *byte == 0), "something after the end");
}

/// The same of clients of IPv6: each message is preceded by its length, the minutes since the last,
/// and the end of the address that it came from.
///
/// # Panics
/// If a reply is none, or more is leased than there is.
pub fn dhcp6(bytes: &[u8]) {
    const ADDRESSES: u16 = 5;
    let gateway = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1);
    let at = |last| Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, last);
    let range = Range6 { start: at(16), end: at(15 + ADDRESSES), lease_seconds: Some(900) };
    let served = Dhcp6 { ranges: vec![range], hosts: Vec::new() };
    let settings = Settings { dhcp6: Some(served), ..settings() };
    let Ok(gateway) = ipnet::Ipv6Net::new(gateway, 64) else { return };
    let link = dhcp6::Link { network: "lab".to_owned(), gateway, server_id: vec![0, 4, 7] };
    let mut server = dhcp6::Server::new(link, &settings, None, Vec::new());
    let (mut rest, mut now) = (bytes, 1_000_000);
    for _ in 0..MESSAGES {
        let Some(([high, low, minutes, last], next)) = rest.split_first_chunk() else { return };
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(next.len());
        let (message, next) = next.split_at(length);
        (rest, now) = (next, now + u64::from(*minutes) * 60);
        let source = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, (*last).into());
        if let Some(reply) = server.handle(message, source, now) {
            assert!(reply.len() <= 1232, "a reply of {} bytes", reply.len());
            assert!([2, 7].contains(&reply[0]), "ADVERTISE or REPLY");
            assert_eq!(reply[1..4], message[1..4], "the transaction");
            let mut options = &reply[4..];
            while let [_, _, high, low, option @ ..] = options {
                options = &option[usize::from(u16::from_be_bytes([*high, *low]))..];
            }
            assert!(options.is_empty(), "half an option");
        }
        assert!(server.live_leases(now) <= ADDRESSES.into(), "more leases than addresses");
    }
}

/// A question: the first byte says how it came; what an upstream says to it follows behind its length.
///
/// # Panics
/// If a reply is none, or too long for its way.
pub fn dns(bytes: &[u8]) {
    let [way, high, low, rest @ ..] = bytes else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (question, upstream) = rest.split_at(length);
    let config = config(settings());
    let server = dhcp::Link::of(&config)
        .map(|link| dhcp::Server::new(link, &config.settings, None, Vec::new()));
    let shared = Shared::new(State::new(config, server));
    let client = SocketAddr::from(([192, 168, 7, 10], 4000));
    if let Some(reply) = dns::reply(question, upstream, client, *way & 1 == 1, &shared) {
        dns_reply(question, &reply, *way & 1 == 1);
    }
}

fn dns_reply(question: &[u8], reply: &[u8], over_tcp: bool) {
    assert!(over_tcp || reply.len() <= 1232, "{} bytes over UDP", reply.len());
    assert_eq!(reply[..2], question[..2], "the number");
    assert_ne!(reply[2] & 0x80, 0, "a response");
}

/// A message to the router: the hop limit it came with, then what was said.
pub fn solicitation(bytes: &[u8]) {
    let [hops, message @ ..] = bytes else { return };
    let link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let is_valid = router::is_solicitation(message, Some(*hops), link);
    assert!(!is_valid || *hops == 255, "it came through a router");
}

/// Settings as a daemon sends them: refused, or served in messages that others can read.
///
/// # Panics
/// If a message cannot be read.
pub fn settings_of(bytes: &[u8]) {
    let Ok(settings) = serde_json::from_slice::<Settings>(bytes) else { return };
    let config = config(settings);
    if config.check().is_err() {
        return;
    }
    for last in [false, true] {
        let message = router::advertisement(&config, last).unwrap_or_default();
        let mut options = &message[16..];
        while let [_, words, ..] = *options {
            assert_ne!(words, 0, "an option without length");
            options = &options[usize::from(words) * 8..];
        }
        assert!(options.is_empty(), "half an option");
    }
    let names: Vec<String> = names(&config.settings);
    let ranges = config.settings.dhcp.iter().flat_map(|dhcp| &dhcp.ranges).count();
    let Some(link) = dhcp::Link::of(&config) else { return };
    let mut server = dhcp::Server::new(link, &config.settings, None, Vec::new());
    match server.handle(&discover(), 1_000_000) {
        Some(reply) => assert!(reply.bytes.len() <= 1472),
        None => assert_eq!(ranges, 0, "a range, and no offer"),
    }
    let shared = Shared::new(State::new(config, Some(server)));
    let client = SocketAddr::from(([192, 168, 7, 10], 4000));
    for name in names {
        for kind in [1, 12, 16, 28, 33, 255] {
            let Some(question) = question(&name, kind) else { continue };
            let Some(reply) = dns::reply(&question, &[], client, true, &shared) else { continue };
            dns_reply(&question, &reply, true);
            let reply = Packet::parse(&reply).expect("a reply that others can read");
            assert!(reply.has_flags(PacketFlag::RESPONSE));
        }
    }
}

/// The shortest that is one, of a client that nobody knows.
fn discover() -> Vec<u8> {
    let mut bytes = vec![0; dhcp::FIXED];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 7, 7]);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend([53, 1, 1, 255]);
    bytes
}

fn names(settings: &Settings) -> Vec<String> {
    let dns = &settings.dns;
    let hosts = dns.hosts.iter().flat_map(|host| host.names.iter());
    let services = dns.srv.iter().map(|srv| &srv.name);
    let texts = dns.txt.iter().map(|txt| &txt.name);
    let all = hosts.chain(services).chain(texts).chain(&dns.gateway_names);
    all.take(MESSAGES).cloned().collect()
}

/// None for what is no name of a question.
fn question(name: &str, kind: u8) -> Option<Vec<u8>> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).ok().filter(|length| *length < 64)?);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, kind, 0, 1]);
    Some(bytes)
}

fn settings() -> Settings {
    let range = Range { start: FIRST, end: LAST, lease_seconds: Some(900) };
    Settings {
        domain: Some(Domain { name: "lab".to_owned(), local_only: true }),
        dhcp: Some(Dhcp { ranges: vec![range], ..Dhcp::default() }),
        ..Settings::default()
    }
}

fn config(settings: Settings) -> NetworkConfig {
    let files = NetworkFiles {
        control: Fd(FIRST_FD),
        leases: None,
        dhcp: Some(Fd(FIRST_FD)),
        dhcp6: Some(Fd(FIRST_FD)),
        dns_udp: Vec::new(),
        dns_tcp: Vec::new(),
        router: None,
    };
    let prefix = Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1);
    NetworkConfig {
        version: VERSION,
        name: "lab".to_owned(),
        bridge: "br0".to_owned(),
        files,
        confinement: crate::config::Confinement::default(),
        mtu: Some(1400),
        isolated: false,
        ipv4: ipnet::Ipv4Net::new(Ipv4Addr::new(192, 168, 7, 1), 24).ok(),
        ipv6: ipnet::Ipv6Net::new(prefix, 64).ok().map(|gateway| Ipv6 {
            gateway,
            slaac: true,
            managed: false,
            server_id: Some(crate::Hex(vec![0, 4, 7])),
        }),
        settings,
    }
}

#[cfg(test)]
mod tests {
    use manor_tests::seeds::replay;

    #[test]
    fn clients_of_dhcp_may_send_anything() {
        replay("dhcp", 4000, super::dhcp);
    }

    #[test]
    fn clients_of_dhcp_for_ipv6_may_send_anything() {
        replay("dhcp6", 4000, super::dhcp6);
    }

    #[test]
    fn questions_and_answers_may_be_anything() {
        replay("dns", 4000, super::dns);
    }

    #[test]
    fn solicitations_may_be_anything() {
        replay("solicitation", 4000, super::solicitation);
    }

    #[test]
    fn settings_may_be_anything() {
        replay("network_settings", 4000, super::settings_of);
    }
}
