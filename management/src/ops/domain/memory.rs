//! The memory of a running guest, and in its definition.

use xml::domain::Kib;

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::memory::MemoryChange;
use crate::domain::{Affects, DomainRef};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Have a guest live with less memory than it could have, or with more again
/// (virDomainSetMemoryFlags). The guest takes its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMemory {
    pub domain: DomainRef,
    /// KiB, at most the domain's maximum.
    pub memory: u64,
    pub affects: Affects,
}

impl Operation for SetMemory {
    type Output = ();
    const NAME: &'static str = "domain.set-memory";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let change = MemoryChange::Current(Kib(self.memory));
        cx.act(&self.domain, Act::ChangeMemory(change, self.affects)).await
    }
}

/// How often a guest is asked for its memory statistics (virDomainSetMemoryStatsPeriod).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMemoryStatsPeriod {
    pub domain: DomainRef,
    /// Seconds; 0: not at all.
    pub period: u32,
    pub affects: Affects,
}

impl Operation for SetMemoryStatsPeriod {
    type Output = ();
    const NAME: &'static str = "domain.set-memory-stats-period";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let change = MemoryChange::StatisticsPeriod(self.period);
        cx.act(&self.domain, Act::ChangeMemory(change, self.affects)).await
    }
}
