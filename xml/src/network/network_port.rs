//! `<networkport>`: a guest's interface as its network sees it.

use uuid::Uuid;

use super::NetworkDef;
use crate::device::interface::{Bandwidth, Vlan};
use crate::element::{Element, element};
use crate::mac::MacAddress;
use crate::value::YesNo;
use crate::write::Writer;

element! {
    /// libvirt makes one for each interface that starts; here it is the interface itself, told so.
    pub struct NetworkPort {
        child uuid: Uuid,
        child owner: PortOwner,
        /// The port group.
        child group: Option<String>,
        leaf("mac" "address") mac: Option<MacAddress>,
        leaf("rxfilters" "trustGuest") trust_guest_rx_filters: Option<YesNo>,
        child plug: PortPlug,
        child bandwidth: Option<Bandwidth>,
        child vlan: Option<Vlan>,
    }
}

element! {
    pub struct PortOwner {
        child name: String,
        child uuid: Uuid,
    }
}

element! {
    pub struct PortPlug {
        /// `network`, or `bridge` of one that is not the network's own.
        attr("type") kind: String,
        attr bridge: String,
    }
}

impl NetworkPort {
    /// As libvirt prints it.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        Element::write(self, "networkport", &mut out);
        out.finish()
    }
}

impl NetworkDef {
    /// What a port of this network is plugged into.
    #[must_use]
    pub fn plug(&self) -> PortPlug {
        let kind = if self.is_foreign_bridge() { "bridge" } else { "network" };
        PortPlug {
            kind: kind.to_owned(),
            bridge: self.bridge_name().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_printed_as_libvirt_prints_it() {
        let id = Uuid::from_u128(7);
        let port = NetworkPort {
            uuid: id,
            owner: PortOwner { name: "a & b".to_owned(), uuid: id },
            group: Some("office".to_owned()),
            mac: Some("52:54:00:00:00:01".parse().unwrap()),
            trust_guest_rx_filters: Some(YesNo::No),
            plug: PortPlug { kind: "network".to_owned(), bridge: "virbr0".to_owned() },
            bandwidth: None,
            vlan: None,
        };
        assert_eq!(
            port.to_xml(),
            "<networkport>\n  <uuid>00000000-0000-0000-0000-000000000007</uuid>\n  <owner>\n    \
             <name>a &amp; b</name>\n    <uuid>00000000-0000-0000-0000-000000000007</uuid>\n  \
             </owner>\n  <group>office</group>\n  <mac address='52:54:00:00:00:01'/>\n  \
             <rxfilters trustGuest='no'/>\n  <plug type='network' bridge='virbr0'/>\n\
             </networkport>\n"
        );
    }
}
