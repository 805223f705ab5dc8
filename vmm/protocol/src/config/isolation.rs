//! What a VMM gives up before it looks at anything that a guest could have made.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    pub mode: IsolationMode,
    /// Whom the process becomes, if it is allowed to: a user and group that no other process has.
    pub user: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationMode {
    /// The process stays as it was started: only to debug the VMM itself.
    #[default]
    Off,
    /// What the host does not offer is reported, and done without.
    Possible,
    /// What the host does not offer ends the start.
    Required,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { mode: IsolationMode::Off, user: None }
    }
}
