//! [`NetworkConfig`]: what the process of one virtual network serves, as plain data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{Hex, Mac};

mod check;
mod check6;

pub use check::ConfigError;
pub use vmm_protocol::config::{FIRST_FD, Fd};

/// Version of this form. A server refuses any other: daemon and server are one binary, and a server
/// that outlived an upgrade is only ever sent [`Settings`].
pub const VERSION: u32 = 1;

/// Seconds that a lease lasts where nothing else is said.
pub const DEFAULT_LEASE: u32 = 3600;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    pub version: u32,
    pub name: String,
    /// Name of the bridge, for messages.
    pub bridge: String,
    pub files: NetworkFiles,
    #[serde(default)]
    pub confinement: Confinement,
    /// Largest packet of the network, bytes. Told to guests.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Nothing is reached through the gateway, so guests are told of no default route.
    #[serde(default)]
    pub isolated: bool,
    /// The gateway's address and the length of the network's prefix, as in 192.168.122.1/24.
    #[serde(default)]
    pub ipv4: Option<Ipv4Net>,
    #[serde(default)]
    pub ipv6: Option<Ipv6>,
    #[serde(default)]
    pub settings: Settings,
}

/// What the process gives up before it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    /// Whom it becomes. `None` where it was not started by root: it is nobody in particular already.
    #[serde(default)]
    pub user: Option<User>,
    /// Off only to look for faults of the process itself.
    #[serde(default = "on")]
    pub seccomp: bool,
}

fn on() -> bool {
    true
}

impl Default for Confinement {
    fn default() -> Self {
        Self { user: None, seccomp: true }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The descriptors that come with the process, after the configuration on [`FIRST_FD`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFiles {
    /// Listening unix stream socket.
    pub control: Fd,
    /// Lease file, open for reading and writing. Without one, leases end with the process.
    #[serde(default)]
    pub leases: Option<Fd>,
    /// UDP socket bound to 0.0.0.0:67 and the bridge, with SO_BROADCAST.
    #[serde(default)]
    pub dhcp: Option<Fd>,
    /// UDP socket bound to [::]:547 and the bridge, a member of ff02::1:2.
    #[serde(default)]
    pub dhcp6: Option<Fd>,
    /// UDP sockets bound to port 53 of the gateway's addresses.
    #[serde(default)]
    pub dns_udp: Vec<Fd>,
    /// TCP sockets listening on the same addresses.
    #[serde(default)]
    pub dns_tcp: Vec<Fd>,
    /// Raw ICMPv6 socket bound to the bridge, a member of ff02::2.
    #[serde(default)]
    pub router: Option<Fd>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv6 {
    /// The gateway's address and the length of the network's prefix.
    pub gateway: Ipv6Net,
    /// Guests make addresses of their own from the prefix, which must have 64 bits for it.
    #[serde(default)]
    pub slaac: bool,
    /// Guests are told to ask a DHCPv6 server for addresses, also where it is none of ours.
    #[serde(default)]
    pub managed: bool,
    /// By which DHCPv6 clients know the server again (DUID).
    #[serde(default)]
    pub server_id: Option<Hex>,
}

/// What can change while the network runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default)]
    pub domain: Option<Domain>,
    #[serde(default)]
    pub dhcp: Option<Dhcp>,
    /// Not said to a server from before there was DHCPv6 where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp6: Option<Dhcp6>,
    #[serde(default)]
    pub dns: Dns,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    pub name: String,
    /// Names below the domain that are not known here do not exist: nobody else is asked.
    #[serde(default)]
    pub local_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dhcp {
    #[serde(default)]
    pub ranges: Vec<Range>,
    #[serde(default)]
    pub hosts: Vec<Host>,
    #[serde(default)]
    pub boot: Option<Boot>,
    /// Time servers (option 42).
    #[serde(default)]
    pub ntp: Vec<Ipv4Addr>,
    /// Options sent to every client as they are.
    #[serde(default)]
    pub options: Vec<ExtraOption>,
}

/// Addresses from `start` to `end`, both included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub start: Ipv4Addr,
    pub end: Ipv4Addr,
    /// Seconds; `null` never ends.
    #[serde(default = "default_lease")]
    pub lease_seconds: Option<u32>,
}

/// An address kept for one client. It is known by its identifier or its MAC where one of them is
/// given, else by the name that it gives itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    #[serde(default)]
    pub mac: Option<Mac>,
    #[serde(default)]
    pub client_id: Option<Hex>,
    #[serde(default)]
    pub name: Option<String>,
    pub address: Ipv4Addr,
    /// Seconds; `null` never ends.
    #[serde(default = "default_lease")]
    pub lease_seconds: Option<u32>,
}

/// Without ranges and hosts, all but addresses is given (RFC 8415 §6.1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dhcp6 {
    #[serde(default)]
    pub ranges: Vec<Range6>,
    #[serde(default)]
    pub hosts: Vec<Host6>,
}

impl Dhcp6 {
    pub fn gives_addresses(&self) -> bool {
        !self.ranges.is_empty() || !self.hosts.is_empty()
    }
}

/// Addresses from `start` to `end`, both included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range6 {
    pub start: Ipv6Addr,
    pub end: Ipv6Addr,
    /// Seconds; `null` never ends.
    #[serde(default = "default_lease")]
    pub lease_seconds: Option<u32>,
}

/// An address kept for one client, which is known as with IPv4.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host6 {
    #[serde(default)]
    pub mac: Option<Mac>,
    /// DUID.
    #[serde(default)]
    pub client_id: Option<Hex>,
    #[serde(default)]
    pub name: Option<String>,
    pub address: Ipv6Addr,
    /// Seconds; `null` never ends.
    #[serde(default = "default_lease")]
    pub lease_seconds: Option<u32>,
}

fn default_lease() -> Option<u32> {
    Some(DEFAULT_LEASE)
}

/// What a client that boots from the network loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    pub file: String,
    /// Address or name of the server; the gateway where none is given.
    #[serde(default)]
    pub server: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraOption {
    pub code: u8,
    pub value: Hex,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Guests are told to ask the gateway. Off, its sockets answer nobody.
    pub enabled: bool,
    /// Names of one label that are not known here are asked for elsewhere.
    pub forward_plain_names: bool,
    pub forwarders: Vec<Forwarder>,
    /// The host's own resolvers, asked where no forwarder is meant.
    pub upstreams: Vec<SocketAddr>,
    /// Names of the gateway itself.
    pub gateway_names: Vec<String>,
    pub hosts: Vec<DnsHost>,
    pub srv: Vec<Srv>,
    pub txt: Vec<Txt>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            enabled: true,
            forward_plain_names: true,
            forwarders: Vec::new(),
            upstreams: Vec::new(),
            gateway_names: Vec::new(),
            hosts: Vec::new(),
            srv: Vec::new(),
            txt: Vec::new(),
        }
    }
}

/// Who is asked for names below `domain`, or for all names where it is `None`. Without an address,
/// the host's own resolvers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarder {
    #[serde(default)]
    pub domain: Option<String>,
    #[serde(default)]
    pub address: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsHost {
    pub address: IpAddr,
    /// The first is the one that the address stands for.
    pub names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Srv {
    /// The whole name asked for, as in `_ldap._tcp.example.org`.
    pub name: String,
    /// `None` says that the service is decidedly not available (RFC 2782).
    #[serde(default)]
    pub target: Option<String>,
    #[serde(default)]
    pub port: u16,
    #[serde(default)]
    pub priority: u16,
    #[serde(default)]
    pub weight: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Txt {
    pub name: String,
    pub value: String,
}
