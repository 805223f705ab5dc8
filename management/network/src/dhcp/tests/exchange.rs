//! What a client is told, message by message.

use super::*;
use crate::{LeaseFile, read_leases};

#[test]
fn a_client_gets_an_address_and_what_it_needs_to_use_it() {
    let mut server = Server::new(
        link(),
        &settings(json!({
            "domain": { "name": "Lab.Example" },
            "dhcp": { "ranges": [range(10, 20)], "ntp": ["192.168.7.5"] },
        })),
        None,
        Vec::new(),
    );
    let guest = guest(1).with(code::HOSTNAME, "Web").with(code::CLIENT_ID, [1, 2, 3]);
    let offer = guest.send(&mut server, Kind::Discover, NOW).unwrap();
    assert_eq!(offer.reply.to.to_string(), "255.255.255.255:68");
    let ack = guest.clone().take(offer.address).send(&mut server, Kind::Request, NOW).unwrap();
    let option = |number| ack.options.get(number).unwrap();
    assert_eq!(option(code::MASK), [255, 255, 255, 0]);
    assert_eq!(option(code::ROUTER), GATEWAY);
    assert_eq!(option(code::DNS), GATEWAY);
    assert_eq!(option(code::BROADCAST), [192, 168, 7, 255]);
    assert_eq!(option(code::DOMAIN), b"lab.example");
    assert_eq!(option(code::HOSTNAME), b"web");
    assert_eq!(option(code::MTU), 1400u16.to_be_bytes());
    assert_eq!(option(code::NTP), [192, 168, 7, 5]);
    assert_eq!(option(code::CLIENT_ID), [1, 2, 3]);
    assert_eq!(ack.seconds(), 3600);
    assert_eq!(option(code::T1), 1800u32.to_be_bytes());
    assert_eq!(option(code::T2), 3150u32.to_be_bytes());
    assert_eq!(server.address_of("web", NOW), Some(ack.address));
    assert_eq!(server.name_of(ack.address, NOW).as_deref(), Some("web"));
    assert_eq!(server.address_of("web", NOW + 3600), None, "the lease has ended");
}

#[test]
fn an_isolated_network_has_no_route_and_without_dns_no_resolver() {
    let dhcp = json!({ "dhcp": { "ranges": [range(10, 20)] }, "dns": { "enabled": false } });
    let mut server =
        Server::new(Link { isolated: true, ..link() }, &settings(dhcp), None, Vec::new());
    let offer = guest(1).send(&mut server, Kind::Discover, NOW).unwrap();
    assert_eq!(offer.options.get(code::ROUTER), None);
    assert_eq!(offer.options.get(code::DNS), None);
}

#[test]
fn a_client_comes_back_to_its_address_while_that_is_free() {
    let mut server = server(10, 11);
    let first = guest(1).join(&mut server, NOW).unwrap();
    let later = NOW + 100_000;
    assert_eq!(guest(1).join(&mut server, later), Some(first));
    guest(1).using(first).send(&mut server, Kind::Release, later);
    let other = guest(2).join(&mut server, later).unwrap();
    assert_ne!(other, first, "an address that nobody had comes first");
    assert_eq!(guest(1).join(&mut server, later), Some(first));
    guest(1).using(first).send(&mut server, Kind::Release, later);
    assert_eq!(guest(3).join(&mut server, later), Some(first), "somebody needs it");
    assert_eq!(guest(1).join(&mut server, later), None);
    assert_eq!(server.counters().exhausted, 1);
}

#[test]
fn the_same_mac_leads_to_the_same_address_on_another_day() {
    let first = guest(7).join(&mut server(10, 200), NOW);
    assert_eq!(guest(7).join(&mut server(10, 200), NOW + 5), first);
    assert_ne!(guest(8).join(&mut server(10, 200), NOW), first);
}

#[test]
fn a_requested_address_is_given_if_it_is_free() {
    let mut server = server(10, 20);
    let wants = |last: u8| guest(last).with(code::REQUESTED, at(15).octets());
    assert_eq!(wants(1).send(&mut server, Kind::Discover, NOW).unwrap().address, at(15));
    assert_ne!(wants(2).send(&mut server, Kind::Discover, NOW).unwrap().address, at(15));
}

