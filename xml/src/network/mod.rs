//! `<network>`: a virtual network, by libvirt's network format.
//!
//! One element is Manor's own, `<portForward>`: libvirt has none for networks, and leaves unknown elements alone.

mod bandwidth;
mod dns;
mod forward;
mod ip;
mod network_port;
mod port_group;
mod update;

use std::net::IpAddr;

use uuid::Uuid;

pub use dns::{Dns, DnsHost, DnsSrv, DnsTxt, Forwarder};
pub use forward::{Forward, ForwardMode, Nat, NatAddresses, PortForward, PortProtocol, Ports};
pub use ip::{Bootp, Dhcp, DhcpHost, DhcpRange, Family, Ip, Lease, LeaseUnit, Route, Subnet};
pub use network_port::{NetworkPort, PortOwner, PortPlug};
pub use port_group::PortGroup;
pub use update::{UpdateCommand, UpdateError, UpdateSection};

use crate::cursor::Cursor;
use crate::defaults::Identity;
use crate::device::interface::{Bandwidth, MacTable, Vlan};
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds, Parsed};
use crate::domain::{Metadata, Name};
use crate::element::{Element, element};
use crate::mac::MacAddress;
use crate::report::quote;
use crate::value::{OnOff, YesNo};
use crate::write::Writer;

element! {
    pub struct NetworkDef {
        /// Guests may talk IPv6 to each other though the host has no address of it here.
        attr ipv6: Option<YesNo>,
        attr("trustGuestRxFilters") trust_guest_rx_filters: Option<YesNo>,
        /// Interfaces that are in it now; no part of a definition, and ignored in one.
        attr connections: Option<u32>,
        child name: Name,
        child uuid: Option<Uuid>,
        child title: Option<String>,
        child description: Option<String>,
        child metadata: Option<Metadata>,
        child forward: Option<Forward>,
        child bridge: Option<Bridge>,
        /// Of all its guests together: to them and from them.
        child bandwidth: Option<Bandwidth>,
        leaf("mtu" "size") mtu: Option<u32>,
        leaf("mac" "address") mac: Option<MacAddress>,
        child domain: Option<Domain>,
        child dns: Option<Dns>,
        child("ip") ips: Vec<Ip>,
        child("route") routes: Vec<Route>,
        child("portForward") port_forwards: Vec<PortForward>,
        /// Of interfaces that say nothing else, and whose group does not.
        child vlan: Option<Vlan>,
        child("portgroup") port_groups: Vec<PortGroup>,
    }
    refuse ["virtualport", "port"];
    check NetworkDef::check;
}

element! {
    #[derive(Default)]
    pub struct Bridge {
        attr name: Option<String>,
        attr stp: Option<OnOff>,
        /// Seconds before a new port forwards.
        attr delay: Option<u32>,
        attr("macTableManager") mac_table: Option<MacTable>,
    }
    refuse ["@zone"];
    check Bridge::check;
}

impl Bridge {
    fn check(&self, at: Cursor<'_>) {
        if let Some(name) = self.name.as_deref().filter(|name| !is_interface(name)) {
            let mut report = at.at_attribute("name");
            report.expected = Some("1 to 15 bytes without '/', ':' or white space".to_owned());
            report.report(Kind::Invalid, format!("{} cannot name a bridge", quote(name)));
        }
        if self.delay.is_some_and(|delay| delay > 30) {
            at.attribute_error("delay", Kind::Limit, "a bridge waits 30 s at most".to_owned());
        }
    }
}

/// The kernel's rule for names of network devices. A `%` would ask it to choose a number.
pub(crate) fn is_interface(name: &str) -> bool {
    let bad = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    (1..16).contains(&name.len()) && !matches!(name, "." | "..") && !name.chars().any(bad)
}

element! {
    pub struct Domain {
        attr name: String,
        /// Names in it that nobody here has are not asked of others.
        attr("localOnly") local_only: Option<YesNo>,
    }
    refuse ["@register"];
    check Domain::check;
}

impl Domain {
    fn check(&self, at: Cursor<'_>) {
        dns::check_name(&self.name, "name", at);
    }
}

