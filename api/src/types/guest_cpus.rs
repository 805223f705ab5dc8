//! Processors and keys of a guest.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A processor, as the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestVcpu {
    pub id: u32,
    /// The guest uses it.
    pub online: bool,
    /// The guest can do without it.
    pub can_offline: bool,
}

/// What a guest shall use: some processors or not, or so many of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum GuestVcpuChange {
    These { vcpus: Vec<u32>, online: bool },
    Count { count: u32 },
}

/// vCPUs that a machine shall have, or do without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VcpuChange {
    /// Their numbers
    pub vcpus: Vec<u16>,
    pub enabled: bool,
}

/// How long a guest's agent may take to answer; neither: what each command has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentTimeout {
    /// 0: one that does not answer at once does not answer
    pub seconds: Option<u16>,
    /// As long as it takes, an hour at most
    pub forever: bool,
}

/// Lines as in `authorized_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshKeys {
    pub keys: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshKeyChange {
    pub keys: Vec<String>,
    pub mode: SshKeyMode,
}

/// What becomes of the keys that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SshKeyMode {
    Replace,
    Append,
    Remove,
}
