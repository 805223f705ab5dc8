//! What a definition would change.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Mistake;

/// What lies between a domain and a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    #[schema(example = "web")]
    pub name: String,
    pub uuid: Uuid,
    /// Compared is the running domain; else the stored definition.
    pub running: bool,
    pub changes: Vec<PlannedChange>,
    /// What of the definition cannot be had here; there are no changes then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsupported: Vec<Mistake>,
    /// What would be accepted and left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Mistake>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedChange {
    #[schema(example = "/domain/devices/disk[vdb]")]
    pub path: String,
    /// Absent: it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Absent: it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// `live`, `next-start` or `re-create`.
    #[schema(example = "live")]
    pub when: String,
}
