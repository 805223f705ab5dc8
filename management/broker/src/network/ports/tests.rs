//! Two guests on a bridge, each with a tap of its own, and the frames they send each other.

#![allow(clippy::print_stdout, reason = "skips are told to who runs the tests")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::nft::{Batch, Chain, Rule};
use super::super::tests::{Lab, ip, spec, within};
use super::super::{Checks, PortRules, RuleSet, bridge, rules};
use super::TABLE;
use super::frames::*;
use crate::{Tap, tap};

/// Before each frame a tap has virtio-net's header.
const HEADER: usize = 12;

/// The guest's end of a tap.
pub(super) struct Guest {
    file: File,
    mac: [u8; 6],
    sent: u8,
}

impl Guest {
    pub(super) fn new(lab: &Lab, name: &str, mac: [u8; 6]) -> Self {
        let tap = Tap::Standalone { name: Some(name.to_owned()), mac, mtu: None, queues: 1 };
        let mut opened = within(&lab.host, || tap::open(&tap).unwrap());
        ip(&format!("-n {} link set {name} master virbr7", lab.host));
        Self { file: opened.queues.remove(0).into(), mac, sent: 0 }
    }

    fn send(&mut self, frame: &[u8]) {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(frame);
        self.file.write_all(&bytes).unwrap();
    }

    fn next(&mut self) -> Vec<u8> {
        let end = Instant::now() + Duration::from_secs(5);
        let mut bytes = vec![0; 2048];
        loop {
            match self.file.read(&mut bytes) {
                Ok(length) => return bytes[HEADER..length].to_vec(),
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Whether the other sees the frame, or but one that is sent after it and is always let through.
    pub(super) fn reaches(&mut self, other: &mut Guest, sent: &[u8]) -> bool {
        self.send(sent);
        self.sent += 1;
        // IEEE 802: a type for experiments.
        let last = frame(self.mac, 0x88b5, &[self.sent; 46]);
        self.send(&last);
        let mut seen = false;
        loop {
            let next = other.next();
            if next == last {
                return seen;
            }
            seen |= next == sent;
        }
    }
}

fn checked(checks: Checks) -> RuleSet {
    let addresses = vec![ADDRESS.into(), ADDRESS6.into()];
    let port = PortRules {
        tap: "tap1".to_owned(),
        mac: MAC,
        addresses,
        within: Vec::new(),
        checks,
        filter: None,
    };
    RuleSet { networks: Vec::new(), ports: vec![port], holders: Vec::new() }
}

pub(super) const CLEAN: Checks =
    Checks { mac: true, arp: true, ip: true, dhcp_server: true, router: true };

/// A bridge with a guest whose port is checked, and another's that is not.
fn guests(lab: &Lab, checks: Checks) -> (Guest, Guest) {
    within(&lab.host, || {
        bridge::make(&spec()).unwrap();
        // Before there is such a tap.
        rules::apply(&checked(checks)).unwrap();
    });
    (Guest::new(lab, "tap1", MAC), Guest::new(lab, "tap2", OTHER))
}

fn learned(lab: &Lab) -> String {
    let mut command = Command::new("bridge");
    let output = command.args(["-n", &lab.host, "fdb", "show", "br", "virbr7"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn frames_from_another_mac_pass_neither_the_bridge_nor_into_its_table() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, Checks { mac: true, ..Checks::default() });
    let forged = [2, 0, 0, 0, 0, 1];
    assert!(guest.reaches(&mut other, &frame(MAC, 0x88b5, &[0xee; 46])));
    assert!(!guest.reaches(&mut other, &frame(forged, 0x88b5, &[0xee; 46])));
    // Groups that no bridge forwards: a rule drops the first, of the other (LLDP) nothing is learned.
    for (group, kind) in [(3, 0x888e), (0xe, 0x88cc)] {
        let group = [0x01, 0x80, 0xc2, 0, 0, group];
        assert!(!guest.reaches(&mut other, &frame_to(group, forged, kind, &[0xee; 46])));
        let table = learned(&lab);
        assert!(!table.contains("02:00:00:00:00:01"), "{kind:#x}: {table}");
    }
    let table = learned(&lab);
    assert!(table.contains("52:54:00:01:02:03 dev tap1"), "{table}");
    assert!(!table.contains("02:00:00:00:00:01"), "{table}");
    // Nobody said what the other may send, nor what this one's packets are.
    assert!(other.reaches(&mut guest, &frame(forged, 0x88b5, &[0xee; 46])));
    assert!(guest.reaches(&mut other, &udp4(GATEWAY, Ipv4Addr::BROADCAST, (67, 68))));
    assert!(guest.reaches(&mut other, &frame(MAC, 0x8100, &[0, 5, 0x88, 0xb5, 1, 2, 3, 4])));
}

#[test]
fn arp_speaks_of_the_guest_alone() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, Checks { arp: true, ..Checks::default() });
    assert!(guest.reaches(&mut other, &arp(MAC, ADDRESS)));
    assert!(guest.reaches(&mut other, &arp(MAC, Ipv4Addr::UNSPECIFIED)));
    assert!(!guest.reaches(&mut other, &arp(MAC, GATEWAY)));
    assert!(!guest.reaches(&mut other, &arp(OTHER, ADDRESS)));
    let mut odd = arp(MAC, ADDRESS);
    odd[14 + 4] = 5;
    assert!(!guest.reaches(&mut other, &odd));
    // Cut off before the address.
    assert!(!guest.reaches(&mut other, &arp(MAC, GATEWAY)[..14 + 14]));
    assert!(other.reaches(&mut guest, &arp(MAC, GATEWAY)));
}

#[test]
fn packets_come_from_the_guests_addresses_alone() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, Checks { ip: true, ..Checks::default() });
    let all = Ipv4Addr::BROADCAST;
    assert!(guest.reaches(&mut other, &udp4(ADDRESS, all, (1000, 2000))));
    assert!(!guest.reaches(&mut other, &udp4(GATEWAY, all, (1000, 2000))));
    // Who has no address yet asks for one, and nothing else.
    assert!(guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, all, (68, 67))));
    assert!(!guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, all, (68, 53))));
    assert!(!guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, GATEWAY, (68, 67))));

    let packet = udp(1000, 2000);
    assert!(guest.reaches(&mut other, &ipv6(ADDRESS6, 17, &packet)));
    assert!(!guest.reaches(&mut other, &ipv6(GATEWAY6, 17, &packet)));
    assert!(
        guest.reaches(&mut other, &ipv6("fe80::5054:ff:fe01:203".parse().unwrap(), 17, &packet))
    );
    assert!(!guest.reaches(&mut other, &ipv6("fe80::1".parse().unwrap(), 17, &packet)));
    let solicitation = [135, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(guest.reaches(&mut other, &ipv6(Ipv6Addr::UNSPECIFIED, 58, &solicitation)));
    assert!(!guest.reaches(&mut other, &ipv6(Ipv6Addr::UNSPECIFIED, 17, &packet)));

    // Not in disguise either: behind a tag, of any priority, or in an older frame.
    let forged = ipv4(GATEWAY, all, 17, &udp(1000, 2000));
    for tag in [0x8100, 0x88a8, 0x9100] {
        for vlan in [0, 5] {
            let inner = [&[0, vlan, 8, 0][..], &forged].concat();
            assert!(!guest.reaches(&mut other, &frame(MAC, tag, &inner)), "{tag:#x} {vlan}");
        }
    }
    let inner = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &forged].concat();
    let length = u16::try_from(inner.len()).unwrap();
    assert!(!guest.reaches(&mut other, &frame(MAC, length, &inner)));
    assert!(other.reaches(&mut guest, &udp4(GATEWAY, all, (1000, 2000))));
}

