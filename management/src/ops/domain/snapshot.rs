//! Snapshots of domains: asked for, made, gone back to, forgotten.

use std::time::Duration;

use xml::domain::Name;
use xml::snapshot::SnapshotDef;

use super::query::without_secrets;
use crate::agent;
use crate::auth::{Access, Subject};
use crate::domain::DomainRef;
use crate::domain::actor::blocking;
use crate::domain::handle::{Act, Handle};
use crate::domain::snapshot::{Create, Delete, Revert, SnapshotAct, begin_deletion};
use crate::error::{Code, Error};
use crate::jobs::Job;
use crate::manager::{Context, Operation};
use crate::snapshots::Snapshot;
use crate::store::StoredSnapshots;
use crate::translate::invalid;

pub use crate::domain::snapshot::Reach as DeleteReach;

/// As long as memory takes to its disk, or an overlay into the image below it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A snapshot as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotView {
    pub name: String,
    pub description: Option<String>,
    /// libvirt's word: what the domain did.
    pub state: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    pub parent: Option<String>,
    pub current: bool,
    /// Some part of it lies in files of its own.
    pub external: bool,
    pub children: usize,
    pub descendants: usize,
}

fn view(set: &StoredSnapshots, snapshot: &Snapshot) -> SnapshotView {
    let name = snapshot.name();
    SnapshotView {
        name: name.to_owned(),
        description: snapshot.def.description.clone(),
        state: snapshot.state().name(),
        created: snapshot.def.creation_time.unwrap_or_default(),
        parent: snapshot.def.parent().map(str::to_owned),
        current: set.current.as_deref() == Some(name),
        external: snapshot.def.is_external(),
        children: set.children(name).count(),
        descendants: set.descendants(name).len(),
    }
}

/// All snapshots of a domain, parents before their children (virDomainListAllSnapshots).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSnapshots {
    pub domain: DomainRef,
}

impl Operation for ListSnapshots {
    type Output = Vec<SnapshotView>;
    const NAME: &'static str = "domain.snapshot.list";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<SnapshotView>, Error> {
        let set = cx.node.snapshots.of(cx.find(&self.domain)?.uuid);
        Ok(set.in_order().into_iter().map(|snapshot| view(&set, snapshot)).collect())
    }
}

/// One snapshot of a domain (virDomainSnapshotLookupByName); none named: the current one
/// (virDomainSnapshotCurrent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribeSnapshot {
    pub domain: DomainRef,
    pub name: Option<String>,
}

impl Operation for DescribeSnapshot {
    type Output = SnapshotView;
    const NAME: &'static str = "domain.snapshot.describe";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<SnapshotView, Error> {
        let domain = cx.find(&self.domain)?.view();
        let set = cx.node.snapshots.of(domain.uuid);
        let name = self.name.or_else(|| set.current.clone()).ok_or_else(|| {
            let text = format!("domain {:?} has no current snapshot", domain.name);
            Error::new(Code::NotFound, text)
        })?;
        Ok(view(&set, set.find(&name, &domain.name)?))
    }
}

/// A snapshot in libvirt's words (virDomainSnapshotGetXMLDesc), without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSnapshot {
    pub domain: DomainRef,
    pub name: String,
}

impl Operation for DumpSnapshot {
    type Output = String;
    const NAME: &'static str = "domain.snapshot.xml";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let domain = cx.find(&self.domain)?.view();
        let set = cx.node.snapshots.of(domain.uuid);
        let mut def = set.find(&self.name, &domain.name)?.def.clone();
        def.domain = def.domain.map(without_secrets);
        def.inactive_domain = def.inactive_domain.map(without_secrets);
        Ok(def.to_xml())
    }
}

/// The same with all secrets of the domain's definitions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpSecureSnapshot {
    pub domain: DomainRef,
    pub name: String,
}

impl Operation for DumpSecureSnapshot {
    type Output = String;
    const NAME: &'static str = "domain.snapshot.secure-xml";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let domain = cx.find(&self.domain)?.view();
        let set = cx.node.snapshots.of(domain.uuid);
        Ok(set.find(&self.name, &domain.name)?.def.to_xml())
    }
}

/// What was begun, and about which snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotJob {
    pub name: String,
    pub job: Job,
}

/// Make a snapshot (virDomainSnapshotCreateXML), which is a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshot {
    pub domain: DomainRef,
    /// libvirt snapshot XML.
    pub xml: String,
    /// Nothing of the memory, and disks in overlays where nothing else is said.
    pub disk_only: bool,
    /// The overlays are there already.
    pub reuse_external: bool,
    /// Nobody is to know of it afterwards.
    pub no_metadata: bool,
    /// The guest's agent holds its file systems still meanwhile.
    pub quiesce: bool,
    /// Power is cut when it is made.
    pub halt: bool,
    /// The guest runs while most of its memory is kept.
    pub live: bool,
}

