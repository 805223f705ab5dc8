//! The server as it runs: a process that gave up its privileges and serves a bridge in a network namespace,
//! and clients on the other end of a cable. Needs root and iproute2.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test: what fails here fails it"
)]

mod dhcp_client;
mod lab;
mod noise;
mod sys;
mod tools;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use dhcp_client::{ACK, Client, DISCOVER, NAK, OFFER, RELEASE, REQUEST};
use lab::{GATEWAY, GATEWAY6, Lab};
use serde_json::json;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, Question, RCODE, TYPE};

/// No test: what [`Lab::start`] runs in a process of its own.
#[test]
fn server_process() -> ExitCode {
    match std::env::var_os(lab::ROLE) {
        Some(_) => network::run_network([]),
        None => ExitCode::SUCCESS,
    }
}

/// Addresses by DHCP, names from a guest, a service and an upstream.
fn settings(lab: &Lab) -> serde_json::Value {
    json!({
        "domain": { "name": "lab.test", "local_only": true },
        "dhcp": { "ranges": [{ "start": "192.168.77.100", "end": "192.168.77.110" }] },
        "dns": {
            "gateway_names": ["gateway"], "upstreams": [lab.upstream()],
            "txt": [{ "name": "long.lab.test", "value": "z".repeat(2000) }],
        },
    })
}

#[test]
fn the_server_has_no_privileges_and_a_filter_while_it_serves() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(settings(&lab));
    let mac = lab.client_mac();
    assert!(lab.in_client(move || Client::new(mac).join(&[(12, b"guest")])).is_some());
    let confinement = lab.confinement();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(confinement[set], "0000000000000000", "{set}");
    }
    let ids = [lab::USER; 4].map(|id| id.to_string()).join("\t");
    assert_eq!(confinement["Uid"], ids, "real, effective, saved, of the file system");
    assert_eq!(confinement["Gid"], ids);
    assert_eq!(confinement["Groups"], "");
    assert_eq!(confinement["NoNewPrivs"], "1");
    assert_eq!(confinement["Seccomp"], "2", "a filter");
    lab.stop();
}

#[test]
fn a_client_gets_an_address_keeps_it_over_a_restart_and_gives_it_back() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(settings(&lab));
    let mac = lab.client_mac();
    let address = lab.in_client(move || {
        let client = Client::new(mac);
        let offer = client.ask(DISCOVER, &[(12, b"guest")]).expect("an offer");
        assert_eq!(offer.kind, OFFER);
        assert_eq!(offer.option(54).unwrap(), GATEWAY.octets());
        assert_eq!(offer.option(3).unwrap(), GATEWAY.octets());
        let wanted = offer.address.octets();
        let ack = client
            .ask(REQUEST, &[(12, b"guest"), (50, &wanted), (54, &GATEWAY.octets())])
            .expect("an acknowledgement");
        assert_eq!((ack.kind, ack.address), (ACK, offer.address));
        ack.address
    });
    let leases = network::read_leases(&lab.lease_file()).unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].address, leases[0].hostname.as_deref()), (address.into(), Some("guest")));

    lab.stop();
    lab.start(settings(&lab));
    lab.give_client(address);
    lab.in_client(move || {
        let client = Client::new(mac).using(address);
        let renewed = client.ask(REQUEST, &[]).expect("more time");
        assert_eq!((renewed.kind, renewed.address), (ACK, address));
        let wrong = client.using(Ipv4Addr::UNSPECIFIED).ask(REQUEST, &[(50, &[10, 0, 0, 9])]);
        assert_eq!(wrong.expect("a refusal").kind, NAK);
        Client::new(mac).using(address).send(RELEASE, &[(54, &GATEWAY.octets())]);
    });
    lab.wait_until("the lease is given back", |lab| lab.status()["leases"] == 0);
    assert_eq!(lab.status()["dhcp"]["naks"], 1);
}

