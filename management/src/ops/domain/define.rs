//! Store, forget, rename definitions; mark them for autostart.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Access, Subject};

use crate::cloud_init::CloudInit;
use crate::domain::handle::{Act, Definition, Undefine, Variables};
use crate::domain::{DomainId, DomainRef, Turn, TurnChange};
use crate::error::{Code, Error, Problem};
use crate::manager::{Context, Operation};
use crate::registry::Node;
use crate::store::StoredDomain;
use crate::translate::{self, Checked, NewIds};

/// A domain may vanish at the moment its name is claimed: then the claim is made again.
const ATTEMPTS: usize = 5;

/// What [`DefineDomain`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    pub domain: DomainId,
    /// An existing definition was replaced.
    pub updated: bool,
    /// Things accepted and left out.
    pub warnings: Vec<Problem>,
}

/// Store a definition (virDomainDefineXML). A definition with the UUID of an existing domain
/// replaces that domain's; a running domain goes on as it is until its next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineDomain {
    /// libvirt domain XML.
    pub xml: String,
    /// What the guest's cloud-init shall find.
    pub cloud_init: Option<CloudInit>,
    /// Check everything and store nothing.
    pub check_only: bool,
}

impl Operation for DefineDomain {
    type Output = Defined;
    const NAME: &'static str = "domain.define";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Document(&self.xml)
    }

    async fn run(self, cx: &Context) -> Result<Defined, Error> {
        let host = cx.host_with(self.cloud_init.as_ref())?;
        let Checked { def, warnings } = translate::define(&self.xml, &mut NewIds, &host)?;
        let domain = identity(&def)?;
        let known = cx.node.get(domain.uuid).map(|handle| handle.view());
        let updated = known.is_some_and(|view| view.definition.is_some());
        if self.check_only {
            return Ok(Defined { domain, updated, warnings });
        }
        let stored = StoredDomain {
            uuid: domain.uuid,
            name: domain.name.clone(),
            generation: 1,
            autostart: false,
            turn: Turn::default(),
            platform: translate::PLATFORM,
            xml: def.to_xml(),
        };
        let definition = Definition { stored, def };
        let seed = self.cloud_init.map(|documents| documents.seed(domain.uuid, &domain.name));
        let define =
            || Act::Define { definition: Box::new(definition.clone()), seed: seed.clone() };
        act_on_claimed(cx, &domain, define).await?;
        // Nobody waits for that: it is for the day when they cannot be seen.
        let node = cx.node.clone();
        drop(tokio::task::spawn_blocking(move || node.remember_images_of(&definition.def)));
        Ok(Defined { domain, updated, warnings })
    }
}

pub(super) fn identity(def: &xml::DomainDef) -> Result<DomainId, Error> {
    let uuid = def.uuid.ok_or_else(|| Error::new(Code::Internal, "a definition has no UUID"))?;
    Ok(DomainId { uuid, name: def.name.to_string() })
}

/// Give a command to a domain that may be new.
pub(super) async fn act_on_claimed(
    cx: &Context,
    domain: &DomainId,
    act: impl Fn() -> Act,
) -> Result<(), Error> {
    claim_and_act(&cx.node, domain, act, cx.start_deadline()).await
}

pub(crate) async fn claim_and_act(
    node: &Arc<Node>,
    domain: &DomainId,
    act: impl Fn() -> Act,
    within: Duration,
) -> Result<(), Error> {
    for attempt in 1.. {
        let handle = node.claim(domain.uuid, &domain.name)?;
        match handle.act(act(), within).await {
            Err(error)
                if error.code == Code::NotFound && handle.is_gone() && attempt < ATTEMPTS =>
            {
                tokio::task::yield_now().await;
            }
            result => return result,
        }
    }
    Ok(())
}

/// Forget a definition (virDomainUndefine). A running domain becomes transient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndefineDomain {
    pub domain: DomainRef,
    /// Must be said where the domain has firmware variables.
    pub variables: Option<Variables>,
    /// What was saved for its next start goes too.
    pub managed_save: bool,
    /// Its snapshots are forgotten too; what they hold stays where it is.
    pub snapshots: bool,
}

impl Operation for UndefineDomain {
    type Output = ();
    const NAME: &'static str = "domain.undefine";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, variables, managed_save, snapshots } = self;
        cx.act(&domain, Act::Undefine(Undefine { variables, managed_save, snapshots })).await
    }
}

/// Give an inactive domain another name (virDomainRename).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameDomain {
    pub domain: DomainRef,
    pub name: String,
}

impl Operation for RenameDomain {
    type Output = ();
    const NAME: &'static str = "domain.rename";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let handle = cx.find(&self.domain)?;
        let old = handle.view().name;
        if old == self.name {
            return Ok(());
        }
        translate::check_name(&self.name)?;
        cx.node.reserve_name(&self.name, handle.uuid)?;
        let result = handle.act(Act::Rename(self.name.clone()), cx.deadline()).await;
        match &result {
            Ok(()) => cx.node.release_name(&old, handle.uuid),
            // It may still be carried out: better a name too many than one twice.
            Err(error) if error.code == Code::Timeout => {}
            Err(_) => cx.node.release_name(&self.name, handle.uuid),
        }
        result
    }
}

/// Start the domain when the host boots, or no longer do (virDomainSetAutostart).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAutostart {
    pub domain: DomainRef,
    pub autostart: bool,
    /// When, among the others; also when it goes down with the host.
    pub turn: TurnChange,
}

impl Operation for SetAutostart {
    type Output = ();
    const NAME: &'static str = "domain.set-autostart";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        self.turn.check()?;
        cx.act(&self.domain, Act::SetAutostart(self.autostart, self.turn)).await
    }
}
