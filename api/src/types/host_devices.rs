//! The host's devices and interfaces, and the filters that there are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeDeviceList {
    pub devices: Vec<NodeDevice>,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeDevice {
    #[schema(example = "net_eth0_52_54_00_11_22_33")]
    pub name: String,
    /// `system`, `pci`, `usb_device`, `net`, `scsi_host`, `scsi_target`, `scsi`, `storage` or `drm`.
    #[schema(example = "net")]
    pub kind: String,
    /// Absent of the computer itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// libvirt's node device XML.
    pub xml: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostInterfaceList {
    pub interfaces: Vec<HostInterface>,
}

/// A network interface of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostInterface {
    #[schema(example = "eth0")]
    pub name: String,
    pub mac: String,
    /// It is up.
    pub active: bool,
    /// libvirt's interface XML.
    pub xml: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilterList {
    pub filters: Vec<Filter>,
}

/// A filter that an interface of a guest can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Filter {
    #[schema(example = "clean-traffic")]
    pub name: String,
    pub uuid: Uuid,
    /// Manor comes with it: it cannot be changed.
    #[serde(default)]
    pub builtin: bool,
    /// libvirt's filter XML.
    pub xml: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilterBindingList {
    pub bindings: Vec<FilterBinding>,
}

/// A filter, and the tap of a running guest that it is in force at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilterBinding {
    #[schema(example = "vnet0")]
    pub device: String,
    #[schema(example = "clean-traffic")]
    pub filter: String,
    /// libvirt's filter binding XML.
    pub xml: String,
}
