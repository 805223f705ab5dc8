//! Events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::BlockJobKind;

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobProgress {
    pub id: Uuid,
    #[schema(example = "volume-clone")]
    pub kind: String,
    #[schema(example = "default/web.qcow2")]
    pub object: String,
    #[schema(example = "running")]
    pub phase: String,
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// Something that happened; the `data` of one server-sent event, whose `id` and `event` repeat
/// the members of these names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows by one from event to event, also over restarts of the daemon.
    pub id: u64,
    /// `lifecycle`, `reboot`, `io-error`, `disk-connection`, `device-broken`, `link-changed`, `tray-change`,
    /// `disk-change`, `block-job`, `block-threshold`, `device-added`, `device-removed`, `agent-lifecycle`, `channel-lifecycle`,
    /// `watchdog`, `vcpus-change`, `metadata-change`, `rtc-change`, `reachable`, `autostart-changed`, `network`,
    /// `network-port`, `network-lease`, `node-device`, `rules-restored`, `pool`, `secret`, `job` or `lost`.
    #[schema(example = "lifecycle")]
    pub event: String,
    /// RFC 3339, UTC.
    #[schema(example = "2026-11-20T10:00:00.123456Z")]
    pub time: String,
    /// The domain it is about; absent for an event of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Of a lifecycle event: what happened, in libvirt's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Started")]
    pub lifecycle: Option<String>,
    /// Of a lifecycle event: how, in libvirt's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Booted")]
    pub detail: Option<String>,
    /// Why, where the words above do not say enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The device it is about (`vda`); of `network-port`, the tap; of `node-device`, one of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Of `io-error`: a write failed, not a read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<bool>,
    /// Of `link-changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// Of `tray-change`: the drive is open now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Of `channel-lifecycle`: what the channel is called in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Of `agent-lifecycle` and `channel-lifecycle`: something in the guest is at its end of the
    /// channel. Of `disk-connection`: the disk has its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Of `disk-change`: what is in the drive now; absent when that is nothing. Of `block-job`: the
    /// image that it began with. Of `block-threshold`: the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of `block-threshold`: a place in the image, and how far beyond it the image was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_bytes: Option<u64>,
    /// Of `block-job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<BlockJobKind>,
    /// Of `block-job`: `ready`, `completed`, `failed` or `cancelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "ready")]
    pub status: Option<String>,
    /// Of `io-error`: there is no room for what was to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_space: Option<bool>,
    /// Of `watchdog`: what was done about it. Of `io-error`: `report` when the guest saw the error,
    /// `pause` when it waits for somebody to resume it, `none` when it knows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "reset")]
    pub action: Option<String>,
    /// Of `rtc-change`: seconds that the guest's clock is ahead of UTC now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Of `vcpus-change`: how many vCPUs the guest has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u16>,
    /// Of `reachable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
    /// Of `autostart-changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// The network it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The pool it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The volume of that pool, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Of `network-lease`: the address, whose it is, and what that calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.168.122.17")]
    pub address: Option<std::net::IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "52:54:00:12:34:56")]
    pub mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Of `metadata-change`: the namespace of the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Of `network`, `network-port`, `network-lease`, `node-device`, `pool` and `secret`: what was done. Of
    /// `metadata-change`: `title`, `description` or `element`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Started")]
    pub change: Option<String>,
    /// Of `job`: as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobProgress>,
    /// Of `lost`: events up to this one are gone; ask for the state instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
}
