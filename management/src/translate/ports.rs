//! What a guest may send through an interface: by the filter that its definition names (libvirt's
//! names), else, in networks that Manor makes, as nobody but itself.

use std::net::IpAddr;

use broker::{Checks, PortRules};
use xml::device::interface::{FilterRef, Interface, InterfaceType};
use xml::{DomainDef, YesNo};

use super::bandwidth;
use crate::filters;

const NONE: Checks =
    Checks { mac: false, arp: false, ip: false, dhcp_server: false, router: false };

/// Where there is no filter.
const DEFAULT: Checks = Checks { mac: true, arp: true, ip: true, dhcp_server: true, router: true };

/// A tap, and what a guest may send through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) rules: PortRules,
    /// The network of Manor's own that it is in: which addresses its guest may have is known there.
    pub(crate) network: Option<String>,
    /// One whose rules are to be made, and put in force beside `rules`.
    pub(crate) filter: Option<FilterRef>,
    /// What it is promised of that network's rate, bytes each second.
    pub(crate) floor: Option<u64>,
}

/// The parameter of filters that Manor's own checks ask for.
pub(crate) const ADDRESS: &str = "IP";

/// None: everything.
fn checks(interface: &Interface, own_network: bool) -> Option<Checks> {
    if let Some(filter) = &interface.filterref {
        return Some(filters::checks(&filter.filter).unwrap_or(NONE));
    }
    // A guest that is trusted with its filters has others behind it.
    let trusted = interface.trust_guest_rx_filters == Some(YesNo::Yes);
    let by_default = own_network && interface.kind == InterfaceType::Network;
    by_default.then_some(Checks { mac: !trusted, arp: !trusted, ip: !trusted, ..DEFAULT })
}

/// The rules of one interface, whose tap has this name.
pub(crate) fn of(interface: &Interface, tap: &str, own_network: bool) -> Option<Port> {
    let parameters = interface.filterref.iter().flat_map(|filter| &filter.parameters);
    let addresses = parameters.filter(|parameter| parameter.name == ADDRESS);
    let rules = PortRules {
        tap: tap.to_owned(),
        mac: interface.mac_address()?.0,
        addresses: addresses.filter_map(|address| address.value.parse::<IpAddr>().ok()).collect(),
        within: Vec::new(),
        checks: checks(interface, own_network)?,
        filter: None,
    };
    let filter = interface.filterref.clone();
    let filter = filter.filter(|filter| filters::checks(&filter.filter).is_none());
    let network = network(interface).filter(|_| own_network).map(str::to_owned);
    Some(Port { rules, network, filter, floor: bandwidth::floor(interface) })
}

/// Those of a running domain, by its live definition.
pub(crate) fn of_domain(live: &DomainDef, is_own: impl Fn(&str) -> bool) -> Vec<Port> {
    let rules = |interface: &Interface| {
        let tap = interface.target.as_ref()?.dev.as_deref()?;
        of(interface, tap, network(interface).is_some_and(&is_own))
    };
    live.devices.interfaces.iter().filter_map(rules).collect()
}

pub(crate) fn network(interface: &Interface) -> Option<&str> {
    interface.source.as_ref()?.network.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(rest: &str) -> Option<Port> {
        let text = format!(
            "<domain type='kvm'><name>d</name><memory>65536</memory><os><type>hvm</type></os><devices>\
             <interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/>\
             <target dev='vnet3'/>{rest}</interface></devices></domain>"
        );
        let def = DomainDef::parse(&text).unwrap().value;
        of_domain(&def, |network| network == "n").pop()
    }

    #[test]
    fn guests_appear_as_themselves_unless_they_are_trusted() {
        let Port { rules, network, .. } = interface("").unwrap();
        assert_eq!((rules.tap.as_str(), rules.mac), ("vnet3", [0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!((rules.checks, network.as_deref()), (DEFAULT, Some("n")));
        assert!(rules.addresses.is_empty(), "which it may have, its network knows");
        let clean = interface(
            "<filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.7'/></filterref>",
        )
        .unwrap()
        .rules;
        assert!(clean.checks.ip && clean.checks.router);
        assert_eq!(clean.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        let mac = interface("<filterref filter='no-mac-spoofing'/>").unwrap().rules;
        assert_eq!(mac.checks, Checks { mac: true, ..NONE });
    }
}
