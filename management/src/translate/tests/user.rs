//! Interfaces of type='user'.

use broker::{Passt, PasstForward, PasstRange, Protocol};
use xml::DomainDef;

use super::{domain, refused};
use crate::error::Code;
use crate::translate::user;

#[test]
fn passt_is_told_what_the_definition_says() {
    let text = "<domain type='kvm'><name>d</name><memory>65536</memory><os><type>hvm</type></os><devices>\
         <interface type='user'><backend type='passt' logFile='/var/log/passt.log'/>\
         <mac address='52:54:00:00:00:01'/><source dev='eth0'/>\
         <ip family='ipv4' address='172.17.2.4' prefix='24'/><ip family='ipv6' address='2001:db8::4'/>\
         <portForward proto='tcp' address='192.0.2.1' dev='eth1'>\
         <range start='2022' to='22'/><range start='80' end='89'/><range start='85' exclude='yes'/>\
         </portForward><portForward proto='udp'/><mtu size='1400'/></interface></devices></domain>";
    let def = DomainDef::parse(text).unwrap().value;
    let range = |first, last, to, excluded| PasstRange { first, last, to, excluded };
    let expected = Passt {
        interface: Some("eth0".into()),
        addresses: vec!["172.17.2.4".parse().unwrap(), "2001:db8::4".parse().unwrap()],
        prefix: Some(24),
        mtu: Some(1400),
        log: Some("/var/log/passt.log".into()),
        user: None,
        forwards: vec![
            PasstForward {
                protocol: Protocol::Tcp,
                address: Some("192.0.2.1".parse().unwrap()),
                interface: Some("eth1".into()),
                ranges: vec![
                    range(2022, 2022, Some(22), false),
                    range(80, 89, None, false),
                    range(85, 85, None, true),
                ],
            },
            PasstForward {
                protocol: Protocol::Udp,
                address: None,
                interface: None,
                ranges: Vec::new(),
            },
        ],
    };
    assert_eq!(user::passt(&def.devices.interfaces[0]), expected);
    assert!(def.to_xml().contains("<portForward proto='udp'/>"), "it comes back");
}

#[test]
fn what_passt_does_not_do_is_refused_by_name() {
    for (inside, words) in [
        ("<vlan><tag id='7'/></vlan>", "interface of the host"),
        ("<filterref filter='clean-traffic'/>", "interface of the host"),
        ("<bandwidth><inbound average='5'/></bandwidth>", "interface of the host"),
        ("<driver name='vhost'/>", "vhost without"),
        ("<driver queues='2'/>", "several queues"),
        ("<model type='e1000'/>", "e1000"),
        ("<ip family='ipv4' address='10.0.0.2' peer='10.0.0.1'/>", "a peer"),
        ("<ip family='ipv4' address='10.0.0.2'/><ip family='ipv4' address='10.0.0.3'/>", "second"),
    ] {
        let error = refused(&domain(&format!("<interface type='user'>{inside}</interface>")));
        assert_eq!(error.code, Code::Unsupported, "{inside}: {error}");
        assert!(error.message.contains(words), "{inside}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_said() {
    for (inside, words) in [
        ("<ip family='ipv4' address='::1'/>", "family='ipv6'"),
        ("<ip family='ipv4' address='10.0.0'/>", "no IP address"),
        ("<ip family='ipv4' address='10.0.0.2' prefix='33'/>", "from 1 to 32"),
        ("<portForward proto='tcp' address='here'/>", "no IP address"),
        ("<source dev='eth0/'/>", "cannot name"),
        ("<portForward proto='tcp' dev='eth0/22,'/>", "cannot name"),
        ("<portForward proto='sctp'/>", "proto='sctp'"),
        ("<portForward proto='tcp'><range start='9' end='8'/></portForward>", "no range"),
        ("<portForward proto='tcp'><range start='1' end='9' to='65530'/></portForward>", "65535"),
        (
            "<portForward proto='tcp'><range start='1' exclude='yes' to='2'/></portForward>",
            "lead nowhere",
        ),
        (
            "<portForward proto='tcp'><range start='1' exclude='yes'/></portForward>",
            "none of which",
        ),
    ] {
        let error = refused(&domain(&format!("<interface type='user'>{inside}</interface>")));
        assert_eq!(error.code, Code::InvalidXml, "{inside}: {error}");
        assert!(error.message.contains(words), "{inside}: {error}");
    }
    for inside in ["<portForward proto='tcp'/>", "<backend type='passt'/>"] {
        let of = format!("<interface type='ethernet'>{inside}</interface>");
        assert!(refused(&domain(&of)).message.contains("type='user'"), "{inside}");
    }
}