impl NetworkDef {
    /// Read a definition, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "network", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "network", Bounds::OWN)
    }

    /// The definition as libvirt prints it.
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        Element::write(self, "network", &mut out);
        out.finish()
    }

    /// None: its guests reach each other and the host, and nobody else.
    pub fn forward_mode(&self) -> Option<ForwardMode> {
        self.forward.as_ref().map(|forward| forward.mode.unwrap_or(ForwardMode::Nat))
    }

    /// A bridge of the host's own, which Manor neither makes nor changes.
    pub fn is_foreign_bridge(&self) -> bool {
        self.forward_mode() == Some(ForwardMode::Bridge)
    }

    pub fn bridge_name(&self) -> Option<&str> {
        self.bridge.as_ref()?.name.as_deref()
    }

    /// Those of the host in it.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> {
        self.ips.iter().filter_map(Ip::subnet)
    }

    fn check(&self, at: Cursor<'_>) {
        if let Some(mtu) = self.mtu.filter(|mtu| !(68..=65535).contains(mtu))
            && let Some(child) = at.child("mtu")
        {
            let message = format!("an MTU of {mtu} bytes is none that IP works with");
            child.attribute_error("size", Kind::Limit, message);
        }
        match self.forward_mode() {
            Some(ForwardMode::Bridge) => self.check_foreign(at),
            Some(mode @ (ForwardMode::Nat | ForwardMode::Route)) if self.ips.is_empty() => {
                let message = format!("forward mode='{mode}' needs an <ip> that guests go through");
                at.error(Kind::Missing, message);
            }
            _ => {}
        }
        self.check_dhcp(at);
        self.check_groups(at);
        self.check_bandwidth(at);
        for (forward, at) in self.port_forwards.iter().zip(at.children("portForward")) {
            let reached = self.subnets().any(|subnet| subnet.contains(forward.to));
            if !reached {
                let message = format!("no <ip> of this network has {} in its subnet", forward.to);
                at.attribute_error("to", Kind::Invalid, message);
            }
        }
        for (route, at) in self.routes.iter().zip(at.children("route")) {
            if !self.subnets().any(|subnet| subnet.contains(route.gateway)) {
                let message = format!("no <ip> of this network reaches {}", route.gateway);
                at.attribute_error("gateway", Kind::Invalid, message);
            }
        }
    }

    /// All that such a network has is the name of its bridge.
    fn check_foreign(&self, at: Cursor<'_>) {
        if self.bridge_name().is_none() {
            let message = "forward mode='bridge' needs <bridge name='…'/>, a bridge of the host";
            at.error(Kind::Missing, message.to_owned());
        }
        for name in ["ip", "dns", "bandwidth", "domain", "mac", "mtu", "route", "portForward"] {
            if let Some(child) = at.child(name) {
                let message = format!("<{name}> is not for a bridge that Manor does not make");
                child.error(Kind::Invalid, message);
            }
        }
    }

    fn check_dhcp(&self, at: Cursor<'_>) {
        for is_ipv4 in [true, false] {
            let of_family = self.ips.iter().zip(at.children("ip"));
            let of_family = of_family.filter(|(ip, _)| ip.address.is_ipv4() == is_ipv4);
            let mut with = of_family.filter_map(|(_, at)| at.child("dhcp"));
            if let (Some(_), Some(second)) = (with.next(), with.next()) {
                let message = "addresses of a family are given out in one subnet of a network";
                second.error(Kind::Invalid, message.to_owned());
            }
        }
        let subnets: Vec<_> = self.ips.iter().map(Ip::subnet).collect();
        for (index, ip) in at.children("ip").enumerate() {
            let Some(Some(subnet)) = subnets.get(index) else { continue };
            let before = subnets.iter().take(index).flatten();
            if before.clone().any(|other| other.overlaps(subnet)) {
                let message = format!("{subnet} is in two <ip> of this network");
                ip.attribute_error("address", Kind::Invalid, message);
            }
        }
    }

    /// What a definition leaves open, but for the bridge's name, which is the first free one.
    pub fn fill_defaults(&mut self, ids: &mut impl Identity) {
        self.uuid.get_or_insert_with(|| ids.uuid());
        self.connections = None;
        if self.is_foreign_bridge() {
            return;
        }
        if let Some(forward) = &mut self.forward {
            forward.fill_defaults();
        }
        let bridge = self.bridge.get_or_insert_default();
        bridge.stp.get_or_insert(OnOff::On);
        bridge.delay.get_or_insert(0);
        self.mac.get_or_insert_with(|| {
            let [a, b, c] = ids.mac();
            MacAddress([0x52, 0x54, 0, a, b, c])
        });
    }

    /// The address of the host in it, where guests find it.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().map(|ip| ip.address)
    }
}
