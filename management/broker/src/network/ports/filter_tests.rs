//! Filters of people's own, by frames that two guests on a bridge send each other.

use std::net::Ipv4Addr;

use super::super::filter::{
    FieldTest, FilterRule, FilterSide, FilterStep, FilterVerdict, FrameField, FrameMatch,
    PortFilter,
};
use super::super::tests::{Lab, spec, within};
use super::super::{Checks, PortRules, RuleSet, bridge, rules};
use super::frames::*;
use super::tests::Guest;
use crate::BrokerError;

const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;

fn is(field: FrameField, value: &[u8]) -> FrameMatch {
    FrameMatch { field, test: FieldTest::Is(value.to_vec()), inverted: false }
}

fn rule(verdict: FilterVerdict, matching: Vec<FrameMatch>) -> FilterRule {
    FilterRule { label: "f, rule 1".to_owned(), matching, states: 0, verdict }
}

fn udp_to(ports: (u16, u16)) -> Vec<FrameMatch> {
    let (first, last) = (ports.0.to_be_bytes().to_vec(), ports.1.to_be_bytes().to_vec());
    let test = FieldTest::Between(first, last);
    vec![
        is(FrameField::EtherType, &[8, 0]),
        is(FrameField::Protocol, &[17]),
        FrameMatch { field: FrameField::DestinationPort, test, inverted: false },
    ]
}

fn filtered(sent: FilterSide, received: FilterSide) -> RuleSet {
    let port = PortRules {
        tap: "tap1".to_owned(),
        mac: MAC,
        addresses: Vec::new(),
        within: Vec::new(),
        checks: Checks::default(),
        filter: Some(PortFilter { sent, received }),
    };
    RuleSet { networks: Vec::new(), ports: vec![port], holders: Vec::new() }
}

fn packets(rules: Vec<FilterRule>) -> FilterSide {
    FilterSide { frames: Vec::new(), packets: rules }
}

fn guests(lab: &Lab, rules: &RuleSet) -> (Guest, Guest) {
    within(&lab.host, || {
        bridge::make(&spec()).unwrap();
        rules::apply(rules).unwrap();
        assert!(rules::look(rules).unwrap(), "as they were made");
    });
    (Guest::new(lab, "tap1", MAC), Guest::new(lab, "tap2", OTHER))
}

#[test]
fn packets_are_dropped_each_way_by_rules_of_their_own_and_others_pass() {
    let Some(lab) = Lab::new() else { return };
    let drop = |ports| packets(vec![rule(FilterVerdict::Drop, udp_to(ports))]);
    let (mut guest, mut other) = guests(&lab, &filtered(drop((53, 60)), drop((80, 80))));
    let to = |port| udp4(ADDRESS, ALL, (1000, port));
    for (port, passes) in [(52, true), (53, false), (60, false), (61, true), (80, true)] {
        assert_eq!(guest.reaches(&mut other, &to(port)), passes, "{port}");
    }
    assert!(other.reaches(&mut guest, &to(53)));
    assert!(!other.reaches(&mut guest, &to(80)));
    // Other rules take the place of these at once.
    let others = filtered(FilterSide::default(), FilterSide::default());
    within(&lab.host, || rules::apply(&others).unwrap());
    assert!(guest.reaches(&mut other, &to(53)) && other.reaches(&mut guest, &to(80)));
}

#[test]
fn what_the_frames_accept_the_packets_are_asked_about_and_the_first_verdict_counts() {
    let Some(lab) = Lab::new() else { return };
    let ipv4 = || vec![is(FrameField::EtherType, &[8, 0])];
    let mut frames = vec![FilterStep::Rule(rule(FilterVerdict::Accept, ipv4()))];
    frames.push(FilterStep::Rule(rule(
        FilterVerdict::Accept,
        vec![is(FrameField::EtherType, &[0x88, 0xb5])],
    )));
    frames.push(FilterStep::Rule(rule(FilterVerdict::Drop, Vec::new())));
    let sent = FilterSide {
        frames,
        packets: vec![
            rule(FilterVerdict::Accept, udp_to((7, 7))),
            rule(FilterVerdict::Continue, udp_to((8, 8))),
            rule(FilterVerdict::Drop, udp_to((1, 8))),
        ],
    };
    let (mut guest, mut other) = guests(&lab, &filtered(sent, FilterSide::default()));
    let to = |port| udp4(ADDRESS, ALL, (1000, port));
    for (port, passes) in [(7, true), (8, false), (6, false), (9, true)] {
        assert_eq!(guest.reaches(&mut other, &to(port)), passes, "{port}");
    }
    assert!(!guest.reaches(&mut other, &arp(MAC, ADDRESS)), "no frame of another kind");
    assert!(!guest.reaches(&mut other, &ipv6(ADDRESS6, 17, &udp(1, 9))));
}

