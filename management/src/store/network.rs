//! A stored network.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredNetwork {
    pub uuid: Uuid,
    pub name: String,
    /// Counts the changes of this definition.
    pub generation: u64,
    pub autostart: bool,
    #[serde(skip)]
    pub xml: String,
}

#[cfg(test)]
mod tests {
    use super::super::object::Object as _;
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
