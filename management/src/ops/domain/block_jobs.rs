//! Block jobs of running domains.

use tokio::sync::oneshot;

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::domain::block_job_watch;
use crate::domain::handle::Act;
use crate::domain::{BlockJobKind, BlockJobSpec, BlockJobView, DomainRef};
use crate::error::Error;
use crate::jobs::Job;
use crate::manager::{Context, Operation};

/// Begin a block job on a disk (virDomainBlockPull, virDomainBlockCommit, virDomainBlockCopy).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartBlockJob {
    pub domain: DomainRef,
    /// The disk's target (`vda`), or its image.
    pub disk: String,
    pub spec: BlockJobSpec,
    /// Bytes in a second; 0: as many as can be.
    pub bandwidth: u64,
}

impl Operation for StartBlockJob {
    type Output = Job;
    const NAME: &'static str = "domain.start-block-job";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let Self { domain, disk, spec, bandwidth } = self;
        let handle = cx.find(&domain)?;
        let kind = match &spec {
            BlockJobSpec::Pull { .. } => BlockJobKind::Pull,
            BlockJobSpec::Commit { .. } => BlockJobKind::Commit,
            BlockJobSpec::Copy { .. } | BlockJobSpec::CopyToServer(_) => BlockJobKind::Copy,
        };
        let (ended, hear) = oneshot::channel();
        let target = target_of(&handle.view(), &disk);
        cx.act(&domain, Act::StartBlockJob { disk, spec, bandwidth, ended }).await?;
        let jobs = cx.node.jobs.clone();
        blocking(move || block_job_watch::watch(&jobs, handle, &target, kind, hear)).await
    }
}

/// The target of the disk that is named so.
fn target_of(view: &crate::domain::handle::View, disk: &str) -> String {
    let def = view.live.as_ref().map(|live| &live.def);
    let at = def.and_then(|def| crate::domain::media::position(def, disk));
    let found = def.zip(at).map(|(def, at)| def.devices.disks[at].target.dev.clone());
    found.unwrap_or_else(|| disk.to_owned())
}

/// End the block job of a disk (virDomainBlockJobAbort): with `pivot` the guest uses the copy from
/// now on, else the disk stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndBlockJob {
    pub domain: DomainRef,
    pub disk: String,
    pub pivot: bool,
}

impl Operation for EndBlockJob {
    type Output = ();
    const NAME: &'static str = "domain.end-block-job";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, disk, pivot } = self;
        cx.act(&domain, Act::EndBlockJob { disk, pivot }).await
    }
}

/// Let a block job copy so many bytes in a second (virDomainBlockJobSetSpeed); 0: as many as can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitBlockJob {
    pub domain: DomainRef,
    pub disk: String,
    pub bandwidth: u64,
}

impl Operation for LimitBlockJob {
    type Output = ();
    const NAME: &'static str = "domain.limit-block-job";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        let Self { domain, disk, bandwidth } = self;
        cx.act(&domain, Act::LimitBlockJob { disk, bandwidth }).await
    }
}

/// The block jobs of a running domain (virDomainGetBlockJobInfo, for each disk).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBlockJobs {
    pub domain: DomainRef,
}

impl Operation for ListBlockJobs {
    type Output = Vec<BlockJobView>;
    const NAME: &'static str = "domain.list-block-jobs";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<BlockJobView>, Error> {
        block_job_watch::list(&cx.find(&self.domain)?).await
    }
}
