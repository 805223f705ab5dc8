//! What people and programs note about a domain.

use super::query::definition_of;
use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::{Affects, DomainRef, MetadataChange, MetadataView};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Title, description and the element of a namespace (virDomainGetMetadata).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetMetadata {
    pub domain: DomainRef,
    /// Whose element of `<metadata>` is wanted.
    pub uri: Option<String>,
    pub affects: Affects,
}

impl Operation for GetMetadata {
    type Output = MetadataView;
    const NAME: &'static str = "domain.metadata";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<MetadataView, Error> {
        let view = cx.find(&self.domain)?.view();
        Ok(MetadataView::of(definition_of(&view, self.affects)?, self.uri.as_deref()))
    }
}

/// Change them (virDomainSetMetadata).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMetadata {
    pub domain: DomainRef,
    pub change: MetadataChange,
    pub affects: Affects,
}

impl Operation for SetMetadata {
    type Output = ();
    const NAME: &'static str = "domain.set-metadata";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::ChangeMetadata(Box::new(self.change), self.affects)).await
    }
}
