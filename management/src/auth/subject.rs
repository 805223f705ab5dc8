//! [`Subject`]: what an operation is about.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::DomainRef;
use crate::manager::Context;
use crate::translate;

/// What an operation is about, as its caller names it: the audit log tells it, and a caller's
/// scope is held against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The node, or everything of a kind. Nothing for callers with a scope.
    Node,
    Domain(&'a DomainRef),
    /// The domain that this XML defines.
    Document(&'a str),
    /// All domains: of the answer, callers with a scope see their part
    /// ([`Operation::narrow`](crate::Operation::narrow)).
    Domains,
    /// Something that is no domain: what it is, and its name. Nothing for callers with a scope.
    Other(&'static str, Cow<'a, str>),
}

/// What an operation was about, as the node knew it before it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `domain`, `pool` …
    pub kind: String,
    /// As the node knows it; as the caller called it, where the node does not.
    pub name: String,
    /// Of a domain that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

impl Context {
    /// None where an operation is about no one thing.
    pub(crate) fn target(&self, subject: &Subject<'_>) -> Option<Target> {
        match subject {
            Subject::Node | Subject::Domains => None,
            Subject::Domain(domain) => Some(self.domain_target(domain)),
            Subject::Document(xml) => {
                // A document that cannot be read is of no domain.
                let (uuid, name) = translate::named(xml)?;
                let known = uuid.map_or_else(|| DomainRef::Name(name.clone()), DomainRef::Uuid);
                let uuid = self.find(&known).ok().map(|handle| handle.uuid);
                Some(Target { kind: DOMAIN.to_owned(), name, uuid })
            }
            Subject::Other(kind, name) => {
                let name = short(name);
                Some(Target { kind: (*kind).to_owned(), name, uuid: None })
            }
        }
    }

    fn domain_target(&self, domain: &DomainRef) -> Target {
        let kind = DOMAIN.to_owned();
        match self.find(domain) {
            Ok(handle) => Target { kind, name: handle.view().name, uuid: Some(handle.uuid) },
            Err(_) => Target { kind, name: short(&domain.to_string()), uuid: None },
        }
    }
}

const DOMAIN: &str = "domain";

/// Longer than any name that is one.
fn short(name: &str) -> String {
    crate::domain::clean(name)
}
