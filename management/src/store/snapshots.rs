//! The stored snapshots of a domain: one file with all of them, so that each change of the tree is one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xml::SnapshotSet;

use super::object::{DAMAGED, Object, decode, encode};
use crate::snapshots::{Kept, Snapshot, Work};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredSnapshots {
    /// Of the domain.
    pub uuid: Uuid,
    /// The same: the domain may be renamed.
    name: String,
    /// Counts the changes.
    pub generation: u64,
    pub current: Option<String>,
    /// What is being done, written down before it is.
    pub work: Option<Work>,
    /// Images that came into being for snapshots, and go with the last that needs them.
    pub made: BTreeSet<PathBuf>,
    pub snapshots: Vec<Snapshot>,
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    uuid: Uuid,
    generation: u64,
    current: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    work: Option<Cow<'a, Work>>,
    #[serde(default)]
    made: Cow<'a, BTreeSet<PathBuf>>,
    /// In the order of the snapshots.
    kept: Vec<Cow<'a, Kept>>,
}

impl StoredSnapshots {
    pub(crate) fn new(uuid: Uuid) -> Self {
        Self {
            uuid,
            name: uuid.to_string(),
            generation: 0,
            current: None,
            work: None,
            made: BTreeSet::new(),
            snapshots: Vec::new(),
        }
    }
}

impl Object for StoredSnapshots {
    const KIND: &'static str = "snapshots";
    const DIRECTORY: &'static str = "snapshots";

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
            generation: self.generation,
            current: self.current.as_deref().map(Cow::Borrowed),
            work: self.work.as_ref().map(Cow::Borrowed),
            made: Cow::Borrowed(&self.made),
            kept: self.snapshots.iter().map(|snapshot| Cow::Borrowed(&snapshot.kept)).collect(),
        };
        let snapshots = self.snapshots.iter().map(|snapshot| snapshot.def.clone()).collect();
        encode(Self::KIND, &header, &SnapshotSet { snapshots }.to_xml())
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, xml) = decode(Self::KIND, bytes)?;
        let Header { uuid, generation, current, work, made, kept } =
            serde_json::from_str(header).map_err(|_| DAMAGED)?;
        let set = SnapshotSet::parse_stored(xml).map_err(|_| "its snapshots cannot be read")?;
        if set.snapshots.len() != kept.len() {
            return Err("its first line is not of its snapshots");
        }
        let snapshots = set.snapshots.into_iter().zip(kept);
        let snapshots = snapshots.map(|(def, kept)| Snapshot { def, kept: kept.into_owned() });
        Ok(Self {
            uuid,
            name: uuid.to_string(),
            generation,
            current: current.map(Cow::into_owned),
            work: work.map(Cow::into_owned),
            made: made.into_owned(),
            snapshots: snapshots.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_come_back_as_they_were() {
        let mut set = StoredSnapshots::new(Uuid::from_u128(7));
        for name in ["a", "b--c"] {
            let text = format!("<domainsnapshot><name>{name}</name></domainsnapshot>");
            let def = xml::SnapshotDef::parse(&text).unwrap().value;
            let kept = Kept { variables: Some(PathBuf::from("/v")), ..Kept::default() };
            set.snapshots.push(Snapshot { def, kept });
        }
        set.current = Some("b--c".to_owned());
        set.made.insert(PathBuf::from("/d/web--.a"));
        assert_eq!(StoredSnapshots::decode(&set.encode()).unwrap(), set);
        assert!(super::super::StoredPool::decode(&set.encode()).is_err());
    }
}
