//! Who may have which address and which name.

use super::*;

#[test]
fn static_addresses_are_for_their_hosts_alone() {
    let hosts = json!([
        { "mac": "52:54:00:00:00:01", "name": "db", "address": "192.168.7.10" },
        { "client_id": "ff0102", "address": "192.168.7.11", "lease_seconds": null },
        { "name": "printer", "address": "192.168.7.200" },
    ]);
    let mut server = server_of(json!({ "ranges": [range(10, 12)], "hosts": hosts }));
    assert_eq!(server.address_of("db", NOW), Some(at(10)), "known before it asks");
    assert_eq!(guest(9).join(&mut server, NOW), Some(at(12)));
    assert_eq!(guest(8).join(&mut server, NOW), None);
    assert_eq!(guest(1).join(&mut server, NOW), Some(at(10)));
    let by_id = guest(2).with(code::CLIENT_ID, [0xff, 1, 2]);
    assert_eq!(by_id.join(&mut server, NOW), Some(at(11)));
    assert_eq!(by_id.send(&mut server, Kind::Discover, NOW).unwrap().seconds(), u32::MAX);
    let by_name = guest(3).with(code::HOSTNAME, "Printer.old.example");
    assert_eq!(by_name.join(&mut server, NOW), Some(at(200)));
    let thief = guest(4).with(code::REQUESTED, at(10).octets());
    assert_eq!(thief.send(&mut server, Kind::Request, NOW).unwrap().kind, Kind::Nak as u8);
}

#[test]
fn a_static_host_keeps_its_address_from_boot_loader_to_system() {
    let hosts = json!([{ "mac": "52:54:00:00:00:01", "address": "192.168.7.10" }]);
    let mut server = server_of(json!({ "hosts": hosts }));
    assert_eq!(guest(1).join(&mut server, NOW), Some(at(10)));
    let system = guest(1).with(code::CLIENT_ID, [0xff, 1, 2]);
    assert_eq!(system.join(&mut server, NOW), Some(at(10)));
    assert_eq!(server.live_leases(NOW), 1);
}

#[test]
fn a_new_static_address_is_taken_up_at_the_next_renewal() {
    let mut server = server(10, 20);
    let address = guest(1).join(&mut server, NOW).unwrap();
    let hosts = json!([{ "mac": "52:54:00:00:00:01", "address": "192.168.7.99" }]);
    server.configure(&settings(json!({ "dhcp": { "ranges": [range(10, 20)], "hosts": hosts } })));
    let renewal = guest(1).using(address).send(&mut server, Kind::Request, NOW).unwrap();
    assert_eq!(renewal.kind, Kind::Nak as u8);
    assert_eq!(guest(1).join(&mut server, NOW), Some(at(99)));
    assert_eq!(server.live_leases(NOW), 1);
}

#[test]
fn copies_of_one_image_get_an_address_each() {
    let mut server = server(10, 20);
    let first = guest(1).with(code::CLIENT_ID, [0xff, 7, 7]).join(&mut server, NOW);
    let second = guest(2).with(code::CLIENT_ID, [0xff, 7, 7]).join(&mut server, NOW);
    assert!(first.is_some() && second.is_some() && first != second);
}

#[test]
fn a_guest_that_makes_identifiers_up_takes_no_more_than_its_share() {
    let mut server = server(10, 59);
    for id in 0..200 {
        guest(1).with(code::CLIENT_ID, [9, 9, id]).join(&mut server, NOW).unwrap();
    }
    assert_eq!(server.live_leases(NOW), 16);
}

#[test]
fn a_declined_address_rests_and_only_its_holder_can_decline_it() {
    let mut server = server(10, 11);
    let address = guest(1).join(&mut server, NOW).unwrap();
    let decline = |last| guest(last).take(address);
    assert!(decline(2).send(&mut server, Kind::Decline, NOW).is_none());
    assert_eq!(server.live_leases(NOW), 1, "a stranger has no say");
    decline(1).send(&mut server, Kind::Decline, NOW);
    let other = guest(1).join(&mut server, NOW).unwrap();
    assert_ne!(other, address);
    assert_eq!(guest(2).join(&mut server, NOW + 599), None);
    assert_eq!(guest(2).join(&mut server, NOW + 600), Some(address));
}

