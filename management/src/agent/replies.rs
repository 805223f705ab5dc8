//! What agents answer (`qga/qapi-schema.json` of QEMU): only what is used, all of it a guest's word.

use serde::Deserialize;

use crate::domain::clean;

/// More rows than this are cut off: a guest has no say in how large a reply of ours gets.
pub(crate) const MOST_ROWS: usize = 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct HostName {
    pub host_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct User {
    pub user: String,
    pub domain: Option<String>,
    /// Seconds since the Unix epoch.
    pub login_time: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct OsInfo {
    pub id: Option<String>,
    pub name: Option<String>,
    pub pretty_name: Option<String>,
    pub version: Option<String>,
    pub version_id: Option<String>,
    pub machine: Option<String>,
    pub variant: Option<String>,
    pub variant_id: Option<String>,
    pub kernel_release: Option<String>,
    pub kernel_version: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct LogicalProcessor {
    pub logical_id: u32,
    pub online: bool,
    #[serde(default)]
    pub can_offline: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Timezone {
    pub zone: Option<String>,
    /// Seconds east of UTC.
    pub offset: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NetworkInterface {
    pub name: String,
    pub hardware_address: Option<String>,
    #[serde(default)]
    pub ip_addresses: Vec<IpAddress>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct IpAddress {
    pub ip_address: String,
    pub prefix: u8,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Filesystem {
    pub name: String,
    pub mountpoint: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub used_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
    #[serde(default)]
    pub disk: Vec<DiskAddress>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DiskAddress {
    pub serial: Option<String>,
    pub dev: Option<String>,
    pub bus_type: Option<String>,
    #[serde(default)]
    pub bus: i64,
    #[serde(default)]
    pub target: i64,
    #[serde(default)]
    pub unit: i64,
    pub pci_controller: Option<PciController>,
}

/// Numbers below zero: it is on no PCI controller.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct PciController {
    pub bus: i64,
    pub slot: i64,
    pub function: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Disk {
    pub name: String,
    #[serde(default)]
    pub partition: bool,
    #[serde(default)]
    pub dependencies: Vec<String>,
    pub address: Option<DiskAddress>,
    pub alias: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Started {
    pub pid: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ExecStatus {
    pub exited: bool,
    /// The one name without a dash.
    #[serde(rename = "exitcode")]
    pub exit_code: Option<i64>,
    pub signal: Option<i64>,
    pub out_data: Option<String>,
    pub err_data: Option<String>,
    #[serde(default)]
    pub out_truncated: bool,
    #[serde(default)]
    pub err_truncated: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Trimmed {
    #[serde(default)]
    pub paths: Vec<TrimmedPath>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TrimmedPath {
    pub path: String,
    pub trimmed: Option<u64>,
    pub error: Option<String>,
}

/// What an agent answers where the answer says nothing.
#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

/// A guest's text, for people.
pub(crate) fn word(text: &str) -> String {
    clean(text)
}

/// The same, where there may be none.
pub(crate) fn maybe(text: Option<&String>) -> Option<String> {
    text.map(|text| clean(text))
}
