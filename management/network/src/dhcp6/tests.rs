//! Exchanges with clients whose messages are written out by hand.

use std::net::Ipv6Addr;

use serde_json::json;

use super::{Link, Server};
use crate::config::Settings;
use crate::{Lease, LeaseFile, read_leases};

const NOW: u64 = 1_000_000;
/// Of a client with the MAC address 52:54:00:00:00:01, where the last byte is chosen.
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION: u8 = 11;

const SERVER_ID: [u8; 4] = [0, 4, 7, 7];

fn link() -> Link {
    let gateway = "fd00:7::1/64".parse().unwrap();
    Link { network: "lab".to_owned(), gateway, server_id: SERVER_ID.to_vec() }
}

fn settings() -> Settings {
    serde_json::from_value(json!({
        "domain": { "name": "lab.test" },
        "dhcp6": {
            "ranges": [{ "start": "fd00:7::10", "end": "fd00:7::12", "lease_seconds": 1000 }],
            "hosts": [
                { "client_id": "00030001525400000009", "name": "db", "address": "fd00:7::99" },
                { "mac": "52:54:00:00:00:08", "address": "fd00:7::98" },
            ],
        },
    }))
    .unwrap()
}

fn server() -> Server {
    Server::new(link(), &settings(), None, Vec::new())
}

fn source(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe00, last.into())
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes(), &length.to_be_bytes(), value].concat()
}

fn duid(last: u8) -> Vec<u8> {
    vec![0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, last]
}

struct Client {
    last: u8,
    addresses: Vec<Ipv6Addr>,
    /// Further options.
    more: Vec<u8>,
}

fn client(last: u8) -> Client {
    Client { last, addresses: Vec::new(), more: Vec::new() }
}

impl Client {
    fn with(mut self, code: u16, value: &[u8]) -> Self {
        self.more.extend(option(code, value));
        self
    }

    fn has(mut self, address: &str) -> Self {
        self.addresses.push(address.parse().unwrap());
        self
    }

