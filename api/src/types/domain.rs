//! Domains.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Mistake;

/// What a domain does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// Its VMM lives and does not answer.
    NoState,
    Running,
    Paused,
    /// Asked to shut down, and still there.
    InShutdown,
    ShutOff,
    Crashed,
}

impl StateName {
    pub const ALL: &'static [Self] = &[
        Self::NoState,
        Self::Running,
        Self::Paused,
        Self::InShutdown,
        Self::ShutOff,
        Self::Crashed,
    ];

    /// libvirt's word for it, as `virsh` prints it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoState => "no state",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::InShutdown => "in shutdown",
            Self::ShutOff => "shut off",
            Self::Crashed => "crashed",
        }
    }
}

/// What a domain does now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainState {
    pub state: StateName,
    /// libvirt's word for the reason.
    #[schema(example = "booted")]
    pub reason: String,
    /// `virDomainState`.
    #[schema(example = 1)]
    pub state_code: i32,
    /// The reason, in the enumeration that belongs to the state.
    #[schema(example = 1)]
    pub reason_code: i32,
}

/// One row of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainSummary {
    /// Only of an active domain; new at each start.
    pub id: Option<u32>,
    #[schema(example = "web1")]
    pub name: String,
    pub uuid: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(flatten)]
    pub state: DomainState,
    /// Has a stored definition; else it vanishes when it stops.
    pub persistent: bool,
    /// Starts with the host.
    pub autostart: bool,
    pub max_memory_bytes: u64,
    /// What the guest has now; 0 while off.
    pub memory_bytes: u64,
    pub vcpus: u32,
    pub max_vcpus: u32,
    /// On host CPUs since the start; the latest known figure.
    pub cpu_time_ns: u64,
    /// Its next start goes on from a saved state.
    #[serde(default)]
    pub managed_save: bool,
}

/// All there is to know of a domain, apart from its XML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Domain {
    #[serde(flatten)]
    pub summary: DomainSummary,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[schema(example = "hvm")]
    pub os_type: String,
    /// As the definition names it.
    #[schema(example = "pc-q35-7.2")]
    pub machine: String,
    /// Manor's own platform version, pinned when the domain was defined.
    pub platform_version: u16,
    /// When it starts with the host: lower ones earlier. They are shut down the other way round.
    #[serde(default)]
    pub autostart_order: u32,
    /// Seconds from its start to the turn of the next order.
    #[serde(default)]
    pub autostart_delay_s: u32,
    /// Seconds that the guest has to shut down with the host; absent: as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_timeout_s: Option<u32>,
    /// What becomes of it when the host goes down; absent: as of all guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_shutdown: Option<AtShutdown>,
    /// Counts the changes of the stored definition; absent of a transient domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The stored definition differs from what runs, until the next start.
    pub pending_changes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// Of the VMM process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What `device` of the console takes; the first is the default.
    pub consoles: Vec<String>,
    /// What protects the host from the VMM, in the VMM's own words.
    pub sandbox: std::collections::BTreeMap<String, String>,
    /// Why the domain stopped the last time, with the guest's registers if it crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// What was accepted in the definition and left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A definition that comes with more than its XML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// libvirt domain XML, at most 1 MiB.
    pub xml: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init: Option<CloudInit>,
}

/// What the guest's cloud-init finds at its first boot, in a drive that the definition gets for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    #[schema(example = "#cloud-config\npackages: [nginx]\n")]
    pub user_data: String,
    /// The instance id is the domain's UUID and the host name its name, unless this says others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<String>,
}

impl std::fmt::Debug for CloudInit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds passwords.
        f.write_str("CloudInit(…)")
    }
}

/// The answer to a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Defined {
    #[serde(flatten)]
    pub domain: Domain,
    /// What was accepted in the document and left out, with its place.
    pub left_out: Vec<Mistake>,
}

/// A page of domains, ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainList {
    pub domains: Vec<DomainSummary>,
    /// Pass it as `cursor` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Which domains to list. Filters are joined by "and".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// State names, separated by commas (`running,paused`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(example = "running,paused")]
    pub state: Option<String>,
    /// With or without a VMM process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// Domains on one page, at most 1000; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Whether a network or a pool starts with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Autostart {
    pub enabled: bool,
}

/// Whether a domain starts with the host, and when among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainAutostart {
    pub enabled: bool,
    /// Domains of a lower order start earlier and are shut down later; those of one order go
    /// together. Absent here and below: it stays as it is, 0 at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// Seconds from its start to the turn of the next order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<u32>,
    /// Seconds that the guest has to shut down, when the host goes down, before its power is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_timeout_s: Option<u32>,
    /// What becomes of the guest when the host goes down; absent at first: as of all guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_shutdown: Option<AtShutdown>,
}

/// What becomes of a guest when its host goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AtShutdown {
    /// It is asked to shut down.
    Shutdown,
    /// It is saved, and goes on when the host is back.
    Save,
}

/// A new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    #[schema(example = "web2")]
    pub name: String,
}

/// What becomes of the firmware variables of a domain that is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Nvram {
    Keep,
    Delete,
}

/// What becomes of the snapshots of a domain that is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForgottenSnapshots {
    /// Nobody knows of them any more; what they hold stays where it is.
    Forget,
}

/// How a domain is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Start {
    /// Do everything but run the vCPUs.
    pub paused: bool,
    /// Make the firmware's variables anew.
    pub reset_nvram: bool,
    /// Forget a managed save instead of going on from it.
    pub force_boot: bool,
    /// Go on from it also over disks that have changed since.
    pub force: bool,
}

/// One thing that the process of a running domain may do, or may not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecurityFact {
    #[schema(example = "Capabilities")]
    pub name: String,
    /// As the host's kernel says it.
    #[schema(example = "none")]
    pub value: String,
    /// As it should be for a process that a guest may have taken over.
    pub confined: bool,
}
