//! How a network's guests reach others, and how others reach them.

use std::net::{IpAddr, Ipv4Addr};

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::element;
use crate::report::quote;
use crate::value::{YesNo, names};

names! {
    /// The modes libvirt knows. A definition that parsed is of one that Manor has.
    pub enum ForwardMode {
        Nat = "nat", Route = "route", Open = "open", Bridge = "bridge", Private = "private", Vepa = "vepa",
        Passthrough = "passthrough", Hostdev = "hostdev",
    }
    pub enum PortProtocol { Tcp = "tcp", Udp = "udp" }
}

element! {
    #[derive(Default)]
    pub struct Forward {
        attr mode: Option<ForwardMode>,
        /// The one interface of the host that traffic leaves by.
        attr dev: Option<String>,
        child nat: Option<Nat>,
    }
    refuse ["pf", "interface", "address", "driver", "@managed"];
    check Forward::check;
}

element! {
    #[derive(Default)]
    pub struct Nat {
        attr ipv6: Option<YesNo>,
        /// What guests appear as; none: the address of the interface they leave by.
        child address: Option<NatAddresses>,
        child("port") ports: Option<Ports>,
    }
}

element! {
    #[derive(Copy)]
    pub struct NatAddresses {
        attr start: Ipv4Addr,
        attr end: Option<Ipv4Addr>,
    }
    check NatAddresses::check;
}

element! {
    #[derive(Copy)]
    pub struct Ports {
        attr start: u16,
        attr end: u16,
    }
    check Ports::check;
}

element! {
    /// `<portForward proto='tcp' to='192.168.122.10'><range start='8080' to='80'/></portForward>`: who connects to
    /// the host there reaches a guest. Its words are those of libvirt's element in an `<interface>`.
    pub struct PortForward {
        attr proto: PortProtocol,
        /// The host's; none: all that it has.
        attr address: Option<IpAddr>,
        attr to: IpAddr,
        child("range") ranges: Vec<ForwardedPorts>,
    }
    check PortForward::check;
}

element! {
    #[derive(Copy)]
    pub struct ForwardedPorts {
        attr start: u16,
        /// The last; none: there is one.
        attr end: Option<u16>,
        /// The guest's first; none: the same.
        attr to: Option<u16>,
    }
    check ForwardedPorts::check;
}

impl Forward {
    pub(super) fn fill_defaults(&mut self) {
        let mode = *self.mode.get_or_insert(ForwardMode::Nat);
        if mode == ForwardMode::Nat {
            let nat = self.nat.get_or_insert_default();
            nat.ports.get_or_insert(Ports { start: 1024, end: 65535 });
        }
    }

    fn check(&self, at: Cursor<'_>) {
        let mode = self.mode.unwrap_or(ForwardMode::Nat);
        match mode {
            ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open | ForwardMode::Bridge => {}
            ForwardMode::Private
            | ForwardMode::Vepa
            | ForwardMode::Passthrough
            | ForwardMode::Hostdev => {
                let mut report = at.at_attribute("mode");
                report.expected = Some("nat, route, open, bridge, or no <forward>".to_owned());
                let message = format!("networks of mode='{mode}' are not provided by Manor yet");
                report.report(Kind::Unsupported, message);
            }
        }
        if let (Some(nat), true) = (at.child("nat"), mode != ForwardMode::Nat) {
            nat.error(Kind::Invalid, format!("<nat> is not for forward mode='{mode}'"));
        }
        if let Some(dev) = &self.dev {
            if matches!(mode, ForwardMode::Open | ForwardMode::Bridge) {
                let message = format!("forward mode='{mode}' filters nothing by interface");
                at.attribute_error("dev", Kind::Invalid, message);
            } else if !super::is_interface(dev) {
                let message = format!("{} cannot name a network device", quote(dev));
                at.attribute_error("dev", Kind::Invalid, message);
            }
        }
    }
}

impl NatAddresses {
    fn check(&self, at: Cursor<'_>) {
        if self.end.is_some_and(|end| end < self.start) {
            at.attribute_error(
                "end",
                Kind::Invalid,
                "the last address is before the first".to_owned(),
            );
        }
    }
}

impl Ports {
    fn check(&self, at: Cursor<'_>) {
        if self.start == 0 || self.end < self.start {
            let message = format!("ports {} to {} are none", self.start, self.end);
            at.error(Kind::Invalid, message);
        }
    }
}

impl PortForward {
    fn check(&self, at: Cursor<'_>) {
        if self.ranges.is_empty() {
            at.missing_child("range");
        }
        if self.address.is_some_and(|address| address.is_ipv4() != self.to.is_ipv4()) {
            let message = "the host's address and the guest's are of two families".to_owned();
            at.attribute_error("address", Kind::Invalid, message);
        }
    }
}

impl ForwardedPorts {
    /// How many ports there are beside the first.
    fn more(&self) -> u16 {
        self.end.unwrap_or(self.start).saturating_sub(self.start)
    }

    /// The host's first and last, and the guest's first.
    pub fn ports(&self) -> ((u16, u16), u16) {
        ((self.start, self.end.unwrap_or(self.start)), self.to.unwrap_or(self.start))
    }

    fn check(&self, at: Cursor<'_>) {
        if self.start == 0 || self.to == Some(0) {
            at.error(Kind::Invalid, "port 0 is none".to_owned());
        }
        if self.end.is_some_and(|end| end < self.start) {
            at.attribute_error(
                "end",
                Kind::Invalid,
                "the last port is before the first".to_owned(),
            );
        }
        let first = self.to.unwrap_or(self.start);
        if first.checked_add(self.more()).is_none() {
            at.attribute_error("to", Kind::Limit, "the guest's ports end at 65535".to_owned());
        }
    }
}
