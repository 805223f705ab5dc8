//! What is answered from leases and from the configuration.

use serde_json::json;
use simple_dns::{Packet, PacketFlag, RCODE};

use super::super::answer::Transport;
use super::super::query::kind::{A, AAAA, ANY, AXFR, PTR, SRV, TXT};
use super::super::service::Step;
use super::*;

type Answer = Option<(RCODE, Vec<String>)>;

fn found(records: &[&str]) -> Answer {
    Some((RCODE::NoError, records.iter().map(|&record| record.to_owned()).collect()))
}

fn no_such_name() -> Answer {
    Some((RCODE::NameError, vec![]))
}

#[test]
fn a_guest_is_found_by_its_name_and_by_its_address() {
    let lab = network(json!({}));
    assert_eq!(ask(&lab, "web", A), found(&["127.0.0.9"]));
    assert_eq!(ask(&lab, "WEB.Lab", A), found(&["127.0.0.9"]));
    assert_eq!(ask(&lab, "web.lab", AAAA), found(&[]), "it exists, without such an address");
    assert_eq!(ask(&lab, "9.0.0.127.in-addr.arpa", PTR), found(&["web.lab"]));
    assert_eq!(ask(&lab, "web.example.org", A), None);
}

#[test]
fn the_configuration_names_hosts_services_and_texts() {
    let lab = network(json!({ "dns": {
        "gateway_names": ["gateway"],
        "hosts": [
            { "address": "127.0.0.70", "names": ["db", "sql.example.org"] },
            { "address": "fd00:7::70", "names": ["db.lab"] },
            { "address": "127.0.0.71", "names": ["web"] },
        ],
        "srv": [{ "name": "_ldap._tcp.lab", "target": "db.lab", "port": 389, "priority": 5 },
                { "name": "_pop._tcp.lab" }],
        "txt": [{ "name": "note.lab", "value": "hello" }],
    }}));
    assert_eq!(ask(&lab, "db", A), found(&["127.0.0.70"]));
    assert_eq!(ask(&lab, "db.lab", AAAA), found(&["fd00:7::70"]));
    assert_eq!(ask(&lab, "db", ANY), found(&["127.0.0.70", "fd00:7::70"]));
    assert_eq!(ask(&lab, "sql.example.org", A), found(&["127.0.0.70"]));
    assert_eq!(ask(&lab, "web", A), found(&["127.0.0.71"]), "a guest cannot take its place");
    assert_eq!(ask(&lab, "gateway.lab", A), found(&["127.0.0.1"]));
    assert_eq!(ask(&lab, "gateway", AAAA), found(&["fd00:7::1"]));
    assert_eq!(ask(&lab, "70.0.0.127.in-addr.arpa", PTR), found(&["db.lab"]));
    let reversed = "0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(ask(&lab, reversed, PTR), found(&["db.lab"]));
    assert_eq!(ask(&lab, "_ldap._tcp.lab", SRV), found(&["5 389 db.lab"]));
    assert_eq!(ask(&lab, "_pop._tcp.lab", SRV), found(&["0 0 "]), "the root: no such service");
    assert_eq!(ask(&lab, "note.lab", TXT), found(&["hello"]));
}

#[test]
fn nobody_else_is_asked_about_the_network_itself() {
    let lab = network(json!({}));
    assert_eq!(ask(&lab, "nobody.lab", A), no_such_name());
    assert_eq!(ask(&lab, "a.b.lab", TXT), no_such_name());
    assert_eq!(ask(&lab, "lab", A), found(&[]));
    assert_eq!(ask(&lab, "77.0.0.127.in-addr.arpa", PTR), no_such_name());
    assert_eq!(ask(&lab, "0.0.127.in-addr.arpa", TXT), found(&[]));
    assert_eq!(ask(&lab, "127.in-addr.arpa", TXT), None, "more than the network");
    assert_eq!(ask(&lab, "1.1.1.1.in-addr.arpa", PTR), None);
    let open = network(json!({ "domain": { "name": "lab" } }));
    assert_eq!(ask(&open, "nobody.lab", A), None);
    assert_eq!(ask(&open, "77.0.0.127.in-addr.arpa", PTR), no_such_name());
}

