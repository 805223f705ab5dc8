//! Make another domain like one there is.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::auth::{Access, Subject};
use crate::domain::DomainRef;
use crate::domain::actor::blocking;
use crate::domain::fork::{Fork, Forked};
use crate::domain::handle::{Act, Definition, Handle, Start, Undefine, Variables, View};
use crate::domain::restore::{FromSaved, RestoreIntent};
use crate::domain::twin::{Copy, Original, Twin};
use crate::domain::{DomainId, Turn};
use crate::error::{Code, Error};
use crate::jobs::Job;
use crate::manager::{Context, Operation};
use crate::registry::Node;
use crate::saved::{Description, Saved};
use crate::store::StoredDomain;

use super::define::claim_and_act;

/// For what is done at once, unless the host is slow.
const SOON: Duration = Duration::from_secs(60);
/// As long as memory takes to be copied.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Make a twin of a domain: with copies of the disks that it writes to, and of its firmware's
/// variables; with a UUID, generation ID and MAC addresses of its own. The twin of one that runs goes
/// on from where that is at a moment, and runs.
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
        let handle = cx.find(&self.domain)?;
        let view = handle.view();
        if cx.find(&DomainRef::Name(self.name.clone())).is_ok() {
            let text = format!("there is a domain {:?} already", self.name);
            return Err(Error::new(Code::Exists, text));
        }
        if view.live.is_some() {
            return clone_running(cx, handle, self.name).await;
        }
        clone_stopped(cx, &view, self.name).await
    }
}

async fn clone_stopped(cx: &Context, view: &View, name: String) -> Result<Job, Error> {
    let refuse = |why: &str| {
        let text = format!("domain {:?} {why}", view.name);
        Error::new(Code::InvalidState, text)
    };
    let definition = view.definition.clone().ok_or_else(|| refuse("is transient"))?;
    if view.managed_save {
        return clone_saved(cx, cx.node.managed_save(view.uuid), name).await;
    }
    let pools: Vec<_> = cx.node.pools.views().into_iter().filter(|pool| pool.active).collect();
    let (seed, run_dir) = (cx.node.seeds.path(view.uuid), cx.node.run_dir(view.uuid));
    let platform = definition.stored.platform;
    let node = cx.node.clone();
    blocking(move || {
        let of = Original {
            broker: &*node.broker,
            def: &definition.def,
            seed: &seed,
            run_dir: &run_dir,
        };
        let twin = Twin::plan(of, &name, &pools)?;
        let total = twin.files.iter().map(Copy::size).sum();
        let (jobs, object) = (node.jobs.clone(), name.clone());
        jobs.start("domain-clone", object, total, move |progress| async move {
            let (copying, watched) = (node.clone(), progress.clone());
            let twin = blocking(move || twin.copy(&copying, &watched).map(|()| twin)).await?;
            let defined = define(&node, &twin, platform).await.map(drop);
            remove_if_failed(&node, twin, defined).await
        })
    })
    .await
}

/// Make a twin of a guest that was saved to a file, which goes on from there as often as one likes:
/// the file stays, and so must the disks that it was saved with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSaved {
    /// Absolute.
    pub file: PathBuf,
    /// Of the twin.
    pub name: String,
}

impl Operation for CloneSaved {
    type Output = Job;
    const NAME: &'static str = "saved.clone";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("saved state", self.file.to_string_lossy())
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        if cx.find(&DomainRef::Name(self.name.clone())).is_ok() {
            let text = format!("there is a domain {:?} already", self.name);
            return Err(Error::new(Code::Exists, text));
        }
        clone_saved(cx, self.file, self.name).await
    }
}

