//! The host's side of virtual networks: bridges, rules of who reaches whom, sockets of services.

mod bridge;
pub(crate) mod direct;
#[cfg(test)]
mod edits;
mod filter;
#[cfg(test)]
mod foreign_tests;
pub(crate) mod mac_table;
mod netlink;
mod nft;
mod ports;
mod rules;
mod sockets;
#[cfg(test)]
mod tests;
mod traffic;
pub(crate) mod vlan;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{BrokerError, Granted};

pub use filter::{
    FieldTest, FilterRule, FilterSide, FilterStep, FilterVerdict, FrameField, FrameMatch,
    MOST_FILTER_RULES, PortFilter,
};
pub use rules::RulesWatch;
pub use traffic::{Floor, Traffic, TrafficRate};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkAct {
    /// Make it, or make it so; what is right stays untouched.
    Bridge(BridgeSpec),
    /// Only one that was made for this network; none there is no error.
    RemoveBridge {
        name: String,
        owner: String,
    },
    /// Put these taps into the bridge that they have fallen out of.
    Reattach {
        bridge: String,
        taps: Vec<String>,
    },
    /// Take a guest's tap down, and out of the bridge it is in.
    LeaveBridge {
        tap: String,
    },
    /// Put a guest's tap that is in no bridge into one, and bring it up.
    JoinBridge(BridgePort),
    /// Remove the macvtaps of a domain, but for those that it has now.
    RemoveDirect {
        owner: String,
        keep: Vec<String>,
    },
    /// The rules of all networks and ports, in place of those that are in force.
    Rules(RuleSet),
    /// Chains of others that drop what they do not know.
    LookForeign,
    /// Whether these are in force, and nothing else is in their tables.
    LookRules(RuleSet),
    /// Other addresses are held than before: these no more, and those from now on. All else of the
    /// rules stays as it is.
    Holders {
        before: Vec<AddressHolder>,
        after: Vec<AddressHolder>,
    },
    Sockets(SocketsSpec),
    /// How much passes an interface from now on.
    Shape {
        interface: String,
        traffic: Traffic,
        /// Of a bridge with a rate to its guests.
        floors: Vec<Floor>,
    },
}

/// A guest's tap that moves into a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgePort {
    pub bridge: String,
    pub tap: String,
    /// None: as the bridge has it.
    pub mtu: Option<u16>,
    /// Where the bridge tells VLANs apart, those it is in; none: as the bridge has it.
    pub vlans: Option<vlan::PortVlans>,
    /// The guest's address, where the bridge has it from us and does not learn; none: it learns.
    #[serde(default)]
    pub known_mac: Option<[u8; 6]>,
}

/// A bridge of a network's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSpec {
    pub name: String,
    /// The network's name.
    pub owner: String,
    pub mac: [u8; 6],
    pub stp: bool,
    /// Seconds before a new port forwards.
    pub delay: u16,
    pub mtu: Option<u32>,
    /// The host's in it, with their subnets.
    pub addresses: Vec<IpNet>,
    /// Subnets behind a guest.
    pub routes: Vec<RouteSpec>,
    /// Packets of its guests go through the host.
    pub forwarding: bool,
    /// Guests may use IPv6 among themselves though the host has no address of it.
    pub ipv6: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    pub to: IpNet,
    pub gateway: IpAddr,
    pub metric: Option<u32>,
}

/// All rules that Manor has on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    pub networks: Vec<NetworkRules>,
    pub ports: Vec<PortRules>,
    /// Each address once.
    pub holders: Vec<AddressHolder>,
}

/// Who has an address in a network: no other guest may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressHolder {
    pub address: IpAddr,
    pub mac: [u8; 6],
}

/// What a guest may send through its tap, whatever bridge that is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRules {
    pub tap: String,
    pub mac: [u8; 6],
    /// The guest's; of a family that none is given of, those of `within`.
    pub addresses: Vec<IpAddr>,
    /// Every address in these that no other holds; of a family that none is given of, any.
    pub within: Vec<IpNet>,
    pub checks: Checks,
    /// What is asked of frames that pass the checks, and of those to the guest; none: nothing.
    #[serde(default)]
    pub filter: Option<PortFilter>,
}