#[test]
fn a_guest_cannot_put_a_whole_range_aside() {
    let mut server = server(10, 30);
    for _ in 0..100 {
        let address = guest(1).join(&mut server, NOW).unwrap();
        guest(1).take(address).send(&mut server, Kind::Decline, NOW);
    }
    for last in 2..19 {
        assert!(guest(last).join(&mut server, NOW).is_some(), "{last}");
    }
}

#[test]
fn names_are_first_come_first_served_and_never_those_of_the_configuration() {
    let dns = json!({
        "domain": { "name": "lab" },
        "dhcp": { "ranges": [range(10, 20)], "hosts": [
            { "mac": "52:54:00:00:00:01", "name": "db", "address": "192.168.7.99" },
        ] },
        "dns": { "hosts": [{ "address": "192.168.7.50", "names": ["mail.lab"] }],
                 "gateway_names": ["gateway"] },
    });
    let mut server = Server::new(link(), &settings(dns), None, Vec::new());
    for name in ["mail", "gateway", "db"] {
        let address = guest(2).with(code::HOSTNAME, name).join(&mut server, NOW).unwrap();
        assert_eq!(server.name_of(address, NOW), None, "{name}");
    }
    let first = guest(2).with(code::HOSTNAME, "web").join(&mut server, NOW);
    let second = guest(3).with(code::HOSTNAME, "web").join(&mut server, NOW);
    assert_eq!(server.address_of("web", NOW), first);
    assert_eq!(server.name_of(second.unwrap(), NOW), None);
}

#[test]
fn names_that_others_trust_are_nobodys() {
    let mut server = server(10, 20);
    for name in ["wpad", "localhost", "ISATAP.lab"] {
        let address = guest(1).with(code::HOSTNAME, name).join(&mut server, NOW).unwrap();
        assert_eq!(server.name_of(address, NOW), None, "{name}");
    }
}

#[test]
fn an_exhausted_server_notices_when_an_address_comes_free() {
    let mut server = server(10, 11);
    let first = guest(1).join(&mut server, NOW).unwrap();
    guest(2).join(&mut server, NOW + 50).unwrap();
    assert_eq!(guest(3).join(&mut server, NOW + 60), None);
    assert_eq!(guest(3).join(&mut server, NOW + 3599), None);
    assert_eq!(guest(3).join(&mut server, NOW + 3600), Some(first), "by time");
    assert_eq!(guest(4).join(&mut server, NOW + 3600), None);
    guest(3).using(first).send(&mut server, Kind::Release, NOW + 3600);
    assert_eq!(guest(4).join(&mut server, NOW + 3600), Some(first), "given back");
    assert_eq!(guest(5).join(&mut server, NOW + 3600), None);
    server.configure(&settings(json!({ "dhcp": { "ranges": [range(10, 12)] } })));
    assert_eq!(guest(5).join(&mut server, NOW + 3600), Some(at(12)), "a wider range");
}

#[test]
fn a_static_host_that_finds_its_address_taken_gets_another_for_the_time() {
    let hosts = json!([{ "mac": "52:54:00:00:00:01", "address": "192.168.7.99" }]);
    let mut server = server_of(json!({ "ranges": [range(10, 20)], "hosts": hosts }));
    assert_eq!(guest(1).join(&mut server, NOW), Some(at(99)));
    guest(1).take(at(99)).send(&mut server, Kind::Decline, NOW);
    let other = guest(1).join(&mut server, NOW).unwrap();
    assert!(other < at(21));
    let renewal = guest(1).using(other).send(&mut server, Kind::Request, NOW + 599).unwrap();
    assert_eq!(renewal.kind, Kind::Ack as u8);
    let renewal = guest(1).using(other).send(&mut server, Kind::Request, NOW + 600).unwrap();
    assert_eq!(renewal.kind, Kind::Nak as u8, "its own is to be tried again");
    assert_eq!(guest(1).join(&mut server, NOW + 600), Some(at(99)));
}
