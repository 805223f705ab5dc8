//! Networks: golden pairs in `tests/xml/network`, and what is said about mistakes.
//! `UPDATE_GOLDEN=1` writes what the code says now; the difference is then read in review.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::fs;
use std::path::Path;

use uuid::Uuid;
use xml::{Identity, NetworkDef};

struct Ids;

impl Identity for Ids {
    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(7)
    }
    fn mac(&mut self) -> [u8; 3] {
        [1, 2, 3]
    }
}

#[test]
fn networks_become_what_is_stored() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/xml/network");
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".out.xml") {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        let mut def =
            NetworkDef::parse(&text).unwrap_or_else(|e| panic!("{}:\n{e}", path.display()));
        def.value.fill_defaults(&mut Ids);
        let out = def.value.to_xml();
        assert_eq!(NetworkDef::parse_stored(&out).unwrap().value, def.value, "{out}");
        let golden = path.with_extension("out.xml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &out).unwrap();
        }
        assert_eq!(fs::read_to_string(&golden).unwrap(), out, "{}", golden.display());
    }
    assert_eq!(count, 4);
}

/// A NAT network with this in it.
fn nat(rest: &str) -> String {
    format!("<network><name>n</name><forward/>{rest}<ip address='10.0.0.1' prefix='24'/></network>")
}

/// A network with this in its `<dhcp>`.
fn dhcp(rest: &str) -> String {
    let ip = format!("<ip address='10.0.0.1' prefix='24'><dhcp>{rest}</dhcp></ip>");
    format!("<network><name>n</name>{ip}</network>")
}

#[test]
fn mistakes_are_named_with_their_cause() {
    let host =
        |ip: &str, mac: &str| format!("<host mac='52:54:00:00:00:0{mac}' ip='10.0.0.{ip}'/>");
    let cases = [
        (
            "<network><name>n</name><forward/></network>".to_owned(),
            "forward mode='nat' needs an <ip>",
        ),
        (nat("<forward/>"), "may stand only once"),
        (nat("<vlan><tag id='3'/></vlan>"), "<forward mode='bridge'/>"),
        (nat("<portgroup name='a'><vlan><tag id='3'/></vlan></portgroup>"), "mode='bridge'"),
        (nat("<portgroup name='a'/><portgroup name='a'/>"), "a port group 'a' already"),
        (
            nat("<portgroup name='a' default='yes'/><portgroup name='b' default='yes'/>"),
            "is the default already",
        ),
        (
            nat("<portgroup name='a'><bandwidth><inbound average='0'/></bandwidth></portgroup>"),
            "is above 0",
        ),
        (
            nat("<portgroup name='a'><bandwidth><inbound floor='3'/></bandwidth></portgroup>"),
            "is for one interface",
        ),
        (nat("<bandwidth><inbound average='9' floor='3'/></bandwidth>"), "is for one interface"),
        (nat("<bandwidth><outbound average='9' peak='8'/></bandwidth>"), "at least the average"),
        (nat("<bandwidth><inbound average='0'/></bandwidth>"), "is above 0"),
        (nat("<vlan/>"), "tag"),
        (nat("<vlan trunk='no'><tag id='3'/><tag id='4'/></vlan>"), "remove trunk='no'"),
        (
            nat("<vlan><tag id='3' nativeMode='tagged'/><tag id='4' nativeMode='tagged'/></vlan>"),
            "one VLAN alone",
        ),
        (nat("<bridge name='a/b'/>"), "cannot name a bridge"),
        (nat("<bridge name='a%d'/>"), "cannot name a bridge"),
        (nat("<bridge name='b' zone='public'/>"), "libvirt's 'zone'"),
        (nat("<bridge name='b' delay='31'/>"), "waits 30 s at most"),
        (nat("<mtu size='20'/>"), "none that IP works with"),
        (nat("<domain name='a..b'/>"), "no name in DNS"),
        (nat("<dns><forwarder/></dns>"), "needs addr='…', domain='…' or both"),
        (nat("<dns><host ip='10.0.0.2'/></dns>"), "needs an element <hostname>"),
        (nat("<dns><srv service='a' protocol='sctp'/></dns>"), "neither tcp nor udp"),
        (nat("<ip address='10.0.0.129' prefix='25'/>"), "is in two <ip>"),
        (nat("<route address='10.5.0.0' prefix='16' gateway='10.1.0.1'/>"), "reaches 10.1.0.1"),
        (
            nat("<portForward proto='tcp' to='10.0.1.2'><range start='80'/></portForward>"),
            "has 10.0.1.2 in its subnet",
        ),
        (
            nat(
                "<portForward proto='tcp' to='10.0.0.2'><range start='80' end='90' to='65530'/></portForward>",
            ),
            "end at 65535",
        ),
        (nat("<portForward proto='tcp' to='10.0.0.2'/>"), "needs an element <range>"),
        (
            "<network><name>n</name><forward mode='hostdev'/></network>".to_owned(),
            "mode='hostdev' are not provided by Manor yet",
        ),
        (
            "<network><name>n</name><forward mode='bridge'/></network>".to_owned(),
            "needs <bridge name='…'/>",
        ),
        (
            "<network><name>n</name><forward mode='bridge'/><bridge name='b'/>\
             <ip address='10.0.0.1'/></network>"
                .to_owned(),
            "<ip> is not for a bridge that Manor does not make",
        ),
        (
            "<network><name>n</name><ip address='10.0.0.0' prefix='24'/></network>".to_owned(),
            "cannot be the address of a host",
        ),
        (
            "<network><name>n</name><ip address='10.0.0.1' netmask='255.0.255.0'/></network>"
                .to_owned(),
            "has bits behind a gap",
        ),
        (
            "<network><name>n</name><ip family='ipv6' address='10.0.0.1'/></network>".to_owned(),
            "of the other family",
        ),
        (
            "<network><name>n</name><ip address='fd00::1' prefix='64'><dhcp><bootp file='f'/></dhcp>\
             </ip></network>"
                .to_owned(),
            "by DHCPv6",
        ),
        (dhcp("<range start='10.0.1.2' end='10.0.1.3'/>"), "10.0.1.2 is not in the subnet"),
        (dhcp("<range start='10.0.0.9' end='10.0.0.3'/>"), "ends before it begins"),
        (dhcp("<range start='10.0.0.9' end='10.0.0.255'/>"), "10.0.0.255 is no host's address"),
        (dhcp(&host("1", "a")), "is the host's own"),
        (dhcp(&(host("5", "a") + &host("5", "b"))), "10.0.0.5 has two <host>"),
        (dhcp(&(host("5", "a") + &host("6", "a"))), "52:54:00:00:00:0a has two <host>"),
        (dhcp("<host ip='10.0.0.5'/>"), "needs mac='…', name='…' or id='…'"),
        (
            dhcp("<range start='10.0.0.5' end='10.0.0.6'><lease expiry='1'/></range>"),
            "two minutes at least",
        ),
    ];
    for (text, message) in cases {
        let said = NetworkDef::parse(&text).map(|def| def.value.to_xml());
        let said = said.unwrap_err().to_string();
        assert!(said.contains(message), "no {message:?} for {text}:\n{said}");
    }
}