impl Operation for CreateSnapshot {
    type Output = SnapshotJob;
    const NAME: &'static str = "domain.snapshot.create";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<SnapshotJob, Error> {
        let handle = cx.find(&self.domain)?;
        let mut def = SnapshotDef::parse(&self.xml).map_err(invalid)?.value;
        let name = match def.name.clone() {
            Some(name) => name,
            None => usual_name(&cx.node.snapshots.of(handle.uuid))?,
        };
        def.name = Some(name.clone());
        if self.quiesce && !self.disk_only {
            let text = "file systems are held still (--quiesce) for a snapshot of the disks alone \
                        (--disk-only): with its memory, a guest needs no rest";
            return Err(Error::new(Code::InvalidArgument, text));
        }
        // What the snapshot was is found out when it is made.
        (def.domain, def.inactive_domain, def.parent) = (None, None, None);
        (def.state, def.creation_time, def.cookie, def.active) = (None, None, None, None);
        let create = Create {
            def,
            disk_only: self.disk_only,
            reuse_external: self.reuse_external,
            forget: self.no_metadata,
            halt: self.halt,
            live: self.live,
        };
        let act = SnapshotAct::Create(Box::new(create));
        let job = start(cx, &handle, "domain-snapshot", act, self.quiesce).await?;
        Ok(SnapshotJob { name: name.to_string(), job })
    }
}

/// As libvirt: the time, made different where there is such a one.
fn usual_name(set: &StoredSnapshots) -> Result<Name, Error> {
    let now = jiff::Timestamp::now().as_second();
    let names = (now..).map(|second| second.to_string());
    let free = names.take(crate::snapshots::MOST + 1).find(|name| set.get(name).is_none());
    let name = free.and_then(|name| name.parse().ok());
    name.ok_or_else(|| Error::new(Code::Internal, "no name is left for a snapshot"))
}

/// Whether it can begin is told at once; how it went, by the job.
async fn start(
    cx: &Context,
    handle: &Handle,
    kind: &'static str,
    act: SnapshotAct,
    quiesce: bool,
) -> Result<Job, Error> {
    let (jobs, handle) = (cx.node.jobs.clone(), handle.clone());
    let name = handle.view().name;
    blocking(move || {
        jobs.start(kind, name, 0, move |progress| async move {
            if quiesce {
                agent::freeze_until_thawed(&handle).await?;
            }
            let done = handle.act(Act::Snapshot(act, progress), LONGEST).await;
            if quiesce {
                // Also when it came to nothing.
                let thawed = agent::thaw(&handle).await;
                return done.and(thawed.map(drop));
            }
            done
        })
    })
    .await
}

/// Tell a snapshot anew, or one of a domain that came from elsewhere
/// (virDomainSnapshotCreateXML with VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE). Its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedefineSnapshot {
    pub domain: DomainRef,
    /// libvirt snapshot XML.
    pub xml: String,
    /// It is the current one from now on.
    pub current: bool,
}

impl Operation for RedefineSnapshot {
    type Output = String;
    const NAME: &'static str = "domain.snapshot.redefine";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<String, Error> {
        let def = SnapshotDef::parse(&self.xml).map_err(invalid)?.value;
        let name = def.name().to_owned();
        let act = SnapshotAct::Redefine(Box::new(def), self.current);
        let progress = std::sync::Arc::new(crate::jobs::Progress::new(0));
        cx.act(&self.domain, Act::Snapshot(act, progress)).await?;
        Ok(name)
    }
}

/// Have a domain be what it was (virDomainRevertToSnapshot), which is a job. What its disks became
/// since its last snapshot is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevertToSnapshot {
    pub domain: DomainRef,
    pub name: String,
    /// Whether the guest is to run then, or to wait; none: as it did.
    pub running: Option<bool>,
    /// Also where something may be lost that is not told otherwise.
    pub force: bool,
    /// Make the firmware's variables anew.
    pub reset_variables: bool,
}

impl Operation for RevertToSnapshot {
    type Output = Job;
    const NAME: &'static str = "domain.snapshot.revert";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let handle = cx.find(&self.domain)?;
        let view = handle.view();
        let set = cx.node.snapshots.of(handle.uuid);
        let revert = Revert {
            name: self.name,
            run: self.running,
            force: self.force,
            reset_variables: self.reset_variables,
        };
        // Told at once, by a code of its own: callers ask again with force.
        revert.check_risk(set.find(&revert.name, &view.name)?, view.live.is_some(), &view.name)?;
        let act = SnapshotAct::Revert(revert);
        start(cx, &handle, "domain-snapshot-revert", act, false).await
    }
}

/// Forget a snapshot, and what it alone needs (virDomainSnapshotDelete), which is a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteSnapshot {
    pub domain: DomainRef,
    pub name: String,
    pub reach: DeleteReach,
    /// What it holds stays.
    pub metadata_only: bool,
}

impl Operation for DeleteSnapshot {
    type Output = Job;
    const NAME: &'static str = "domain.snapshot.delete";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let handle = cx.find(&self.domain)?;
        cx.node.snapshots.of(handle.uuid).find(&self.name, &handle.view().name)?;
        let Self { name, reach, metadata_only, .. } = self;
        let delete = Delete { name, reach, metadata_only };
        let node = cx.node.clone();
        blocking(move || begin_deletion(&node, handle, delete)).await
    }
}
