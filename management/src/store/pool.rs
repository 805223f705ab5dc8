//! A stored pool.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::object::{DAMAGED, Object, decode, encode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPool {
    pub uuid: Uuid,
    pub name: String,
    /// Counts the changes of this definition.
    pub generation: u64,
    pub autostart: bool,
    /// Volumes that are raw whatever their guests have written into them, and their inodes.
    pub raw: BTreeMap<String, u64>,
    pub xml: String,
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    uuid: Uuid,
    #[serde(borrow)]
    name: Cow<'a, str>,
    generation: u64,
    autostart: bool,
    #[serde(default)]
    raw: Cow<'a, BTreeMap<String, u64>>,
}

impl Object for StoredPool {
    const KIND: &'static str = "pool";
    const DIRECTORY: &'static str = "pools";

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
            raw: Cow::Borrowed(&self.raw),
        };
        encode(Self::KIND, &header, &self.xml)
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, xml) = decode(Self::KIND, bytes)?;
        let Header { uuid, name, generation, autostart, raw } =
            serde_json::from_str(header).map_err(|_| DAMAGED)?;
        let (name, raw, xml) = (name.into_owned(), raw.into_owned(), xml.to_owned());
        Ok(Self { uuid, name, generation, autostart, raw, xml })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_comes_back_as_it_was_and_is_no_other_kind_of_object() {
        let pool = StoredPool {
            uuid: Uuid::from_u128(7),
            name: "p--".to_owned(),
            generation: 3,
            autostart: true,
            raw: BTreeMap::from([("a--b.img".to_owned(), 12)]),
            xml: "<pool/>\n".to_owned(),
        };
        assert_eq!(StoredPool::decode(&pool.encode()).unwrap(), pool);
        assert!(super::super::StoredDomain::decode(&pool.encode()).is_err());
    }
}