#[test]
fn subnets_meet_where_one_holds_the_other() {
    let subnet = |address: &str, prefix| {
        let text =
            format!("<network><name>n</name><ip address='{address}' prefix='{prefix}'/></network>");
        NetworkDef::parse(&text).unwrap().value.subnets().next().unwrap()
    };
    let small = subnet("192.168.122.1", 24);
    assert!(small.overlaps(&subnet("192.168.0.1", 16)));
    assert!(subnet("192.168.0.1", 16).overlaps(&small));
    assert!(!small.overlaps(&subnet("192.168.123.1", 24)));
    assert!(!small.overlaps(&subnet("fd00::1", 64)));
    assert!(subnet("fd00::1", 64).contains("fd00::2:3".parse().unwrap()));
    assert!(!small.contains("192.168.123.1".parse().unwrap()));
}

#[test]
fn one_entry_changes_and_the_rest_stays() {
    use xml::network::{UpdateCommand, UpdateError, UpdateSection};
    let update = |text: &str, command: &str, section: &str, entry: &str| {
        let def = NetworkDef::parse(text).unwrap().value;
        let command = UpdateCommand::from_name(command).unwrap();
        let section = UpdateSection::from_name(section).unwrap();
        match def.update(command, section, None, entry) {
            Ok(def) => def.to_xml(),
            Err(UpdateError::Invalid(error)) => error.to_string(),
            Err(UpdateError::Refused(text)) => text,
        }
    };
    let none = dhcp("");
    let host = "<host mac='52:54:00:00:00:0a' name='a' ip='10.0.0.5'/>";
    let with = update(&none, "add", "ip-dhcp-host", host);
    assert!(with.contains(host), "{with}");
    assert_eq!(
        update(&with, "add-last", "ip-dhcp-host", host),
        "the network has such an entry already"
    );
    let other = "<host mac='52:54:00:00:00:0a' ip='10.0.0.6'/>";
    assert!(update(&with, "modify", "ip-dhcp-host", other).contains(other));
    assert!(!update(&with, "delete", "ip-dhcp-host", other).contains("10.0.0.5"));
    assert_eq!(update(&none, "delete", "ip-dhcp-host", host), "the network has no such entry");
    let outside = update(&none, "add", "ip-dhcp-host", "<host name='x' ip='10.9.0.5'/>");
    assert!(outside.contains("10.9.0.5 is no host's address"), "{outside}");
    let wrong = update(&none, "add", "ip-dhcp-range", host);
    assert!(wrong.contains("range"), "{wrong}");
    let first = "<range start='10.0.0.50' end='10.0.0.60'/>";
    let ranges = update(
        &dhcp("<range start='10.0.0.9' end='10.0.0.10'/>"),
        "add-first",
        "ip-dhcp-range",
        first,
    );
    assert!(ranges.find(first) < ranges.find("10.0.0.9"), "{ranges}");
    let named =
        update(&none, "add", "dns-host", "<host ip='10.0.0.9'><hostname>n</hostname></host>");
    assert!(named.contains("<hostname>n</hostname>"), "{named}");
    let text = update(&none, "add", "dns-txt", "<txt name='t' value='v'/>");
    assert!(text.contains("<txt name='t' value='v'/>"), "{text}");
    let service = "<srv service='s' protocol='tcp' target='x' port='1'/>";
    assert!(update(&none, "add", "dns-srv", service).contains(service));
    let forward = "<portForward proto='udp' to='10.0.0.5'><range start='5'/></portForward>";
    assert!(update(&none, "add", "port-forward", forward).contains("<portForward proto='udp'"));
}