#[test]
fn plain_names_stay_here_if_so_configured() {
    let lab = network(json!({ "dns": { "forward_plain_names": false } }));
    assert_eq!(ask(&lab, "printer", A), no_such_name());
    assert_eq!(ask(&lab, "web", A), found(&["127.0.0.9"]));
    assert_eq!(ask(&lab, "org", SRV), None, "only addresses of hosts are held back");
    assert_eq!(ask(&network(json!({})), "printer", A), None);
}

#[test]
fn zones_are_not_handed_out_and_other_operations_not_known() {
    let lab = network(json!({}));
    assert_eq!(ask(&lab, "lab", AXFR), Some((RCODE::Refused, vec![])));
    let mut update = question("lab", A);
    update[2] |= 5 << 3;
    let Step::Reply(reply) = ask_bytes(&lab, &update, Transport::Udp) else { panic!() };
    assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::NotImplemented);
    let mut chaos = question("version.bind", TXT);
    *chaos.last_mut().unwrap() = 3;
    let Step::Reply(reply) = ask_bytes(&lab, &chaos, Transport::Udp) else { panic!() };
    assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::Refused);
}

#[test]
fn the_question_comes_back_as_it_was() {
    let lab = network(json!({}));
    let query = question("wEb.LaB", A);
    let Step::Reply(reply) = ask_bytes(&lab, &query, Transport::Udp) else { panic!() };
    assert_eq!(reply[12..query.len()], query[12..]);
    // A type that is in no list.
    let mut query = question("web.lab", A);
    let at = query.len() - 4;
    query[at..at + 2].copy_from_slice(&0xff00u16.to_be_bytes());
    let Step::Reply(reply) = ask_bytes(&lab, &query, Transport::Udp) else { panic!() };
    assert_eq!((reply[3] & 0xf, &reply[12..]), (0, &query[12..]));
}

#[test]
fn an_answer_that_is_too_long_is_cut_and_comes_whole_over_tcp() {
    let lab =
        network(json!({ "dns": { "txt": [{ "name": "long.lab", "value": "x".repeat(800) }] } }));
    let query = question("long.lab", TXT);
    let answer = |query: &[u8], transport| match ask_bytes(&lab, query, transport) {
        Step::Reply(reply) => reply,
        step => panic!("{step:?}"),
    };
    let cut = answer(&query, Transport::Udp);
    let cut = Packet::parse(&cut).unwrap();
    assert!(cut.has_flags(PacketFlag::TRUNCATION) && cut.answers.is_empty());
    for (query, transport) in
        [(query.clone(), Transport::Tcp), (with_edns(&query, 4096, 0), Transport::Udp)]
    {
        let (rcode, records) = read(&answer(&query, transport));
        assert_eq!((rcode, records), (RCODE::NoError, vec!["x".repeat(800)]));
    }
}

#[test]
fn edns_is_answered_with_edns_and_a_version_to_come_refused() {
    let lab = network(json!({}));
    // The code's lower four bits are in the header, the others in the record.
    for (name, version, lower, upper) in [
        ("web", 0, RCODE::NoError, 0),
        ("no.lab", 0, RCODE::NameError, 0),
        ("web", 1, RCODE::NoError, 1),
    ] {
        let query = with_edns(&question(name, A), 1232, version);
        let Step::Reply(reply) = ask_bytes(&lab, &query, Transport::Udp) else { panic!() };
        assert_eq!(reply[3] & 0xf, lower as u8);
        assert_eq!(reply[reply.len() - 11..], [0, 0, 41, 4, 208, upper, 0, 0, 0, 0, 0], "{name}");
    }
}

#[test]
fn strangers_hear_nothing() {
    let lab = network(json!({}));
    let step = |client: &str| {
        first_step(&question("web", A), client.parse().unwrap(), Transport::Udp, &lab)
    };
    assert!(matches!(step("192.0.2.7:53"), Step::Nothing));
    assert!(matches!(step("[fd00:8::1]:99"), Step::Nothing));
    assert!(matches!(step("127.0.0.8:0"), Step::Nothing));
    assert!(matches!(step("[fd00:7::9]:99"), Step::Reply(_)));
    assert_eq!(lab.lock().dns.refused, 3);
    let off = network(json!({ "dns": { "enabled": false } }));
    assert!(matches!(ask_bytes(&off, &question("web", A), Transport::Udp), Step::Nothing));
}
