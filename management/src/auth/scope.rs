//! [`Scope`]: the domains that a caller is confined to.

use std::collections::BTreeSet;
use std::fmt;

use uuid::Uuid;

use crate::domain::DomainId;

/// Domains by name or UUID. A name stands for whichever domain has it at the moment of the call, a
/// UUID for one domain whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    names: BTreeSet<String>,
    uuids: BTreeSet<Uuid>,
}

impl Scope {
    /// A word that is a UUID is one, and no name.
    pub fn new<S: AsRef<str>>(domains: impl IntoIterator<Item = S>) -> Self {
        let mut scope = Self::default();
        for domain in domains {
            match Uuid::try_parse(domain.as_ref()) {
                Ok(uuid) => scope.uuids.insert(uuid),
                Err(_) => scope.names.insert(domain.as_ref().to_owned()),
            };
        }
        scope
    }

    #[must_use]
    pub fn admits(&self, domain: &DomainId) -> bool {
        self.has(domain.uuid, &domain.name)
    }

    pub(crate) fn has(&self, uuid: Uuid, name: &str) -> bool {
        self.uuids.contains(&uuid) || self.names.contains(name)
    }

    /// Whether it speaks of what a caller calls so, be there such a domain or not.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.names.contains(word)
            || Uuid::try_parse(word).is_ok_and(|uuid| self.uuids.contains(&uuid))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uuids = self.uuids.iter().map(Uuid::to_string);
        let all: Vec<_> = self.names.iter().cloned().chain(uuids).collect();
        f.write_str(&all.join(", "))
    }
}
