//! A stored network.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::object::{DAMAGED, Object, decode, encode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredNetwork {
    pub uuid: Uuid,
    pub name: String,
    /// Counts the changes of this definition.
    pub generation: u64,
    pub autostart: bool,
    pub xml: String,
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    uuid: Uuid,
    #[serde(borrow)]
    name: Cow<'a, str>,
    generation: u64,
    autostart: bool,
}

impl Object for StoredNetwork {
    const KIND: &'static str = "network";
    const DIRECTORY: &'static str = "networks";

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
        let header = Header {
            uuid: self.uuid,
            name: self.name.as_str().into(),
            generation: self.generation,
            autostart: self.autostart,
        };
        encode(Self::KIND, &header, &self.xml)
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, xml) = decode(Self::KIND, bytes)?;
        let Header { uuid, name, generation, autostart } =
            serde_json::from_str(header).map_err(|_| DAMAGED)?;
        let (name, xml) = (name.into_owned(), xml.to_owned());
        Ok(Self { uuid, name, generation, autostart, xml })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_comes_back_as_it_was_and_is_no_other_kind_of_object() {
        let network = StoredNetwork {
            uuid: Uuid::from_u128(7),
            name: "n--".to_owned(),
            generation: 3,
            autostart: true,
            xml: "<network/>\n".to_owned(),
        };
        assert_eq!(StoredNetwork::decode(&network.encode()).unwrap(), network);
        assert!(super::super::StoredPool::decode(&network.encode()).is_err());
    }
}
