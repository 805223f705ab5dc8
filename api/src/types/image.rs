//! Who needs an image.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageUserList {
    pub users: Vec<ImageUser>,
}

/// One use of an image: whose it is, or on whose it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageUser {
    #[serde(rename = "type")]
    pub kind: ImageUserType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "web")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "vda")]
    pub disk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// How many images lie between; 0: it is the user's own.
    pub depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageUserType {
    /// A disk of a domain as it runs.
    RunningDomain,
    /// A disk of what a domain goes on from at its next start.
    SavedState,
    Snapshot,
    /// A disk of a definition.
    Domain,
    Volume,
}
