//! Make another domain like one there is.

use crate::auth::{Access, Subject};
use crate::domain::DomainId;
use crate::domain::DomainRef;
use crate::domain::actor::blocking;
use crate::domain::handle::{Act, Definition};
use crate::domain::twin::{Copy, Twin};
use crate::error::{Code, Error};
use crate::jobs::Job;
use crate::manager::{Context, Operation};
use crate::store::StoredDomain;

use super::define::claim_and_act;

/// Make a twin of a domain that is off: with copies of the disks that it writes to, and of its
/// firmware's variables; with a UUID, generation ID and MAC addresses of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneDomain {
    pub domain: DomainRef,
    /// Of the twin.
    pub name: String,
}

impl Operation for CloneDomain {
    type Output = Job;
    const NAME: &'static str = "domain.clone";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        // Whoever may do this to one domain only may not have another.
        Subject::Other("domain", self.name.as_str().into())
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let view = cx.find(&self.domain)?.view();
        let refuse = |why: &str| {
            let text = format!("domain {:?} {why}", view.name);
            Error::new(Code::InvalidState, text)
        };
        let definition = view.definition.clone().ok_or_else(|| refuse("is transient"))?;
        if view.live.is_some() {
            return Err(refuse(
                "runs: its disks would be copied in the middle of something; shut it down first",
            ));
        }
        if view.managed_save {
            return Err(refuse(
                "has a saved state, which its disks belong to; start it and shut it down first, or \
                 drop that state (managedsave-remove)",
            ));
        }
        if cx.find(&DomainRef::Name(self.name.clone())).is_ok() {
            let text = format!("there is a domain {:?} already", self.name);
            return Err(Error::new(Code::Exists, text));
        }
        let pools: Vec<_> = cx.node.pools.views().into_iter().filter(|pool| pool.active).collect();
        let seed = cx.node.seeds.path(view.uuid);
        let (name, platform) = (self.name, definition.stored.platform);
        let node = cx.node.clone();
        blocking(move || {
            let twin = Twin::plan(&definition.def, &name, &pools, &seed)?;
            let total = twin.files.iter().map(Copy::size).sum();
            let (jobs, object) = (node.jobs.clone(), name.clone());
            jobs.start("domain-clone", object, total, move |progress| async move {
                let (copying, watched) = (node.clone(), progress.clone());
                let twin = blocking(move || twin.copy(&copying, &watched).map(|()| twin)).await?;
                let uuid = twin.def.uuid.unwrap_or_default();
                let stored = StoredDomain {
                    uuid,
                    name: name.clone(),
                    generation: 1,
                    autostart: false,
                    turn: crate::domain::Turn::default(),
                    platform,
                    xml: twin.def.to_xml(),
                };
                let definition = Definition { stored, def: twin.def.clone() };
                let define =
                    || Act::Define { definition: Box::new(definition.clone()), seed: None };
                let within = std::time::Duration::from_secs(60);
                let defined = claim_and_act(&node, &DomainId { uuid, name }, define, within).await;
                if defined.is_err() {
                    let undo = move || {
                        twin.remove(&*node.broker);
                        Ok(())
                    };
                    blocking(undo).await?;
                }
                defined
            })
        })
        .await
    }
}
