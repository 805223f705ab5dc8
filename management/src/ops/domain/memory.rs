//! The memory of a running guest, and in its definition.

use vmm_protocol::control::Request;
use xml::domain::Kib;

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::memory::MemoryChange;
use crate::domain::{Affects, DomainRef};
use crate::error::{Code, Error};
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

/// Measure for some seconds how much of its memory a running guest writes to (virDomainStartDirtyRateCalc): its
/// counters tell it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasureDirtyRate {
    pub domain: DomainRef,
    /// 1 to 60
    pub seconds: u32,
}

impl Operation for MeasureDirtyRate {
    type Output = ();
    const NAME: &'static str = "domain.measure-dirty-rate";
    // The guest stands still for a moment, and is slower meanwhile.
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let seconds = self.seconds;
        if !(1..=60).contains(&seconds) {
            let text = format!("a dirty rate is measured for 1 to 60 s, not {seconds}");
            return Err(Error::new(Code::InvalidArgument, text));
        }
        let view = cx.find(&self.domain)?.view();
        if view.live.is_none() {
            let text = format!("domain {:?} is not running: it writes to no memory", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        super::ask(&view, Request::MeasureDirtyRate { seconds }, cx).await.map(drop)
    }
}
