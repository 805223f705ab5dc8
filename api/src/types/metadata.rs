//! What people and programs note about a domain.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// XML of the namespace that was asked for, without it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
}

/// What is not said stays; an empty text is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<MetadataElement>,
}

/// The element of one namespace in `<metadata>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataElement {
    /// The namespace
    pub uri: String,
    /// The prefix that stands for it in the definition
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// One element; none: there shall be none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xml: Option<String>,
}
