//! What callers see of networks.

use std::net::IpAddr;

use uuid::Uuid;

/// A network as its worker published it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    pub name: String,
    pub uuid: Uuid,
    /// `nat`, `route`, `open`, `bridge`; none: isolated.
    pub forward: Option<&'static str>,
    pub bridge: Option<String>,
    /// The host's addresses in it, with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    pub active: bool,
    pub persistent: bool,
    pub autostart: bool,
    /// What is wrong with it while it is active, in words.
    pub problems: Vec<String>,
}

/// An interface of a running guest that is in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPortView {
    pub uuid: Uuid,
    pub domain: String,
    pub domain_uuid: Uuid,
    pub mac: String,
    /// Its tap.
    pub device: Option<String>,
    /// The port group that its definition names.
    pub group: Option<String>,
}

/// An address that a guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    pub mac: String,
    pub address: IpAddr,
    pub prefix: u8,
    pub hostname: Option<String>,
    /// In hexadecimal, as the guest sent it.
    pub client_id: Option<String>,
    /// Seconds since 1970; none: for ever.
    pub expires: Option<u64>,
}
