//! Two guests of a network whose addresses are given by leases: each uses what nobody else holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::tests::{Lab, ip, spec, within};
use super::super::{AddressHolder, PortRules, RuleSet, bridge, rules};
use super::frames::*;
use super::tests::{CLEAN, Guest};

const FREE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 99);
const OTHERS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 78, 10);
const OTHERS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x20);
const BRIDGE: [u8; 6] = [0x52, 0x54, 0, 7, 7, 7];

fn holder(address: impl Into<IpAddr>, mac: [u8; 6]) -> AddressHolder {
    AddressHolder { address: address.into(), mac }
}

fn leased(holders: &[AddressHolder]) -> RuleSet {
    let port = |tap: &str, mac| PortRules {
        tap: tap.to_owned(),
        mac,
        addresses: Vec::new(),
        within: vec!["192.168.77.0/24".parse().unwrap(), "fd00:77::/64".parse().unwrap()],
        checks: CLEAN,
        filter: None,
    };
    let ports = vec![port("tap1", MAC), port("tap2", OTHER)];
    RuleSet { networks: Vec::new(), ports, holders: holders.to_vec() }
}

/// As a network has them: its own addresses, and one lease of each family.
fn holders() -> Vec<AddressHolder> {
    vec![
        holder(GATEWAY, BRIDGE),
        holder(GATEWAY6, BRIDGE),
        holder(super::link_local(BRIDGE), BRIDGE),
        holder(ADDRESS, MAC),
        holder(OTHERS, OTHER),
        holder(OTHERS6, OTHER),
    ]
}

fn guests(lab: &Lab, rules: &RuleSet) -> (Guest, Guest) {
    within(&lab.host, || {
        bridge::make(&spec()).unwrap();
        rules::apply(rules).unwrap();
        assert!(rules::look(rules).unwrap());
    });
    (Guest::new(lab, "tap1", MAC), Guest::new(lab, "tap2", OTHER))
}

#[test]
fn a_guest_uses_addresses_of_its_subnet_that_no_other_holds() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, &leased(&holders()));
    let all = Ipv4Addr::BROADCAST;
    for (address, passes) in
        [(ADDRESS, true), (FREE, true), (OTHERS, false), (GATEWAY, false), (OUTSIDE, false)]
    {
        let packet = udp4(address, all, (1000, 2000));
        assert_eq!(guest.reaches(&mut other, &packet), passes, "from {address}");
        assert_eq!(guest.reaches(&mut other, &arp(MAC, address)), passes, "ARP of {address}");
    }
    assert!(guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, all, (68, 67))));
    assert!(!guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, all, (68, 53))));
    assert!(guest.reaches(&mut other, &arp(MAC, Ipv4Addr::UNSPECIFIED)), "a probe");
    let own: Ipv6Addr = "fe80::5054:ff:fe01:203".parse().unwrap();
    for (address, passes) in [
        (ADDRESS6, true),
        ("fd00:77::a1b2:c3d4".parse().unwrap(), true),
        (own, true),
        ("fe80::1234".parse().unwrap(), true),
        (super::link_local(BRIDGE), false),
        (OTHERS6, false),
        (GATEWAY6, false),
        ("fd00:78::10".parse().unwrap(), false),
    ] {
        let packet = ipv6(address, 17, &udp(1000, 2000));
        assert_eq!(guest.reaches(&mut other, &packet), passes, "from {address}");
        let advertisement = ipv6(own, 58, &neighbour(136, address));
        assert_eq!(guest.reaches(&mut other, &advertisement), passes, "target {address}");
    }
    let solicitation = [&[135, 0, 0, 0][..], &[0; 20]].concat();
    assert!(guest.reaches(&mut other, &ipv6(Ipv6Addr::UNSPECIFIED, 58, &solicitation)));
}