#[test]
fn advertisements_of_neighbours_speak_of_the_guest_alone() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, Checks { arp: true, ..Checks::default() });
    let own = "fe80::5054:ff:fe01:203".parse().unwrap();
    for (address, passes) in [(ADDRESS6, true), (own, true), (GATEWAY6, false)] {
        let advertisement = ipv6(own, 58, &neighbour(136, address));
        assert_eq!(guest.reaches(&mut other, &advertisement), passes, "{address}");
        // Whom one looks for is another.
        assert!(guest.reaches(&mut other, &ipv6(own, 58, &neighbour(135, address))));
    }
    // Behind a header of options the message is the same: pad of 4 bytes.
    let options = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &neighbour(136, GATEWAY6)].concat();
    assert!(!guest.reaches(&mut other, &ipv6(own, 0, &options)));
}

#[test]
fn a_guest_asks_for_addresses_and_gives_none() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, Checks { dhcp_server: true, ..Checks::default() });
    let all = Ipv4Addr::BROADCAST;
    assert!(guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, all, (68, 67))));
    assert!(!guest.reaches(&mut other, &udp4(ADDRESS, all, (67, 68))));
    // A client does not look where it came from.
    assert!(!guest.reaches(&mut other, &udp4(ADDRESS, all, (1067, 68))));
    assert!(guest.reaches(&mut other, &ipv6(ADDRESS6, 17, &udp(546, 547))));
    assert!(!guest.reaches(&mut other, &ipv6(ADDRESS6, 17, &udp(547, 546))));
    assert!(!guest.reaches(&mut other, &ipv6(ADDRESS6, 17, &udp(1547, 546))));
    // As TCP these are ports like others.
    let mut segment = vec![0, 67, 0, 68, 0, 0, 0, 0, 0, 0, 0, 0, 0x50];
    segment.resize(20, 0);
    assert!(guest.reaches(&mut other, &frame(MAC, 0x0800, &ipv4(ADDRESS, all, 6, &segment))));
    assert!(other.reaches(&mut guest, &udp4(GATEWAY, all, (67, 68))));
}

