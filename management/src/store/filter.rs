//! A stored filter.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredFilter {
    pub uuid: Uuid,
    pub name: String,
    /// Counts the changes of this definition.
    pub generation: u64,
    #[serde(skip)]
    pub xml: String,
}