/// What is looked at. Whatever but the first is looked at keeps frames with VLAN tags out: what is
/// in them would not be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// Frames come from the guest's MAC address alone.
    pub mac: bool,
    /// ARP and advertisements of neighbours (IPv6) speak of the guest's addresses alone.
    pub arp: bool,
    /// Packets come from the guest's addresses alone. Of IPv6, the link-local one is that of its MAC
    /// address (RFC 4291, appendix A).
    pub ip: bool,
    /// It is no DHCP server.
    pub dhcp_server: bool,
    /// It is no IPv6 router.
    pub router: bool,
}

/// Who reaches whom through a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRules {
    pub network: String,
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    pub mode: Forwarding,
    /// The only interface that guests leave the host by.
    pub out_interface: Option<String>,
    pub port_forwards: Vec<PortForward>,
    pub dhcp: bool,
    pub dns: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Forwarding {
    /// Guests reach each other and the host.
    Isolated,
    /// Nothing is filtered.
    Open,
    /// Their subnets are reached, and reach others, with their own addresses.
    Routed,
    /// They reach others with an address of the host.
    Nat {
        ipv6: bool,
        /// First and last; none: that of the interface they leave by.
        addresses: Option<(Ipv4Addr, Ipv4Addr)>,
        ports: Option<(u16, u16)>,
    },
}

/// Who connects to these ports of the host reaches a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortForward {
    pub protocol: Protocol,
    /// None: every address of the host.
    pub host_address: Option<IpAddr>,
    /// First and last.
    pub host_ports: (u16, u16),
    pub guest: IpAddr,
    /// The first.
    pub guest_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketsSpec {
    pub bridge: String,
    pub dhcp: bool,
    pub dhcp6: bool,
    /// Where names are asked for.
    pub dns: Vec<IpAddr>,
    /// Routers are asked for there.
    pub router: bool,
}

/// Bound to their bridge, all of them.
#[derive(Debug, Default)]
pub struct Sockets {
    /// UDP, 0.0.0.0:67
    pub dhcp: Option<OwnedFd>,
    /// UDP, [::]:547
    pub dhcp6: Option<OwnedFd>,
    /// UDP and TCP, port 53
    pub dns_udp: Vec<OwnedFd>,
    pub dns_tcp: Vec<OwnedFd>,
    /// ICMPv6, raw
    pub router: Option<OwnedFd>,
}

/// A chain of another program's that packets of guests come to, and that drops what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignChain {
    /// `ip`, `ip6`, `inet` or `bridge`.
    pub family: String,
    pub table: String,
    pub chain: String,
    pub hook: ForeignHook,
    pub priority: i32,
    /// It drops at its end, or by a rule that looks at nothing.
    pub by_policy: bool,
    pub by_rule: bool,
    /// Interfaces that rules of its table let come in, and go out, or have other rules decide about.
    pub knows_in: BTreeSet<String>,
    pub knows_out: BTreeSet<String>,
    /// The table has chains for the rules of people, as Docker and ufw make them.
    pub has_docker: bool,
    pub has_ufw: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForeignHook {
    /// To the host itself.
    Input,
    /// Through it.
    Forward,
}

pub(crate) fn watch_rules() -> Result<OwnedFd, BrokerError> {
    rules::watch().map_err(BrokerError::host("watch the host's packet filter"))
}

fn foreign(own: &str) -> std::io::Result<Vec<ForeignChain>> {
    nft::dropping(own)
}

pub(crate) fn act(act: &NetworkAct) -> Result<Granted, BrokerError> {
    match act {
        NetworkAct::Bridge(spec) => bridge::make(spec)?,
        NetworkAct::RemoveBridge { name, owner } => bridge::remove(name, owner)?,
        NetworkAct::Reattach { bridge, taps } => bridge::reattach(bridge, taps)?,
        NetworkAct::LeaveBridge { tap } => bridge::leave(tap)?,
        NetworkAct::JoinBridge(port) => bridge::join(port)?,
        NetworkAct::Rules(rules) => rules::apply(rules)?,
        NetworkAct::Holders { before, after } => rules::hold(before, after)?,
        NetworkAct::LookRules(rules) => return rules::look(rules).map(Granted::Intact),
        NetworkAct::RemoveDirect { owner, keep } => direct::sweep(owner, keep)?,
        NetworkAct::LookForeign => {
            let listed = foreign(rules::NAME).map_err(BrokerError::host("list the host's rules"));
            return listed.map(Granted::Foreign);
        }
        NetworkAct::Shape { interface, traffic, floors } => {
            traffic::shape(interface, traffic, floors)?;
        }
        NetworkAct::Sockets(spec) => return sockets::open(spec).map(Granted::Sockets),
    }
    Ok(Granted::Done)
}
