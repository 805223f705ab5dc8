//! A stored token: everything but its secret.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::object::{DAMAGED, Object, decode, encode};
use crate::auth::Role;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredToken {
    pub uuid: Uuid,
    pub name: String,
    pub generation: u64,
    pub role: Role,
    /// Names or UUIDs of the domains that it is confined to; none: it is not.
    pub domains: Option<Vec<String>>,
    pub created: jiff::Timestamp,
    pub expires: Option<jiff::Timestamp>,
    /// SHA-256 of the secret.
    pub digest: String,
}

impl Object for StoredToken {
    const KIND: &'static str = "token";
    const DIRECTORY: &'static str = "tokens";
    const EXTENSION: &'static str = "token";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_and_is_no_other_kind_of_object() {
        let token = StoredToken {
            uuid: Uuid::from_u128(7),
            name: "ci--1".to_owned(),
            generation: 1,
            role: Role::Operator,
            domains: Some(vec!["web--1".to_owned()]),
            created: jiff::Timestamp::UNIX_EPOCH,
            expires: Some(jiff::Timestamp::MAX),
            digest: "00".repeat(32),
        };
        assert_eq!(StoredToken::decode(&token.encode()).unwrap(), token);
        assert!(super::super::StoredPool::decode(&token.encode()).is_err());
        // A role of another version is no role.
        let text = String::from_utf8(encode("token", &"{}", "")).unwrap();
        assert!(StoredToken::decode(text.as_bytes()).is_err());
    }
}