#[test]
fn more_time_is_sent_to_the_address_in_use() {
    let mut server = server(10, 20);
    let address = guest(1).join(&mut server, NOW).unwrap();
    let renewed = guest(1).using(address).send(&mut server, Kind::Request, NOW + 1800).unwrap();
    assert_eq!((renewed.kind, renewed.address), (Kind::Ack as u8, address));
    assert_eq!(renewed.reply.to.ip(), &address);
    assert_eq!(server.live_leases(NOW + 5000), 1);
    assert_eq!(server.live_leases(NOW + 1800 + 3600), 0);
}

#[test]
fn who_asks_for_what_it_cannot_have_is_told_so() {
    let mut server = server(10, 20);
    let address = guest(1).join(&mut server, NOW).unwrap();
    for stranger in [
        guest(2).using(address),
        guest(2).with(code::REQUESTED, address.octets()),
        guest(2).with(code::REQUESTED, [10, 0, 0, 9]),
        guest(2).with(code::REQUESTED, GATEWAY),
        guest(2).with(code::REQUESTED, at(99).octets()),
    ] {
        let answer = stranger.send(&mut server, Kind::Request, NOW).unwrap();
        assert_eq!(answer.kind, Kind::Nak as u8);
        assert_eq!(answer.address, Ipv4Addr::UNSPECIFIED);
        assert_eq!(answer.reply.to.ip(), &Ipv4Addr::BROADCAST);
        assert_eq!(answer.options.get(code::LEASE_TIME), None);
    }
    assert_eq!(server.counters().naks, 5);
}

#[test]
fn a_client_that_remembers_an_address_gets_it_from_a_server_that_does_not() {
    let remembers = guest(1).with(code::REQUESTED, at(12).octets());
    let answer = remembers.send(&mut server(10, 20), Kind::Request, NOW).unwrap();
    assert_eq!((answer.kind, answer.address), (Kind::Ack as u8, at(12)));
}

#[test]
fn a_client_of_another_server_is_left_alone() {
    let mut server = server(10, 10);
    let offer = guest(1).send(&mut server, Kind::Discover, NOW).unwrap();
    let elsewhere =
        guest(1).with(code::REQUESTED, offer.address.octets()).with(code::SERVER, [192, 168, 7, 3]);
    assert!(elsewhere.send(&mut server, Kind::Request, NOW).is_none());
    assert_eq!(guest(2).join(&mut server, NOW), Some(at(10)), "the offer is taken back");
}

#[test]
fn an_inform_tells_of_the_link_and_gives_nothing() {
    let mut server = server(10, 20);
    let answer = guest(1).using(at(77)).send(&mut server, Kind::Inform, NOW).unwrap();
    assert_eq!((answer.kind, answer.address), (Kind::Ack as u8, Ipv4Addr::UNSPECIFIED));
    assert_eq!(answer.reply.to.ip(), &at(77));
    assert_eq!(answer.options.get(code::LEASE_TIME), None);
    for elsewhere in [Ipv4Addr::new(8, 8, 8, 8), at(1), at(0), at(255)] {
        let client = guest(1).using(elsewhere);
        assert!(client.send(&mut server, Kind::Inform, NOW).is_none(), "{elsewhere}");
    }
}

#[test]
fn who_boots_from_the_network_is_told_where() {
    let boot = json!({ "file": "pxe/loader.efi", "server": "192.168.7.9" });
    let mut server = server_of(json!({ "ranges": [range(10, 20)], "boot": boot }));
    let loader = guest(1).with(code::PARAMETERS, [code::BOOT_SERVER, code::BOOT_FILE]);
    let offer = loader.send(&mut server, Kind::Discover, NOW).unwrap();
    assert_eq!(offer.reply.bytes[20..24], [192, 168, 7, 9]);
    assert!(offer.reply.bytes[108..].starts_with(b"pxe/loader.efi\0"));
    assert_eq!(offer.options.get(code::BOOT_SERVER).unwrap(), b"192.168.7.9");
    assert_eq!(offer.options.get(code::BOOT_FILE).unwrap(), b"pxe/loader.efi");
}