#[test]
fn a_lease_is_an_element_and_the_rules_stay_as_they_are() {
    let Some(lab) = Lab::new() else { return };
    let mut now = holders();
    let (mut guest, mut other) = guests(&lab, &leased(&now));
    let from_free = udp4(FREE, Ipv4Addr::BROADCAST, (1000, 2000));
    assert!(guest.reaches(&mut other, &from_free));
    let counted = || {
        let listed = within(&lab.host, || {
            let nft = manor_tests::tools::nft().unwrap();
            nft.command().args(["list", "table", "bridge", "manor"]).output().unwrap()
        });
        String::from_utf8(listed.stdout).unwrap()
    };
    let passed = |listed: &str| listed.contains("packets 1 bytes") || listed.contains("packets 2");
    assert!(passed(&counted()), "{}", counted());
    // The other gets it, by a lease.
    let lease = holder(FREE, OTHER);
    let hold = |before: &[AddressHolder], after: &[AddressHolder]| {
        within(&lab.host, || rules::hold(before, after))
    };
    hold(&[], &[lease]).unwrap();
    now.push(lease);
    within(&lab.host, || assert!(rules::look(&leased(&now)).unwrap()));
    assert!(!guest.reaches(&mut other, &from_free));
    assert!(passed(&counted()), "no rule was made anew: {}", counted());
    assert!(counted().contains("192.168.77.99 . 52:54:00:09:09:09"), "{}", counted());
    // And gives it to this one.
    let taken = holder(FREE, MAC);
    hold(&[lease], &[taken]).unwrap();
    assert!(guest.reaches(&mut other, &from_free));
    within(&lab.host, || assert!(!rules::look(&leased(&now)).unwrap(), "another is there"));
    now.pop();
    now.push(taken);
    within(&lab.host, || assert!(rules::look(&leased(&now)).unwrap()));
    // What is not there cannot be taken back, and changes nothing.
    let error = hold(&[lease], &[]).unwrap_err();
    assert!(matches!(error, crate::BrokerError::Rules { .. }), "{error}");
    within(&lab.host, || assert!(rules::look(&leased(&now)).unwrap()));
}

#[test]
fn as_many_leases_as_a_network_has_come_into_force_at_once() {
    let Some(lab) = Lab::new() else { return };
    let mut held: Vec<_> = (1..=20_000_u32)
        .map(|number| holder(Ipv4Addr::from_bits(0x0a00_0000 + number), MAC))
        .collect();
    within(&lab.host, || {
        rules::apply(&leased(&held)).unwrap();
        assert!(rules::look(&leased(&held)).unwrap());
        held.pop();
        assert!(!rules::look(&leased(&held)).unwrap(), "one is too many");
    });
}

/// Whether the guest's system, with this address, reaches a server at the host's.
fn reaches_host(lab: &Lab, from: &str) -> bool {
    let v6 = from.contains(':');
    let (any, host) = if v6 { ("[::]:0", "fd00:77::1") } else { ("0.0.0.0:0", "192.168.77.1") };
    let server = within(&lab.host, || std::net::TcpListener::bind(any).unwrap());
    let to = std::net::SocketAddr::new(host.parse().unwrap(), server.local_addr().unwrap().port());
    let (length, rest) = if v6 { (64, " nodad") } else { (24, "") };
    ip(&format!("-n {} address add {from}/{length} dev eth0{rest}", lab.guest));
    let limit = std::time::Duration::from_millis(if v6 { 3000 } else { 1500 });
    let reached = within(&lab.guest, || std::net::TcpStream::connect_timeout(&to, limit).is_ok());
    ip(&format!("-n {} address delete {from}/{length} dev eth0", lab.guest));
    reached
}

#[test]
fn a_system_with_an_address_of_its_own_choice_is_served_unless_it_is_anothers() {
    let Some(lab) = Lab::new() else { return };
    within(&lab.host, || bridge::make(&spec()).unwrap());
    lab.connect();
    ip(&format!("-n {} address delete 192.168.77.10/24 dev eth0", lab.guest));
    ip(&format!("-n {} link set eth0 address 52:54:00:01:02:03", lab.guest));
    let mut wanted = leased(&holders());
    wanted.ports[0].tap = "tap0".to_owned();
    within(&lab.host, || rules::apply(&wanted).unwrap());
    for (address, served) in [
        ("192.168.77.10", true),
        ("192.168.77.99", true),
        ("192.168.77.20", false),
        ("fd00:77::10", true),
        ("fd00:77::a1b2:c3d4", true),
        ("fd00:77::20", false),
    ] {
        assert_eq!(reaches_host(&lab, address), served, "{address}");
    }
}