#[test]
fn busybox_gets_an_address() {
    let Some(mut lab) = Lab::new() else { return };
    let busybox = manor_tests::tools::busybox().unwrap();
    let [busybox] = busybox.words() else { panic!("busybox is one program: {busybox:?}") };
    lab.start(settings(&lab));
    let script = lab.script(
        "#!/bin/sh\n[ \"$1\" = bound ] && echo \"$ip $subnet $router $dns $domain\"\nexit 0\n",
    );
    let output = lab.run_in_client(&[
        busybox,
        "udhcpc",
        "-i",
        "c0",
        "-n",
        "-q",
        "-f",
        "-t",
        "5",
        "-T",
        "1",
        "-x",
        "hostname:bbox",
        "-s",
        &script,
    ]);
    let told = output.lines().find(|line| line.starts_with("192.168.77.")).expect(&output);
    let (address, rest) = told.split_once(' ').unwrap();
    assert_eq!(rest, "255.255.255.0 192.168.77.1 192.168.77.1 lab.test");
    let leases = network::read_leases(&lab.lease_file()).unwrap();
    assert_eq!(leases[0].address.to_string(), address);
    assert_eq!(leases[0].hostname.as_deref(), Some("bbox"));
    lab.give_client(leases[0].address.to_string().parse().unwrap());
    let lookup = |name| lab.run_in_client(&[busybox, "nslookup", name, "192.168.77.1"]);
    let found = lookup("bbox.lab.test");
    assert!(found.contains(&format!("Address: {address}")), "{found}");
    let found = lookup(address);
    assert!(found.contains("name = bbox.lab.test"), "{found}");
}

/// Fields of the settings for DHCPv6.
fn with_dhcp6(lab: &Lab) -> serde_json::Value {
    let mut settings = settings(lab);
    settings["dhcp6"] = json!({
        "ranges": [{ "start": "fd00:77::100", "end": "fd00:77::10f" }],
    });
    settings
}

#[test]
fn dhclient_gets_an_ipv6_address_by_our_advertisements_flags_and_gives_it_back() {
    let Some(mut lab) = Lab::new() else { return };
    let dhclient = manor_tests::tools::dhclient().unwrap();
    lab.start(with_dhcp6(&lab));
    lab.wait_until("the guest has an address of its link", |lab| {
        let addresses = lab.ip(&["-n", &lab.client, "-6", "address", "show", "dev", "c0"]);
        addresses.contains("fe80:") && !addresses.contains("tentative")
    });
    let script = lab.script(
        "#!/bin/sh\n[ \"$reason\" = BOUND6 ] && echo \"$new_ip6_address $new_dhcp6_name_servers \
         $new_dhcp6_domain_search\"\nexit 0\n",
    );
    let (leases, pid) = (lab.path("leases6"), lab.path("pid6"));
    let config = lab.path("dhclient.conf");
    std::fs::write(
        &config,
        "send fqdn.fqdn \"six.example\"; send fqdn.encoded on;\n\
         also request dhcp6.name-servers, dhcp6.domain-search;\n",
    )
    .unwrap();
    let rest = ["-6", "-v", "-cf", &config, "-lf", &leases, "-pf", &pid, "-sf", &script, "c0"];
    let words = dhclient.words();
    let run = |lab: &Lab, how: &str| {
        let words: Vec<&str> = words.iter().map(|word| &**word).chain([how]).chain(rest).collect();
        lab.run_in_client(&words)
    };
    let output = run(&lab, "-1");
    let told = output.lines().find(|line| line.starts_with("fd00:77::10")).expect(&output);
    assert!(
        told.ends_with(" fd00:77::1 lab.test.") || told.ends_with(" fd00:77::1 lab.test"),
        "{told}"
    );
    let address: Ipv6Addr = told.split(' ').next().unwrap().parse().unwrap();
    let found = network::read_leases(&lab.lease_file()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].address, IpAddr::V6(address));
    assert_eq!(found[0].mac.0, lab.client_mac());
    let flags = lab.ip(&["-n", &lab.client, "-6", "address", "show", "dev", "c0"]);
    assert!(!flags.contains("fd00:77:"), "none of its own: {flags}");
    assert_eq!(lab.status()["leases"], 1);
    // It asks again for what it has, and gives it back.
    let output = run(&lab, "-r");
    lab.wait_until("the lease is given back", |lab| lab.status()["leases"] == 0);
    assert_eq!(lab.status()["dhcp6"]["releases"], 1, "{output}");
    lab.stop();
}

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut query = Packet::new_query(77);
    let name = Name::new(name).unwrap();
    query.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    query.build_bytes_vec().unwrap()
}

fn over_udp(name: &str, kind: TYPE) -> Vec<u8> {
    over_udp_at(GATEWAY.into(), name, kind)
}

fn over_udp_at(server: IpAddr, name: &str, kind: TYPE) -> Vec<u8> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect((server, 53)).unwrap();
    socket.send(&question(name, kind)).unwrap();
    let mut reply = vec![0; 4096];
    let length = socket.recv(&mut reply).unwrap();
    reply.truncate(length);
    reply
}