#[test]
fn options_in_the_fields_of_names_are_read() {
    let mut packet = guest(1).with(code::OVERLOAD, [3]).packet(Kind::Discover);
    packet[108..111].copy_from_slice(&[code::HOSTNAME, 2, b'a']);
    packet[111] = b'b';
    packet[112] = code::END;
    packet[44..50].copy_from_slice(&[code::REQUESTED, 4, 192, 168, 7, 13]);
    packet[50] = code::END;
    let mut server = server(10, 20);
    let offer = server.handle(&packet, NOW).map(Answer::read).unwrap();
    assert_eq!(offer.address, at(13));
    assert_eq!(offer.options.get(code::HOSTNAME).unwrap(), b"ab");
}

#[test]
fn messages_of_others_are_ignored() {
    let mut server = server(10, 20);
    let good = guest(1).packet(Kind::Discover);
    let changed = |at: usize, to: u8| {
        let mut packet = good.clone();
        packet[at] = to;
        packet
    };
    let reply = changed(0, 2);
    let token_ring = changed(1, 6);
    let relayed = changed(27, 9);
    let group = changed(28, 1);
    let no_cookie = changed(236, 0);
    for packet in [reply, token_ring, relayed, group, no_cookie, good[..239].to_vec(), vec![]] {
        assert_eq!(server.handle(&packet, NOW), None);
    }
    assert_eq!(server.counters().ignored, 7);
}

#[test]
fn leases_outlive_the_server_and_those_no_longer_served_go() {
    let file = tempfile::tempfile().unwrap();
    let start = |dhcp: serde_json::Value| {
        let (leases, found) = LeaseFile::load(file.try_clone().unwrap()).unwrap();
        Server::new(link(), &settings(json!({ "dhcp": dhcp })), Some(leases), found)
    };
    let mut server = start(json!({ "ranges": [range(10, 20)] }));
    let web = guest(1).with(code::HOSTNAME, "web").join(&mut server, NOW).unwrap();
    let other = guest(2).with(code::REQUESTED, at(if web == at(20) { 19 } else { 20 }).octets());
    let other = other.join(&mut server, NOW).unwrap();
    assert_eq!(read_leases(&file).unwrap().len(), 2);
    drop(server);
    let server = start(json!({ "ranges": [{ "start": web, "end": web }] }));
    assert_eq!(server.address_of("web", NOW), Some(web));
    assert_eq!(server.live_leases(NOW), 1, "{other} is gone");
    assert_eq!(read_leases(&file).unwrap().len(), 1);
}

#[test]
fn a_shorter_lease_can_be_asked_for_within_reason() {
    let mut server = server(10, 20);
    let mut wants = |seconds: u32| {
        let guest = guest(1).with(code::LEASE_TIME, seconds.to_be_bytes());
        guest.send(&mut server, Kind::Discover, NOW).unwrap().seconds()
    };
    assert_eq!([wants(600), wants(1), wants(86_400), wants(u32::MAX)], [600, 120, 3600, 3600]);
}

#[test]
fn a_reply_goes_nowhere_but_to_the_client() {
    let mut server = server(10, 20);
    let address = guest(1).join(&mut server, NOW).unwrap();
    let liar = guest(1).using(Ipv4Addr::new(8, 8, 8, 8)).with(code::REQUESTED, address.octets());
    let answer = liar.send(&mut server, Kind::Request, NOW).unwrap();
    assert_eq!((answer.kind, answer.reply.to.ip()), (Kind::Ack as u8, &Ipv4Addr::BROADCAST));
}

#[test]
fn the_longest_identifier_leaves_room_for_what_is_needed() {
    let mut server = server(10, 20);
    let guest = guest(1).with(code::CLIENT_ID, [7; 255]).with(code::MAX_SIZE, [0, 1]);
    let offer = guest.send(&mut server, Kind::Discover, NOW).unwrap();
    assert!(offer.reply.bytes.len() <= 548);
    assert_eq!(offer.options.get(code::CLIENT_ID).unwrap(), [7; 255]);
    for number in [code::LEASE_TIME, code::MASK, code::ROUTER, code::DNS] {
        assert!(offer.options.get(number).is_some(), "{number}");
    }
}
