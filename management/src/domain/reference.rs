//! How callers name a domain.

use std::fmt;

use uuid::Uuid;

/// A domain as a caller names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DomainRef {
    /// Number of a running domain.
    Id(u32),
    Uuid(Uuid),
    Name(String),
    /// Whatever it is: an id, else a UUID, else a name, in virsh's order.
    Any(String),
}

impl fmt::Display for DomainRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
            Self::Name(name) | Self::Any(name) => write!(f, "{}", name.escape_debug()),
        }
    }
}

impl From<&str> for DomainRef {
    fn from(text: &str) -> Self {
        Self::Any(text.to_owned())
    }
}

impl From<Uuid> for DomainRef {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}