fn over_tcp(name: &str, kind: TYPE) -> Vec<u8> {
    let mut stream = TcpStream::connect((GATEWAY, 53)).unwrap();
    let query = question(name, kind);
    stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).unwrap();
    reply
}

fn address_in(reply: &[u8]) -> Option<Ipv4Addr> {
    let reply = Packet::parse(reply).unwrap();
    assert_eq!(reply.id(), 77);
    match &reply.answers.first()?.rdata {
        RData::A(a) => Some(Ipv4Addr::from_bits(a.address)),
        _ => None,
    }
}

#[test]
fn guests_are_found_by_name_and_the_rest_is_asked_elsewhere() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(settings(&lab));
    let mac = lab.client_mac();
    let address =
        lab.in_client(move || Client::new(mac).join(&[(12, b"guest")])).expect("an address");
    lab.give_client(address);
    lab.in_client(move || {
        assert_eq!(address_in(&over_udp("guest", TYPE::A)), Some(address));
        assert_eq!(address_in(&over_udp("guest.lab.test", TYPE::A)), Some(address));
        assert_eq!(address_in(&over_tcp("gateway.lab.test", TYPE::A)), Some(GATEWAY));
        let upstream = Some(Ipv4Addr::new(192, 0, 2, 53));
        assert_eq!(address_in(&over_udp("www.example.org", TYPE::A)), upstream);
        assert_eq!(address_in(&over_tcp("www.example.org", TYPE::A)), upstream);
        let missing = over_udp("nobody.lab.test", TYPE::A);
        assert_eq!(Packet::parse(&missing).unwrap().rcode(), RCODE::NameError);
        let cut = over_udp("long.lab.test", TYPE::TXT);
        assert_ne!(cut[2] & 0x02, 0, "cut, so that the client comes over TCP");
        let whole = over_tcp("long.lab.test", TYPE::TXT);
        assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 1);
    });
    let status = lab.status();
    assert_eq!(status["dns"]["forwarded"], 2);

    let mut changed = settings(&lab);
    changed["dns"]["hosts"] = json!([{ "address": "192.168.77.9", "names": ["added"] }]);
    assert_eq!(lab.call(&json!({ "configure": changed })), json!({ "ok": {} }));
    lab.in_client(|| {
        let added = over_udp("added.lab.test", TYPE::A);
        assert_eq!(address_in(&added), Some(Ipv4Addr::new(192, 168, 77, 9)));
    });
}

#[test]
fn a_stranger_who_is_routed_in_hears_nothing_of_names() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(settings(&lab));
    // An address of another network, and a way there and back.
    lab.give_client(Ipv4Addr::new(10, 9, 9, 9));
    lab.ip(&["-n", &lab.client, "route", "add", "192.168.77.0/24", "dev", "c0"]);
    lab.ip(&["-n", &lab.server, "route", "add", "10.9.9.0/24", "dev", "br0"]);
    lab.in_client(|| {
        let socket = UdpSocket::bind("10.9.9.9:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.connect((GATEWAY, 53)).unwrap();
        socket.send(&question("gateway", TYPE::A)).unwrap();
        assert!(socket.recv(&mut [0; 512]).is_err());
    });
    assert_eq!(lab.status()["dns"]["refused"], 1);
}

#[test]
fn linux_numbers_itself_by_our_advertisements_and_forgets_the_route_at_the_end() {
    let Some(mut lab) = Lab::new() else { return };
    lab.start(settings(&lab));
    lab.wait_until("the guest has an address of the prefix", |lab| {
        let addresses = lab.ip(&["-n", &lab.client, "-6", "address", "show", "dev", "c0"]);
        addresses.contains("fd00:77:") && !addresses.contains("tentative")
    });
    let reply = lab.in_client(|| over_udp_at(GATEWAY6.into(), "gateway.lab.test", TYPE::A));
    assert_eq!(address_in(&reply), Some(GATEWAY));
    let route = |lab: &Lab| lab.ip(&["-n", &lab.client, "-6", "route", "show", "default"]);
    assert!(route(&lab).contains("proto ra"), "{}", route(&lab));
    assert!(route(&lab).contains("mtu 1400") || lab.client_mtu6() == "1400");
    assert_ne!(lab.status()["router"]["advertisements"], 0);
    lab.stop();
    lab.wait_until("the route is gone", |lab| route(lab).is_empty());
}
