//! Users of libvirt's protocol.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Role;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetUser {
    /// 1 to 256 printable ASCII characters.
    pub password: String,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; without it, it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<Vec<String>>,
}

/// Without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    #[schema(example = "alice")]
    pub name: String,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; without it, it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<Vec<String>>,
    /// RFC 3339, UTC: when it was made, or its password set.
    pub changed: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    pub users: Vec<User>,
}