#[test]
fn a_chain_is_asked_of_its_frames_alone_and_goes_on_where_it_returns() {
    let Some(lab) = Lab::new() else { return };
    let sender = |address: Ipv4Addr| is(FrameField::ArpSenderIp, &address.octets());
    let arp_type = || is(FrameField::EtherType, &[8, 6]);
    let chain = FilterStep::Chain {
        name: "arp-own".to_owned(),
        matching: vec![arp_type()],
        rules: vec![
            rule(FilterVerdict::Return, vec![arp_type(), sender(ADDRESS)]),
            rule(FilterVerdict::Drop, Vec::new()),
        ],
    };
    let mask = FieldTest::Masked { mask: vec![0x01, 0, 0, 0, 0, 0], value: vec![1, 0, 0, 0, 0, 0] };
    let group = FrameMatch { field: FrameField::MacDestination, test: mask, inverted: true };
    let unicast = FilterStep::Rule(rule(FilterVerdict::Drop, vec![arp_type(), group]));
    let sent = FilterSide { frames: vec![chain, unicast], packets: Vec::new() };
    let (mut guest, mut other) = guests(&lab, &filtered(sent, FilterSide::default()));
    assert!(guest.reaches(&mut other, &arp(MAC, ADDRESS)));
    assert!(!guest.reaches(&mut other, &arp(MAC, GATEWAY)));
    let mut to_one = arp(MAC, ADDRESS);
    to_one[..6].copy_from_slice(&OTHER);
    assert!(!guest.reaches(&mut other, &to_one), "behind the chain");
    assert!(guest.reaches(&mut other, &udp4(GATEWAY, ALL, (1, 2))), "none of its frames");
}

#[test]
fn every_field_is_taken_by_the_kernel_and_listed_by_nft() {
    let Some(lab) = Lab::new() else { return };
    use FrameField as Field;
    let fields = [
        Field::MacDestination,
        Field::MacSource,
        Field::VlanTag,
        Field::VlanEtherType,
        Field::ArpHardware,
        Field::ArpProtocol,
        Field::ArpOpcode,
        Field::ArpSenderMac,
        Field::ArpSenderIp,
        Field::ArpTargetMac,
        Field::ArpTargetIp,
        Field::Ipv4Service,
        Field::Ipv4Source,
        Field::Ipv4Destination,
        Field::Ipv6Class,
        Field::Ipv6Source,
        Field::Ipv6Destination,
        Field::SourcePort,
        Field::DestinationPort,
        Field::TcpFlags,
        Field::IcmpType,
        Field::IcmpCode,
        Field::StpType,
        Field::StpRootPriority,
        Field::StpRootAddress,
        Field::StpRootCost,
        Field::StpForwardDelay,
    ];
    let tests = |field: Field| {
        let value = vec![7; field.length()];
        let masked = FieldTest::Masked { mask: vec![0x0f; field.length()], value: value.clone() };
        let between = FieldTest::Between(value.clone(), vec![9; field.length()]);
        [FieldTest::Is(value), masked, between]
    };
    let frames = fields.iter().flat_map(|field| {
        tests(*field).into_iter().flat_map(move |test| {
            [false, true].map(|inverted| {
                let matching = vec![FrameMatch { field: *field, test: test.clone(), inverted }];
                FilterStep::Rule(rule(FilterVerdict::Accept, matching))
            })
        })
    });
    let side = FilterSide { frames: frames.collect(), packets: Vec::new() };
    let wanted = filtered(side.clone(), side);
    let nft = manor_tests::tools::nft().unwrap();
    within(&lab.host, || {
        rules::apply(&wanted).unwrap();
        assert!(rules::look(&wanted).unwrap());
        let output = nft.command().args(["list", "table", "bridge", "manor"]).output().unwrap();
        let listed = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        for words in ["f, rule 1", "chain filter-tap1/received", "chain filter-tap1/sent"] {
            assert!(listed.contains(words), "{words}: {listed} {told}");
        }
        let mut other = wanted.clone();
        other.ports[0].filter = None;
        assert!(!rules::look(&other).unwrap());
    });
}

#[test]
fn a_value_that_is_not_as_long_as_its_field_is_refused_before_the_kernel_is_asked() {
    let matching = vec![is(FrameField::EtherType, &[8])];
    let wrong = packets(vec![rule(FilterVerdict::Drop, matching)]);
    let error = rules::apply(&filtered(wrong, FilterSide::default())).unwrap_err();
    assert!(matches!(error, BrokerError::Filter { .. }), "{error}");
}

#[test]
fn connections_are_known_where_the_kernel_knows_them_or_the_module_is_named() {
    let Some(lab) = Lab::new() else { return };
    const NEW: u8 = 8;
    const ESTABLISHED: u8 = 2;
    let states =
        |states, ports| FilterRule { states, ..rule(FilterVerdict::Accept, udp_to(ports)) };
    let all = || rule(FilterVerdict::Drop, vec![is(FrameField::EtherType, &[8, 0])]);
    let sent = packets(vec![states(NEW | ESTABLISHED, (53, 53)), all()]);
    let received = packets(vec![states(ESTABLISHED, (1000, 1000)), all()]);
    let wanted = filtered(sent, received);
    within(&lab.host, || bridge::make(&spec()).unwrap());
    match within(&lab.host, || rules::apply(&wanted)) {
        Ok(()) => {}
        Err(error @ BrokerError::FilterPart { .. }) => {
            let error = error.to_string();
            assert!(error.contains("modprobe nf_conntrack_bridge"), "{error}");
            assert!(error.contains("statematch='false'"), "{error}");
            return;
        }
        Err(other) => panic!("{other}"),
    }
    let (mut guest, mut other) = (Guest::new(&lab, "tap1", MAC), Guest::new(&lab, "tap2", OTHER));
    let peer = Ipv4Addr::new(192, 168, 77, 20);
    let answer = udp4(peer, ADDRESS, (53, 1000));
    assert!(!other.reaches(&mut guest, &answer), "nobody asked");
    assert!(guest.reaches(&mut other, &udp4(ADDRESS, peer, (1000, 53))));
    assert!(other.reaches(&mut guest, &answer));
    assert!(!other.reaches(&mut guest, &udp4(peer, ADDRESS, (54, 1000))), "of another connection");
}
