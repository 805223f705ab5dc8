//! What happens, as it happens.

use crate::auth::Access;
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

    async fn run(self, cx: &Context) -> Result<Subscription, Error> {
        let domain = match &self.domain {
            Some(domain) => Some(cx.find(domain)?.uuid),
            None => None,
        };
        Ok(cx.node.journal.subscribe(self.after, domain))
    }
}
