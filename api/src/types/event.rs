//! Events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Something that happened; the `data` of one server-sent event, whose `id` and `event` repeat
/// the members of these names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows by one from event to event, also over restarts of the daemon.
    pub id: u64,
    /// `lifecycle`, `reboot`, `io-error`, `device-broken`, `link-changed`, `watchdog`,
    /// `reachable`, `autostart-changed` or `lost`.
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
    /// The device it is about (`vda`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Of `io-error`: a write failed, not a read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<bool>,
    /// Of `link-changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// Of `watchdog`: what was done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "reset")]
    pub action: Option<String>,
    /// Of `reachable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
    /// Of `autostart-changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// Of `lost`: events up to this one are gone; ask for the state instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
}
