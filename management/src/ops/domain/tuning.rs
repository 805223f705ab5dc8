//! What domains get of the host.

use crate::auth::{Access, Subject};
use crate::domain::handle::Act;
use crate::domain::plug::LETTING_GO;
use crate::domain::{Affects, DomainRef, IoThreadChange, Tuning};
use crate::error::Error;
use crate::manager::{Context, Operation};

/// How a domain is tuned (virDomainGetSchedulerParametersFlags, virDomainGetBlockIoTune and their
/// sisters): the live definition of a running domain, or the stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetTuning {
    pub domain: DomainRef,
    pub affects: Affects,
}

impl Operation for GetTuning {
    type Output = Tuning;
    const NAME: &'static str = "domain.tuning";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Tuning, Error> {
        let view = cx.find(&self.domain)?.view();
        Ok(Tuning::of(super::query::definition_of(&view, self.affects)?))
    }
}

/// Tune a domain (virDomainSetSchedulerParametersFlags, virDomainPinVcpuFlags and their sisters).
/// What the change does not speak of stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneDomain {
    pub domain: DomainRef,
    pub change: Tuning,
    pub affects: Affects,
}

impl Operation for TuneDomain {
    type Output = ();
    const NAME: &'static str = "domain.tune";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        // A guest takes its time to do without a vCPU.
        let within = cx.deadline() + LETTING_GO;
        let act = Act::Tune(Box::new(self.change), self.affects);
        cx.find(&self.domain)?.act(act, within).await
    }
}

/// Have the next start make an io thread, or not (virDomainAddIOThread, virDomainDelIOThread).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeIoThread {
    pub domain: DomainRef,
    pub change: IoThreadChange,
    pub affects: Affects,
}

impl Operation for ChangeIoThread {
    type Output = ();
    const NAME: &'static str = "domain.change-io-thread";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::ChangeIoThreads(self.change, self.affects)).await
    }
}
