//! Interfaces of type='direct' and 'ethernet'.

use super::{defined, domain, refused};
use crate::error::Code;

fn direct(source: &str, rest: &str) -> String {
    domain(&format!("<interface type='direct'><source {source}/>{rest}</interface>"))
}

#[test]
fn the_mode_is_libvirts_default_and_shown() {
    let def = defined(&direct("dev='eth0'", ""));
    assert!(def.to_xml().contains("<source dev='eth0' mode='vepa'/>"), "{}", def.to_xml());
    let def = defined(&direct("dev='eth0' mode='passthrough'", ""));
    assert!(def.to_xml().contains("mode='passthrough'"));
}

#[test]
fn what_a_macvtap_does_not_do_is_refused_by_name() {
    for (rest, words) in [
        ("<virtualport type='802.1Qbh'><parameters profileid='p'/></virtualport>", "virtual ports"),
        ("<vlan><tag id='7'/></vlan>", "VLAN tags"),
        ("<filterref filter='clean-traffic'/>", "filters of an interface that is in no bridge"),
        ("<bandwidth><inbound average='5'/></bandwidth>", "limits of an interface"),
        ("<script path='/etc/up'/>", "scripts that set up"),
    ] {
        let error = refused(&direct("dev='eth0'", rest));
        assert_eq!(error.code, Code::Unsupported, "{rest}: {error}");
        assert!(error.message.contains(words), "{rest}: {error}");
    }
    assert!(refused(&direct("dev='eth0' mode='hairpin'", "")).message.contains("hairpin"));
    let script =
        "<interface type='ethernet'><target dev='t0'/><script path='/etc/up'/></interface>";
    assert!(refused(&domain(script)).message.contains("managed='no'"));
}
