//! Power: on, off, and what lies between.

use super::asking::{AskMode, Wish, ask_guest};
use super::define::{act_on_claimed, identity};
use crate::auth::{Access, Subject};
use crate::cloud_init::CloudInit;
use crate::domain::handle::{Act, Start};
use crate::domain::{Affects, DomainId, DomainRef, LifecycleChange};
use crate::error::{Error, Problem};
use crate::manager::{Context, Operation};
use crate::translate::NewIds;
use crate::translate::{self, Checked};

/// What [`CreateDomain`] started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub domain: DomainId,
    pub warnings: Vec<Problem>,
}

/// Start a domain from XML without storing it (virDomainCreateXML): it vanishes when it stops,
/// unless its UUID is that of a stored definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDomain {
    pub xml: String,
    /// What the guest's cloud-init shall find.
    pub cloud_init: Option<CloudInit>,
    /// Do everything but run the vCPUs.
    pub paused: bool,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
}

impl Operation for CreateDomain {
    type Output = Created;
    const NAME: &'static str = "domain.create";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Document(&self.xml)
    }

    async fn run(self, cx: &Context) -> Result<Created, Error> {
        let host = cx.host_with(self.cloud_init.as_ref())?;
        let Checked { def, warnings } = translate::define(&self.xml, &mut NewIds, &host)?;
        let domain = identity(&def)?;
        let seed = self.cloud_init.map(|documents| documents.seed(domain.uuid, &domain.name));
        let (paused, reset_variables) = (self.paused, self.reset_variables);
        let how = Start { paused, reset_variables, ..Start::default() };
        let start =
            || Act::Start { def: Some(Box::new(def.clone())), seed: seed.clone(), how, from: None };
        act_on_claimed(cx, &domain, start).await?;
        Ok(Created { domain, warnings })
    }
}

/// Power on (virDomainCreate), or go on from a managed save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartDomain {
    pub domain: DomainRef,
    /// Do everything but run the vCPUs.
    pub paused: bool,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
    /// Forget a managed save instead of going on from it.
    pub force_boot: bool,
    /// Go on from it also over disks that have changed since.
    pub force: bool,
}

impl Operation for StartDomain {
    type Output = ();
    const NAME: &'static str = "domain.start";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { paused, reset_variables, force_boot, force, .. } = self;
        let how = Start { paused, reset_variables, force_boot, force };
        let act = Act::Start { def: None, seed: None, how, from: None };
        cx.find(&self.domain)?.act(act, cx.start_deadline()).await
    }
}

/// Ask the guest to shut down (virDomainShutdown); the guest decides when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownDomain {
    pub domain: DomainRef,
    /// Through whom; none: its agent if that is connected, and then the power button.
    pub modes: Vec<AskMode>,
}

impl Operation for ShutdownDomain {
    type Output = ();
    const NAME: &'static str = "domain.shutdown";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        ask_guest(cx, &self.domain, self.modes, Wish::Shutdown).await
    }
}

/// Cut the power (virDomainDestroy). Works also when the VMM does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyDomain {
    pub domain: DomainRef,
    /// Refuse to use force when the VMM does not end by itself (`--graceful`).
    pub graceful: bool,
}

impl Operation for DestroyDomain {
    type Output = ();
    const NAME: &'static str = "domain.destroy";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.find(&self.domain)?.destroy(self.graceful, cx.deadline()).await
    }
}

/// Ask the guest to shut down and start it again (virDomainReboot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebootDomain {
    pub domain: DomainRef,
    /// Through whom; none: its agent if that is connected, and then the power button.
    pub modes: Vec<AskMode>,
}

impl Operation for RebootDomain {
    type Output = ();
    const NAME: &'static str = "domain.reboot";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        ask_guest(cx, &self.domain, self.modes, Wish::Reboot).await
    }
}

/// Press the reset button (virDomainReset).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetDomain {
    pub domain: DomainRef,
}

impl Operation for ResetDomain {
    type Output = ();
    const NAME: &'static str = "domain.reset";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::Reset).await
    }
}

/// Give every vCPU a non-maskable interrupt (virDomainInjectNMI): a kernel that is told to makes a
/// dump of itself then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectNmi {
    pub domain: DomainRef,
}

impl Operation for InjectNmi {
    type Output = ();
    const NAME: &'static str = "domain.inject-nmi";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::InjectNmi).await
    }
}

/// What becomes of the guest when it powers off, reboots or crashes (virDomainSetLifecycleAction).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetLifecycleAction {
    pub domain: DomainRef,
    pub change: LifecycleChange,
    pub affects: Affects,
}

impl Operation for SetLifecycleAction {
    type Output = ();
    const NAME: &'static str = "domain.set-lifecycle-action";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::SetLifecycleAction(self.change, self.affects)).await
    }
}

/// Stop the vCPUs (virDomainSuspend).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspendDomain {
    pub domain: DomainRef,
}

impl Operation for SuspendDomain {
    type Output = ();
    const NAME: &'static str = "domain.suspend";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::Suspend).await
    }
}

/// Let the vCPUs run again (virDomainResume).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeDomain {
    pub domain: DomainRef,
}

impl Operation for ResumeDomain {
    type Output = ();
    const NAME: &'static str = "domain.resume";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.act(&self.domain, Act::Resume).await
    }
}
