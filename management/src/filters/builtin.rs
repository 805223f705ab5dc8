//! The filters that libvirt comes with, in Manor's own words. Those that keep a guest from appearing as
//! another are done by Manor's checks, which know more than their rules: addresses that the network gave it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use broker::Checks;
use uuid::Uuid;
use xml::FilterDef;

const NONE: Checks =
    Checks { mac: false, arp: false, ip: false, dhcp_server: false, router: false };

const CHECKED: &[(&str, Checks)] = &[
    ("clean-traffic", Checks { mac: true, arp: true, ip: true, dhcp_server: true, router: true }),
    ("no-mac-spoofing", Checks { mac: true, ..NONE }),
    ("no-arp-spoofing", Checks { arp: true, ..NONE }),
    ("no-arp-mac-spoofing", Checks { arp: true, ..NONE }),
    ("no-arp-ip-spoofing", Checks { arp: true, ..NONE }),
    ("no-ip-spoofing", Checks { ip: true, ..NONE }),
    ("no-ipv6-spoofing", Checks { ip: true, ..NONE }),
];

macro_rules! sources {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../resources/filters/", $name, ".xml")))),+]
    };
}

const SOURCES: &[(&str, &str)] = sources![
    "allow-arp",
    "allow-dhcp",
    "allow-dhcp-server",
    "allow-dhcpv6",
    "allow-dhcpv6-server",
    "allow-incoming-ipv4",
    "allow-incoming-ipv6",
    "allow-ipv4",
    "allow-ipv6",
    "clean-traffic",
    "clean-traffic-gateway",
    "no-arp-ip-spoofing",
    "no-arp-mac-spoofing",
    "no-arp-spoofing",
    "no-ip-multicast",
    "no-ip-spoofing",
    "no-ipv6-multicast",
    "no-ipv6-spoofing",
    "no-mac-broadcast",
    "no-mac-spoofing",
    "no-other-l2-traffic",
    "no-other-rarp-traffic",
    "qemu-announce-self",
    "qemu-announce-self-rarp",
];

/// By their names; the tests have all that there is a source of.
pub(crate) static BUILTIN: LazyLock<BTreeMap<&'static str, FilterDef>> = LazyLock::new(|| {
    let read = |(name, text): &(&'static str, &str)| {
        let mut def = FilterDef::parse(text).ok()?.value;
        def.fill_defaults();
        def.uuid = Some(uuid(name));
        Some((*name, def))
    };
    SOURCES.iter().filter_map(read).collect()
});

/// The same on every host.
fn uuid(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("manor nwfilter {name}").as_bytes())
}

/// Whether it is one that every libvirt comes with, and Manor as well.
#[must_use]
pub fn is_builtin(name: &str) -> bool {
    SOURCES.iter().any(|(builtin, _)| *builtin == name)
}

/// What Manor checks itself in place of the rules of this filter.
pub(crate) fn checks(name: &str) -> Option<Checks> {
    CHECKED.iter().find(|(checked, _)| *checked == name).map(|(_, checks)| *checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_can_be_read_and_names_others_that_there_are() {
        assert_eq!(BUILTIN.len(), SOURCES.len());
        for (name, def) in &*BUILTIN {
            assert_eq!(&*def.name, *name);
            assert!(FilterDef::parse(&def.to_xml()).is_ok(), "{name}");
            let missing = def.includes().find(|it| !BUILTIN.contains_key(&*it.filter));
            assert!(missing.is_none(), "{name}: {missing:?}");
        }
        assert!(CHECKED.iter().all(|(name, _)| BUILTIN.contains_key(name)));
    }
}
