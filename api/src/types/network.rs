//! Virtual networks.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkList {
    pub networks: Vec<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    #[schema(example = "default")]
    pub name: String,
    pub uuid: Uuid,
    /// `nat`, `route`, `open` or `bridge`; left out by an isolated network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "nat")]
    pub forward: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "virbr0")]
    pub bridge: Option<String>,
    /// The host's in it.
    #[schema(example = json!(["192.168.122.1/24"]))]
    pub addresses: Vec<String>,
    pub active: bool,
    /// Stored; one that is not vanishes when it is stopped.
    pub persistent: bool,
    pub autostart: bool,
    /// What is wrong with it while it is active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// An interface of a running guest that is in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkPort {
    /// The same as long as its domain and MAC address are.
    pub uuid: Uuid,
    #[schema(example = "web")]
    pub domain: String,
    pub domain_uuid: Uuid,
    #[schema(example = "52:54:00:12:34:56")]
    pub mac: String,
    /// Its tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "vnet0")]
    pub device: Option<String>,
    /// The port group that its definition names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// An address that a guest has by DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    #[schema(example = "52:54:00:12:34:56")]
    pub mac: String,
    #[schema(example = "192.168.122.42")]
    pub address: String,
    #[schema(example = 24)]
    pub prefix: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// As the guest sent it, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Seconds since 1970; left out by one that never ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// A change of one entry of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateNetwork {
    /// `add`, `add-first`, `add-last`, `modify` or `delete`
    #[schema(example = "add")]
    pub command: String,
    /// `ip-dhcp-host`, `ip-dhcp-range`, `dns-host`, `dns-txt`, `dns-srv`, `portgroup`, `port-forward` or `bandwidth`
    #[schema(example = "ip-dhcp-host")]
    pub section: String,
    /// Which `<ip>`, from 0; else the one in which addresses are given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_index: Option<usize>,
    /// The entry, as libvirt XML.
    #[schema(example = "<host mac='52:54:00:12:34:56' ip='192.168.122.10'/>")]
    pub xml: String,
}
