//! [`Subject`]: what an operation is about.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xml::{FilterDef, NetworkDef, PoolDef, SecretDef, VolumeDef};

use super::{Access, Caller};
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
    /// What this XML defines, which is no domain. Nothing for callers with a scope.
    Definition(Defines<'a>, &'a str),
    /// All domains: of the answer, callers with a scope see their part
    /// ([`Operation::narrow`](crate::Operation::narrow)).
    Domains,
    /// Something that is no domain: what it is, and its name. Nothing for callers with a scope.
    Other(&'static str, Cow<'a, str>),
}

/// What a document defines that is not of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defines<'a> {
    Filter,
    Network,
    Pool,
    Secret,
    /// In this pool.
    VolumeOf(&'a str),
}

impl Subject<'_> {
    /// Whether a document is to be looked at before it is known that the operation may go on. For
    /// those who may not do such a thing, whatever the document says, it is not.
    pub(crate) fn is_read_for(&self, caller: &Caller, needed: Access) -> bool {
        match self {
            Self::Document(_) => caller.access >= needed,
            Self::Definition(..) => caller.access >= needed && caller.scope.is_none(),
            _ => true,
        }
    }
}

impl Defines<'_> {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Secret => "secret",
            Self::VolumeOf(_) => "volume",
        }
    }

    /// What the document calls it; empty where it cannot be read.
    fn name(self, xml: &str) -> String {
        let name = match self {
            Self::Filter => FilterDef::parse(xml).ok().map(|it| it.value.name.to_string()),
            Self::Network => NetworkDef::parse(xml).ok().map(|it| it.value.name.to_string()),
            Self::Pool => PoolDef::parse(xml).ok().map(|it| it.value.name.to_string()),
            Self::Secret => {
                let uuid = SecretDef::parse(xml).ok().and_then(|it| it.value.uuid);
                uuid.map(|uuid| uuid.to_string())
            }
            Self::VolumeOf(pool) => {
                let name = VolumeDef::parse(xml).ok().map(|it| it.value.name.to_string());
                Some(format!("{pool}/{}", name.unwrap_or_default()))
            }
        };
        name.unwrap_or_default()
    }
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
                let uuid = self.node.known(&known).map(|handle| handle.uuid);
                Some(Target { kind: DOMAIN.to_owned(), name, uuid })
            }
            Subject::Definition(defines, xml) => {
                let name = short(&defines.name(xml));
                Some(Target { kind: defines.kind().to_owned(), name, uuid: None })
            }
            Subject::Other(kind, name) => {
                let name = short(name);
                Some(Target { kind: (*kind).to_owned(), name, uuid: None })
            }
        }
    }

    fn domain_target(&self, domain: &DomainRef) -> Target {
        let kind = DOMAIN.to_owned();
        match self.node.known(domain) {
            Some(handle) => {
                let name = handle.view.borrow().name.clone();
                Target { kind, name, uuid: Some(handle.uuid) }
            }
            None => Target { kind, name: short(&domain.to_string()), uuid: None },
        }
    }
}

const DOMAIN: &str = "domain";

/// Longer than any name that is one.
fn short(name: &str) -> String {
    crate::domain::clean(name)
}