async fn clone_saved(cx: &Context, path: PathBuf, name: String) -> Result<Job, Error> {
    let (node, within) = (cx.node.clone(), cx.start_deadline());
    blocking(move || {
        let saved = Saved::open(&*node.broker, &path)?;
        saved.description.images.iter().try_for_each(|it| it.check(&*node.broker))?;
        let (def, uuid) = (saved.description.def()?, saved.description.uuid);
        let pools: Vec<_> = node.pools.views().into_iter().filter(|pool| pool.active).collect();
        let (seed, run_dir) = (node.seeds.path(uuid), node.run_dir(uuid));
        let of = Original { broker: &*node.broker, def: &def, seed: &seed, run_dir: &run_dir };
        let mut twin = Twin::plan_live(of, &name, &pools, |uuid| node.seeds.path(uuid))?;
        let jobs = node.jobs.clone();
        jobs.start("domain-clone", name, 0, move |_| async move {
            let making = node.clone();
            let twin = blocking(move || twin.stand_on(&making).map(|()| twin)).await?;
            let Description { platform, running, .. } = saved.description;
            let forked = Forked { twin, memory: Arc::new(saved.file), platform, running };
            go_on(&node, forked, within).await
        })
    })
    .await
}

/// Its files have their names.
async fn define(node: &Arc<Node>, twin: &Twin, platform: u16) -> Result<DomainId, Error> {
    let uuid = twin.def.uuid.unwrap_or_default();
    let name = twin.def.name.to_string();
    let stored = StoredDomain {
        uuid,
        name: name.clone(),
        generation: 1,
        autostart: false,
        turn: Turn::default(),
        platform,
        xml: twin.def.to_xml(),
    };
    let definition = Definition { stored, def: twin.def.clone() };
    let define = || Act::Define { definition: Box::new(definition.clone()), seed: None };
    let domain = DomainId { uuid, name };
    claim_and_act(node, &domain, define, SOON).await.map(|()| domain)
}

async fn remove_if_failed<T>(
    node: &Arc<Node>,
    twin: Twin,
    made: Result<T, Error>,
) -> Result<T, Error> {
    if made.is_err() {
        let node = node.clone();
        blocking(move || {
            twin.remove(&*node.broker);
            Ok(())
        })
        .await?;
    }
    made
}

async fn clone_running(cx: &Context, handle: Handle, name: String) -> Result<Job, Error> {
    let node = cx.node.clone();
    let start_within = cx.start_deadline();
    blocking(move || {
        let (jobs, object) = (node.jobs.clone(), name.clone());
        jobs.start("domain-clone", object, 0, move |progress| async move {
            let forked = Arc::new(OnceLock::new());
            let fork = Fork { name, forked: forked.clone() };
            handle.act(Act::Fork(fork, progress), LONGEST).await?;
            let Some(forked) = Arc::into_inner(forked).and_then(OnceLock::into_inner) else {
                return Err(Error::new(Code::Internal, "a clone has come to nothing"));
            };
            go_on(&node, forked, start_within).await
        })
    })
    .await
}

/// Define the twin, and let it go on from its memory. What was made for it goes if it cannot.
async fn go_on(node: &Arc<Node>, forked: Forked, within: Duration) -> Result<(), Error> {
    let Forked { twin, memory, platform, running } = forked;
    let def = twin.def.clone();
    let domain = match define(node, &twin, platform).await {
        Ok(domain) => domain,
        Err(error) => return remove_if_failed(node, twin, Err(error)).await,
    };
    let intent = RestoreIntent { managed: None, run: running, used: false };
    let from = FromSaved { file: memory, def: def.clone(), platform, intent };
    let start = || Act::Start {
        def: Some(Box::new(def.clone())),
        seed: None,
        how: Start::default(),
        from: Some(Box::new(from.clone())),
    };
    let started = claim_and_act(node, &domain, start, within).await;
    if started.is_err() {
        let forget = Undefine { variables: Some(Variables::Keep), ..Undefine::default() };
        let undefine = || Act::Undefine(forget);
        claim_and_act(node, &domain, undefine, SOON).await?;
    }
    remove_if_failed(node, twin, started).await
}
