//! A stored user: everything but the password.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::object::{DAMAGED, Object, decode, encode};
use crate::auth::Role;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredUser {
    pub uuid: Uuid,
    pub name: String,
    pub generation: u64,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; none: it is not.
    pub domains: Option<Vec<String>>,
    pub changed: jiff::Timestamp,
    /// What SCRAM-SHA-256 makes of the password (RFC 5802, section 3), in base64.
    pub salt: String,
    pub iterations: u32,
    pub stored_key: String,
    pub server_key: String,
}

impl Object for StoredUser {
    const KIND: &'static str = "user";
    const DIRECTORY: &'static str = "users";
    const EXTENSION: &'static str = "user";

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    fn encode(&self) -> Vec<u8> {
        encode(Self::KIND, self, "")
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, _) = decode(Self::KIND, bytes)?;
        serde_json::from_str(header).map_err(|_| DAMAGED)
    }
}
