//! Counters. A stuck VMM costs its own figures, never anybody's time.

use crate::auth::Access;
use crate::domain::{DomainRef, DomainStats};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Counters of one domain (virDomainListGetStats).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetDomainStats {
    pub domain: DomainRef,
}

impl Operation for GetDomainStats {
    type Output = DomainStats;
    const NAME: &'static str = "domain.stats";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<DomainStats, Error> {
        cx.pending()
    }
}

/// Counters of all domains, off ones included: what `/metrics` shows. Answers in bounded time
/// whatever the VMMs do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetAllStats;

impl Operation for GetAllStats {
    type Output = Vec<DomainStats>;
    const NAME: &'static str = "domain.all-stats";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<DomainStats>, Error> {
        cx.pending()
    }
}