#[test]
fn a_guest_looks_for_routers_and_is_none() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, Checks { router: true, ..Checks::default() });
    let message = |kind| ipv6("fe80::1".parse().unwrap(), 58, &neighbour(kind, GATEWAY6));
    for (kind, passes) in [(133, true), (134, false), (135, true), (136, true), (137, false)] {
        assert_eq!(guest.reaches(&mut other, &message(kind)), passes, "type {kind}");
    }
    assert!(other.reaches(&mut guest, &message(134)));
}

#[test]
fn a_guest_that_appears_as_itself_passes_every_check_and_checks_change_while_it_runs() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, CLEAN);
    let all = Ipv4Addr::BROADCAST;
    assert!(guest.reaches(&mut other, &udp4(Ipv4Addr::UNSPECIFIED, all, (68, 67))));
    assert!(guest.reaches(&mut other, &arp(MAC, ADDRESS)));
    assert!(guest.reaches(&mut other, &udp4(ADDRESS, all, (1000, 2000))));
    assert!(!guest.reaches(&mut other, &arp(MAC, GATEWAY)));
    // Other rules take the place of these at once, also while the guest is there.
    let any = Checks { mac: true, ..Checks::default() };
    within(&lab.host, || rules::apply(&checked(any)).unwrap());
    assert!(guest.reaches(&mut other, &arp(MAC, GATEWAY)));
}

#[test]
fn each_port_has_rules_of_its_own() {
    let Some(lab) = Lab::new() else { return };
    let (mut guest, mut other) = guests(&lab, CLEAN);
    let address = Ipv4Addr::new(192, 168, 77, 20);
    let mut both = checked(CLEAN);
    let tap = "tap2".to_owned();
    let addresses = vec![address.into()];
    both.ports.push(PortRules {
        tap,
        mac: OTHER,
        addresses,
        within: Vec::new(),
        checks: CLEAN,
        filter: None,
    });
    within(&lab.host, || rules::apply(&both).unwrap());
    let packet =
        |mac, from| frame(mac, 0x0800, &ipv4(from, Ipv4Addr::BROADCAST, 17, &udp(1000, 2000)));
    assert!(guest.reaches(&mut other, &packet(MAC, ADDRESS)));
    assert!(!guest.reaches(&mut other, &packet(OTHER, address)));
    assert!(other.reaches(&mut guest, &packet(OTHER, address)));
    assert!(!other.reaches(&mut guest, &packet(MAC, ADDRESS)));
    assert!(!other.reaches(&mut guest, &packet(OTHER, ADDRESS)));
    // The first goes, and the second's stay.
    both.ports.remove(0);
    within(&lab.host, || rules::apply(&both).unwrap());
    assert!(guest.reaches(&mut other, &packet(OTHER, address)));
    assert!(!other.reaches(&mut guest, &packet(OTHER, ADDRESS)));
}

#[test]
fn rules_of_many_ports_come_into_force_at_once() {
    let Some(lab) = Lab::new() else { return };
    let addresses: Vec<_> = (1..=20).map(|last| Ipv4Addr::new(10, 0, 0, last).into()).collect();
    let port = |number| PortRules {
        tap: format!("vnet{number}"),
        mac: MAC,
        addresses: addresses.clone(),
        within: Vec::new(),
        checks: CLEAN,
        filter: None,
    };
    let wanted = RuleSet { ports: (0..300).map(port).collect(), ..RuleSet::default() };
    within(&lab.host, || {
        rules::apply(&wanted).unwrap();
        assert!(rules::look(&wanted).unwrap());
        // More refusals than there is room for: the first is told of.
        let mut batch = Batch::new();
        batch.remove(TABLE);
        batch.add_table(TABLE);
        for number in 0..10_000 {
            let chain = Chain { table: TABLE, name: "none", base: None };
            batch.add_rule(&chain, &Rule::new(format!("{number}")));
        }
        let (what, _) = batch.commit().unwrap_err();
        assert_eq!(what, "the rule \"0\" of chain none of table bridge manor");
        assert!(rules::look(&wanted).unwrap(), "what was in force stays so");
    });
}
