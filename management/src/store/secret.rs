//! A stored secret: its definition, and the secret itself. The directory of the state is the
//! daemon's alone, and its files are nobody else's.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::object::{DAMAGED, Object, decode, encode};

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredSecret {
    pub uuid: Uuid,
    /// What names it beside the UUID: its usage, or the UUID again.
    pub name: String,
    pub generation: u64,
    /// In base64; none: it was not told yet.
    pub value: Option<String>,
    pub xml: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    uuid: Uuid,
    name: String,
    generation: u64,
    value: Option<String>,
}

impl Object for StoredSecret {
    const KIND: &'static str = "secret";
    const DIRECTORY: &'static str = "secrets";

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
        let Self { uuid, name, generation, value, .. } = self.clone();
        encode(Self::KIND, &Header { uuid, name, generation, value }, &self.xml)
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, xml) = decode(Self::KIND, bytes)?;
        let Header { uuid, name, generation, value } =
            serde_json::from_str(header).map_err(|_| DAMAGED)?;
        Ok(Self { uuid, name, generation, value, xml: xml.to_owned() })
    }
}
