//! What happens, as it happens.

use crate::auth::{Access, Scope, Subject};
use crate::domain::DomainRef;
use crate::error::Error;
use crate::events::Subscription;
use crate::manager::{Context, Operation};

/// Follow events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Begin after this one; only new events if none.
    pub after: Option<u64>,
    /// Only of this domain.
    pub domain: Option<DomainRef>,
}

impl Operation for Subscribe {
    type Output = Subscription;
    const NAME: &'static str = "events.subscribe";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        self.domain.as_ref().map_or(Subject::Domains, Subject::Domain)
    }

    fn narrow(all: Subscription, scope: &Scope) -> Option<Subscription> {
        Some(all.within(scope.clone()))
    }

    async fn run(self, cx: &Context) -> Result<Subscription, Error> {
        let domain = match &self.domain {
            Some(domain) => Some(cx.find(domain)?.uuid),
            None => None,
        };
        Ok(cx.node.journal.subscribe(self.after, domain))
    }
}
