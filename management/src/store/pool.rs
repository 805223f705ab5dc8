//! A stored pool.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPool {
    pub uuid: Uuid,
    pub name: String,
    /// Counts the changes of this definition.
    pub generation: u64,
    pub autostart: bool,
    /// Volumes that are raw whatever their guests have written into them, and their inodes.
    #[serde(default)]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip)]
    pub xml: String,
}

#[cfg(test)]
mod tests {
    use super::super::object::Object as _;
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
