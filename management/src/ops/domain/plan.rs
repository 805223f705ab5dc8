//! What a definition would change in a domain, and its change.

use super::define::identity;
use super::query::without_secrets;
use crate::auth::{Access, Subject};
use crate::domain::handle::{Act, Definition, View};
use crate::domain::{DomainId, DomainRef, Turn};
use crate::error::{Code, Error, Problem};
use crate::jobs::Job;
use crate::manager::{Context, Operation};
use crate::plan::{self, PlannedChange};
use crate::translate::{self, Checked, NewIds};

/// What lies between a domain and a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub domain: DomainId,
    pub running: bool,
    pub changes: Vec<PlannedChange>,
    /// What of the definition cannot be had here; there are no changes then.
    pub unsupported: Vec<Problem>,
    /// What would be accepted and left out.
    pub left_out: Vec<Problem>,
}

/// A definition for a domain that exists, complete.
struct Proposed {
    definition: Definition,
    warnings: Vec<Problem>,
}

/// The domain's definition as it is now: the running one's, else the stored.
fn now(view: &View) -> Result<xml::DomainDef, Error> {
    let stored = view.definition.as_ref().map(|definition| &definition.def);
    let live = view.live.as_ref().map(|live| {
        let mut def = translate::as_defined(&live.def);
        // Which images are below a running disk is found, and compared only where somebody wrote it.
        for disk in &mut def.devices.disks {
            let disks = stored.map_or(&[][..], |stored| &stored.devices.disks);
            let same = disks.iter().find(|it| it.target.dev == disk.target.dev);
            disk.backing_store = same.and_then(|same| same.backing_store.clone());
        }
        def
    });
    live.or_else(|| stored.cloned()).ok_or_else(|| {
        Error::new(Code::NotFound, format!("domain {:?} has no definition", view.name))
    })
}

fn propose(cx: &Context, view: &View, xml: &str) -> Result<Proposed, Error> {
    // Complete and good by itself; its mistakes are placed in the user's own text.
    let Checked { mut def, .. } = translate::define(xml, &mut NewIds, &cx.host())?;
    let domain = identity(&def)?;
    let text = xml::DomainDef::parse(xml).map_err(translate::invalid)?;
    if domain.name != view.name || text.value.uuid.is_some_and(|uuid| uuid != view.uuid) {
        let text = format!(
            "the definition is of domain {:?} ({}), and it is to change {:?} ({}): a name and a UUID \
             do not change here",
            domain.name, domain.uuid, view.name, view.uuid
        );
        return Err(Error::new(Code::InvalidArgument, text));
    }
    // Then again with what it leaves open and the domain has: who is who first, then what is added
    // to every definition, and then where all of them are.
    def = text.value;
    let now = now(view)?;
    plan::inherit(&now, &mut def);
    def.fill_defaults(&mut NewIds);
    plan::inherit(&now, &mut def);
    if let Some(definition) = &view.definition {
        plan::inherit(&definition.def, &mut def);
    }
    let Checked { def, warnings } = translate::define(&def.to_xml(), &mut NewIds, &cx.host())?;
    let platform = view.definition.as_ref().map(|definition| definition.stored.platform);
    let stored = crate::store::StoredDomain {
        uuid: view.uuid,
        name: view.name.clone(),
        generation: 1,
        autostart: false,
        turn: Turn::default(),
        platform: platform.unwrap_or(translate::PLATFORM),
        xml: def.to_xml(),
    };
    Ok(Proposed { definition: Definition { stored, def }, warnings })
}

/// Say what a definition would change in a domain, and when each change would take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDomain {
    pub domain: DomainRef,
    /// libvirt domain XML.
    pub xml: String,
}

impl Operation for PlanDomain {
    type Output = Plan;
    const NAME: &'static str = "domain.plan";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Plan, Error> {
        let view = cx.find(&self.domain)?.view();
        let domain = DomainId { uuid: view.uuid, name: view.name.clone() };
        let running = view.live.is_some();
        let mut plan = Plan {
            domain,
            running,
            changes: Vec::new(),
            unsupported: Vec::new(),
            left_out: Vec::new(),
        };
        match propose(cx, &view, &self.xml) {
            Ok(Proposed { definition, warnings }) => {
                // Whoever may look is told that a secret changes, and not which one it was.
                let (now, new) = (now(&view)?, definition.def);
                let secret = plan::changed_secret(&now, &new, running);
                let (now, new) = (without_secrets(now), without_secrets(new));
                plan.changes = plan::changes(&now, &new, running);
                plan.changes.extend(secret);
                plan.left_out = warnings;
            }
            // Only what is lacking, no mistake.
            Err(error) if error.code == Code::Unsupported && !error.problems.is_empty() => {
                plan.unsupported = error.problems;
            }
            Err(error) => return Err(error),
        }
        Ok(plan)
    }
}

/// Give a domain a definition, and make it true in the running guest where that can be: as one job,
/// which leaves all as it was if a part of it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyDomain {
    pub domain: DomainRef,
    /// libvirt domain XML.
    pub xml: String,
}

impl Operation for ApplyDomain {
    type Output = Job;
    const NAME: &'static str = "domain.apply";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let handle = cx.find(&self.domain)?;
        let view = handle.view();
        let expected = view.definition.as_ref().map(|definition| definition.stored.generation);
        if expected.is_none() {
            let text = format!("domain {:?} is transient: define it first", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        let definition = propose(cx, &view, &self.xml)?.definition;
        // Every device may take its time to be let go of.
        let steps = u32::try_from(definition.def.devices.disks.len()).unwrap_or(u32::MAX);
        let within = cx.start_deadline().saturating_mul(steps.clamp(1, 64));
        let act = Act::Apply(Box::new(definition), expected);
        cx.node.jobs.start("domain-apply", view.name.clone(), 0, move |_| async move {
            handle.act(act, within).await
        })
    }
}