    fn message(&self, kind: u8) -> Vec<u8> {
        let mut message = vec![kind, 1, 2, 3];
        message.extend(option(1, &duid(self.last)));
        if [REQUEST, RENEW, RELEASE, DECLINE].contains(&kind) {
            message.extend(option(2, &SERVER_ID));
        }
        if kind != INFORMATION {
            let mut association = vec![0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
            for address in &self.addresses {
                association.extend(option(5, &[&address.octets()[..], &[0; 8]].concat()));
            }
            message.extend(option(3, &association));
        }
        message.extend(&self.more);
        message
    }

    fn send(&self, server: &mut Server, kind: u8, now: u64) -> Option<Answer> {
        let reply = server.handle(&self.message(kind), source(self.last), now)?;
        assert_eq!(reply[1..4], [1, 2, 3], "the transaction");
        let options = options(&reply[4..]);
        let get = |code| find(&options, code);
        assert_eq!(get(1), Some(duid(self.last)));
        assert_eq!(get(2).as_deref(), Some(&SERVER_ID[..]));
        let association = get(3).map(|value| self::options(&value[12..]));
        let given = association.as_ref().and_then(|inner| find(inner, 5)).map(|value| {
            let address: [u8; 16] = value[..16].try_into().unwrap();
            (Ipv6Addr::from(address), u32::from_be_bytes(value[20..24].try_into().unwrap()))
        });
        let status = association.as_ref().and_then(|inner| find(inner, 13)).or(get(13));
        let status = status.map(|value| value[1]);
        Some(Answer { kind: reply[0], given, status, options })
    }

    /// Four messages, as a client that starts sends and hears them.
    fn join(&self, server: &mut Server, now: u64) -> Option<Ipv6Addr> {
        let offer = self.send(server, SOLICIT, now)?;
        assert_eq!(offer.kind, ADVERTISE);
        let reply = self.send(server, REQUEST, now)?;
        assert_eq!(reply.given, offer.given);
        reply.given.map(|(address, _)| address)
    }
}

struct Answer {
    kind: u8,
    /// And for how many seconds.
    given: Option<(Ipv6Addr, u32)>,
    status: Option<u8>,
    options: Vec<(u16, Vec<u8>)>,
}

fn options(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let [c0, c1, l0, l1, after @ ..] = rest {
        let (value, after) = after.split_at(u16::from_be_bytes([*l0, *l1]).into());
        found.push((u16::from_be_bytes([*c0, *c1]), value.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    found
}

fn find(options: &[(u16, Vec<u8>)], code: u16) -> Option<Vec<u8>> {
    options.iter().find(|(other, _)| *other == code).map(|(_, value)| value.clone())
}

fn at(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, last)
}

#[test]
fn a_client_is_offered_an_address_leases_it_renews_it_and_gives_it_back() {
    let mut server = server();
    let guest = client(1).with(39, b"\x00\x03web");
    let offer = guest.send(&mut server, SOLICIT, NOW).unwrap();
    let (address, seconds) = offer.given.unwrap();
    assert_eq!((offer.kind, seconds), (ADVERTISE, 1000));
    assert!((at(0x10)..=at(0x12)).contains(&address), "{address}");
    assert_eq!(server.live_leases(NOW), 0, "an offer is no lease");
    let reply = guest.send(&mut server, REQUEST, NOW).unwrap();
    assert_eq!((reply.kind, reply.given), (REPLY, Some((address, 1000))));
    assert_eq!(find(&reply.options, 23).unwrap(), at(1).octets(), "the resolver");
    assert_eq!(find(&reply.options, 24).unwrap(), b"\x03lab\x04test\0");
    assert_eq!(server.address_of("web", NOW).map(|(it, _)| it), Some(address));
    assert_eq!(server.name_of(address, NOW).as_deref(), Some("web"));

    let had = client(1).has(&address.to_string());
    let renewed = had.send(&mut server, RENEW, NOW + 900).unwrap();
    assert_eq!(renewed.given, Some((address, 1000)));
    assert_eq!(server.live_leases(NOW + 1800), 1);
    let gone = had.send(&mut server, RELEASE, NOW + 1800).unwrap();
    assert_eq!((gone.kind, gone.status), (REPLY, Some(0)));
    assert_eq!(server.live_leases(NOW + 1800), 0);
    let again = had.send(&mut server, RELEASE, NOW + 1800).unwrap();
    assert_eq!(again.status, Some(3), "NoBinding");
    assert_eq!(client(1).join(&mut server, NOW + 1900), Some(address), "its own while it is free");
}

#[test]
fn two_messages_are_enough_for_who_wants_it_so() {
    let mut server = server();
    let reply = client(1).with(14, &[]).send(&mut server, SOLICIT, NOW).unwrap();
    assert_eq!(reply.kind, REPLY);
    assert!(reply.given.is_some() && find(&reply.options, 14).is_some());
    assert_eq!(server.live_leases(NOW), 1);
}

#[test]
fn hosts_have_their_addresses_and_nobody_else_gets_them() {
    let mut server = server();
    assert_eq!(client(9).join(&mut server, NOW), Some(at(0x99)), "by its identifier");
    assert_eq!(client(8).join(&mut server, NOW), Some(at(0x98)), "by its MAC address");
    assert_eq!(server.address_of("db", NOW).map(|(it, _)| it), Some(at(0x99)));
    let thief = client(1).has("fd00:7::99");
    let given = thief.join(&mut server, NOW).unwrap();
    assert!((at(0x10)..=at(0x12)).contains(&given), "{given}");
    let named = client(2).with(39, b"\x00\x02db").join(&mut server, NOW).unwrap();
    assert_eq!(server.name_of(named, NOW), None, "the name is another's");
}

#[test]
fn when_all_are_given_the_next_hears_so_until_one_has_ended() {
    let mut server = server();
    let mut given: Vec<_> = (1..4).map(|last| client(last).join(&mut server, NOW)).collect();
    given.sort();
    assert_eq!(given, [Some(at(0x10)), Some(at(0x11)), Some(at(0x12))]);
    let refused = client(4).send(&mut server, SOLICIT, NOW).unwrap();
    assert_eq!((refused.kind, refused.given, refused.status), (ADVERTISE, None, Some(2)));
    assert_eq!(server.counters().exhausted, 1);
    assert!(client(4).join(&mut server, NOW + 1001).is_some(), "the others have ended");
}

#[test]
fn a_guest_that_makes_identifiers_up_takes_addresses_from_itself_alone() {
    let wide = json!({ "ranges": [{ "start": "fd00:7::10", "end": "fd00:7::ffff" }] });
    let settings: Settings = serde_json::from_value(json!({ "dhcp6": wide })).unwrap();
    let mut server = Server::new(link(), &settings, None, Vec::new());
    let honest = client(1).join(&mut server, NOW).unwrap();
    for number in 0..1000u16 {
        let mut message = client(2).with(14, &[]).message(SOLICIT);
        // The end of its identifier.
        message[16..18].copy_from_slice(&number.to_be_bytes());
        assert!(server.handle(&message, source(2), NOW).is_some());
    }
    assert_eq!(server.live_leases(NOW), 17);
    let renewed = client(1).has(&honest.to_string()).send(&mut server, RENEW, NOW).unwrap();
    assert_eq!(renewed.given.map(|(it, _)| it), Some(honest));
}

#[test]
fn copies_of_one_image_with_one_identifier_have_addresses_of_their_own() {
    let mut server = server();
    let first = client(1).join(&mut server, NOW).unwrap();
    let mut given = std::collections::BTreeSet::from([first]);
    let copy = client(1).with(14, &[]).message(SOLICIT);
    let reply = server.handle(&copy, source(2), NOW).unwrap();
    let association = find(&options(&reply[4..]), 3).unwrap();
    let address = find(&options(&association[12..]), 5).unwrap();
    let address: [u8; 16] = address[..16].try_into().unwrap();
    assert!(given.insert(address.into()), "{given:?}");
    let renewed = client(1).has(&first.to_string()).send(&mut server, RENEW, NOW).unwrap();
    assert_eq!(renewed.given.map(|(it, _)| it), Some(first));
}

#[test]
fn an_address_that_somebody_has_rests_and_its_client_gets_another() {
    let mut server = server();
    let first = client(1).join(&mut server, NOW).unwrap();
    let stranger = client(2).has(&first.to_string()).send(&mut server, DECLINE, NOW).unwrap();
    assert_eq!(stranger.status, Some(3), "it was not given to it");
    client(1).has(&first.to_string()).send(&mut server, DECLINE, NOW).unwrap();
    let second = client(1).join(&mut server, NOW + 1).unwrap();
    assert_ne!(second, first);
}

#[test]
fn what_is_served_no_more_is_taken_back_when_the_client_asks_for_more_time() {
    let mut server = server();
    let address = client(1).join(&mut server, NOW).unwrap();
    let mut other = settings();
    let moved = json!({ "ranges": [{ "start": "fd00:7::20", "end": "fd00:7::29" }] });
    other.dhcp6 = serde_json::from_value(moved).unwrap();
    server.configure(&other);
    let had = client(1).has(&address.to_string());
    let reply = had.send(&mut server, REBIND, NOW + 10).unwrap();
    assert!((at(0x20)..=at(0x29)).contains(&reply.given.unwrap().0));
    server.configure(&Settings { dhcp6: Some(Default::default()), ..settings() });
    let reply = had.send(&mut server, RENEW, NOW + 20).unwrap();
    assert_eq!(reply.given, Some((address, 0)), "not to be used any more");
}

#[test]
fn an_address_of_another_link_is_denied_and_one_of_this_confirmed() {
    let mut server = server();
    let ask = |server: &mut Server, address| {
        client(1).has(address).send(server, CONFIRM, NOW).unwrap().status
    };
    assert_eq!(ask(&mut server, "fd00:7::77"), Some(0));
    assert_eq!(ask(&mut server, "fd00:8::77"), Some(4));
    assert!(client(1).send(&mut server, CONFIRM, NOW).is_none(), "about nothing");
}

#[test]
fn who_asks_for_the_rest_alone_gets_no_address() {
    let settings: Settings = serde_json::from_value(json!({ "dhcp6": {} })).unwrap();
    let mut server = Server::new(link(), &settings, None, Vec::new());
    let reply = client(1).with(6, &[0, 23]).send(&mut server, INFORMATION, NOW).unwrap();
    assert_eq!(find(&reply.options, 23).unwrap(), at(1).octets());
    assert_eq!((find(&reply.options, 24), find(&reply.options, 32)), (None, None), "not asked for");
    let refused = client(1).send(&mut server, SOLICIT, NOW).unwrap();
    assert_eq!((refused.given, refused.status), (None, Some(2)), "there are none here");
    assert_eq!(server.counters().exhausted, 0, "and that is no fault");
}

#[test]
fn what_is_not_for_us_or_makes_no_sense_is_not_answered() {
    let mut server = server();
    let mut other = client(1).message(REQUEST);
    let place = other.windows(4).position(|four| four == SERVER_ID).unwrap();
    other[place + 3] ^= 1;
    let relayed = [vec![12], client(1).message(SOLICIT)].concat();
    let mut cut = client(1).message(SOLICIT);
    cut.pop();
    for message in [other, relayed, cut, vec![], vec![SOLICIT, 0, 0, 0]] {
        assert!(server.handle(&message, source(1), NOW).is_none(), "{message:?}");
    }
    let message = client(1).message(SOLICIT);
    assert!(server.handle(&message, at(0x10), NOW).is_none(), "from elsewhere than the link");
    assert_eq!(server.counters().ignored, 6);
}

#[test]
fn leases_outlive_the_server_beside_those_of_ipv4() {
    let file = tempfile::tempfile().unwrap();
    let (leases, found) = LeaseFile::load(file.try_clone().unwrap()).unwrap();
    let mut first = Server::new(link(), &settings(), Some(leases.clone()), found);
    let address = client(1).join(&mut first, NOW).unwrap();
    let ipv4 = Lease {
        mac: "52:54:00:00:00:01".parse().unwrap(),
        client_id: None,
        association: None,
        address: "192.168.7.9".parse().unwrap(),
        hostname: None,
        expires: None,
    };
    let mut other = leases;
    other.put(&ipv4).unwrap();
    let read = read_leases(&file).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].mac.to_string(), "52:54:00:00:00:01");
    let (leases, found) = LeaseFile::load(file).unwrap();
    let mut next = Server::new(link(), &settings(), Some(leases), found);
    assert_eq!(next.live_leases(NOW), 1);
    let had = client(1).has(&address.to_string());
    assert_eq!(had.send(&mut next, RENEW, NOW + 5).unwrap().given, Some((address, 1000)));
}
