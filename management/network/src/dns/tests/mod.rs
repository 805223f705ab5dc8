//! The DNS server against questions of all kinds, hostile ones included, and against upstreams.

mod forwarding;
mod local;
mod noise;

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE};

use super::answer::Transport;
use super::service::{Step, first_step};
use crate::config::NetworkConfig;
use crate::dhcp::{Link, Server};
use crate::state::{Shared, State, now};
use crate::{Lease, Mac};

/// A network with a guest `web` at 127.0.0.9. The loopback network, so that a test's own sockets are
/// its clients.
fn network(settings: serde_json::Value) -> Shared {
    let mut config = json!({
        "version": 1, "name": "lab", "bridge": "br0",
        "files": { "control": 4, "dhcp": 5 },
        "ipv4": "127.0.0.1/24", "ipv6": { "gateway": "fd00:7::1/64" },
        "settings": {
            "domain": { "name": "lab", "local_only": true },
            "dhcp": { "ranges": [{ "start": "127.0.0.2", "end": "127.0.0.99" }] },
        },
    });
    for (key, value) in settings.as_object().unwrap() {
        config["settings"][key] = value.clone();
    }
    let config: NetworkConfig = serde_json::from_value(config).unwrap();
    config.check().unwrap();
    let web = Lease {
        mac: Mac([2, 0, 0, 0, 0, 9]),
        client_id: None,
        association: None,
        address: IpAddr::from([127, 0, 0, 9]),
        hostname: Some("web".into()),
        expires: Some(now() + 600),
    };
    let link = Link::of(&config).unwrap();
    let dhcp = Server::new(link, &config.settings, None, vec![web]);
    Shared::new(State::new(config, Some(dhcp)))
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut query = Packet::new_query(0x1234);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let (kind, class) = (QTYPE::try_from(kind).unwrap(), CLASS::IN.into());
    query.questions.push(Question::new(Name::new(name).unwrap(), kind, class, false));
    query.build_bytes_vec().unwrap()
}

/// The last eleven bytes of a message: root, OPT, size, code and version and flags, no options
/// (RFC 6891 §6.1.3).
fn with_edns(query: &[u8], size: u16, version: u8) -> Vec<u8> {
    let mut query = query.to_vec();
    query[11] += 1;
    query.extend([0, 0, 41]);
    query.extend(size.to_be_bytes());
    query.extend([0, version, 0, 0, 0, 0]);
    query
}

fn client() -> SocketAddr {
    "127.0.0.50:4000".parse().unwrap()
}

fn ask_bytes(shared: &Shared, query: &[u8], transport: Transport) -> Step {
    first_step(query, client(), transport, shared)
}

/// What a question of a client gets from what is known here; `None` if it is passed on.
fn ask(shared: &Shared, name: &str, kind: u16) -> Option<(RCODE, Vec<String>)> {
    match ask_bytes(shared, &question(name, kind), Transport::Udp) {
        Step::Reply(reply) => Some(read(&reply)),
        Step::Forward => None,
        Step::Nothing => panic!("no answer"),
    }
}

fn read(reply: &[u8]) -> (RCODE, Vec<String>) {
    let reply = Packet::parse(reply).unwrap();
    assert_eq!(reply.id(), 0x1234);
    assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
    (reply.rcode(), reply.answers.iter().map(|record| text_of(&record.rdata)).collect())
}

fn text_of(data: &RData<'_>) -> String {
    match data {
        RData::A(a) => std::net::Ipv4Addr::from_bits(a.address).to_string(),
        RData::AAAA(a) => std::net::Ipv6Addr::from_bits(a.address).to_string(),
        RData::PTR(name) => name.0.to_string(),
        RData::SRV(srv) => format!("{} {} {}", srv.priority, srv.port, srv.target),
        RData::TXT(txt) => String::try_from(txt.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}
