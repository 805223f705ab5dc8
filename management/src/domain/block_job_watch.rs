//! A block job as one of the daemon's jobs: watched, and aborted when that is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use vmm_protocol::block_job::BlockJobKind;
use vmm_protocol::control::{Reply, Request};

use super::block_jobs::{ANSWER, BlockJobView};
use super::handle::{Act, Handle};
use crate::error::{Code, Error};
use crate::events::BlockJobChange;
use crate::jobs::{Job, Jobs};
use crate::translate;

/// How often the VMM is asked how far it is.
const LOOKED_EACH: Duration = Duration::from_millis(500);

pub(crate) fn name(kind: BlockJobKind) -> &'static str {
    match kind {
        BlockJobKind::Pull => "block-pull",
        BlockJobKind::Commit | BlockJobKind::ActiveCommit => "block-commit",
        BlockJobKind::Copy => "block-copy",
    }
}

/// Begin the job that is over when `ended` says so.
pub(crate) fn watch(
    jobs: &Arc<Jobs>,
    handle: Handle,
    target: &str,
    kind: BlockJobKind,
    ended: oneshot::Receiver<BlockJobChange>,
) -> Result<Job, Error> {
    let object = format!("{}/{target}", handle.view().name);
    let target = target.to_owned();
    jobs.start(name(kind), object, 0, move |progress| async move {
        let mut ended = ended;
        loop {
            match tokio::time::timeout(LOOKED_EACH, &mut ended).await {
                Ok(Ok(BlockJobChange::Failed { error })) => {
                    return Err(Error::new(Code::VmmFailed, error));
                }
                Ok(Ok(BlockJobChange::Cancelled)) => {
                    // Also when it was ended as a block job, and not as one of these.
                    progress.cancel();
                    return Err(Error::new(Code::InvalidState, "it was ended"));
                }
                Ok(Ok(BlockJobChange::Completed | BlockJobChange::Ready)) => return Ok(()),
                Ok(Err(_)) => {
                    return Err(Error::new(Code::InvalidState, "the domain has ended meanwhile"));
                }
                Err(_) => {}
            }
            if progress.is_cancelled() {
                let end = Act::EndBlockJob { disk: target.clone(), pivot: false };
                handle.act(end, ANSWER).await?;
                continue;
            }
            let all = list(&handle).await.unwrap_or_default();
            if let Some(job) = all.iter().find(|job| job.target == target) {
                progress.set_total(job.total);
                // It hears of its end by itself.
                let _ = progress.at(job.done);
            }
        }
    })
}

/// The block jobs of a running domain.
pub(crate) async fn list(handle: &Handle) -> Result<Vec<BlockJobView>, Error> {
    let view = handle.view();
    let stopped = || {
        let text = format!("domain {:?} is not running", view.name);
        Error::new(Code::InvalidState, text)
    };
    let live = view.live.as_ref().ok_or_else(stopped)?;
    let vmm = view.vmm.as_ref().ok_or_else(|| {
        Error::new(
            Code::VmmUnreachable,
            format!("the VMM of domain {:?} does not answer", view.name),
        )
    })?;
    let answer = vmm.ask(Request::BlockJobs, ANSWER).await;
    let answer = answer.map_err(|error| super::actor::vmm_error(&view.name, error))?;
    let Reply::BlockJobs(jobs) = answer else {
        return Err(Error::new(Code::VmmFailed, "the VMM answers something else"));
    };
    let def = translate::with_aliases(&live.def);
    let disks = def.devices.disks.iter();
    let views = disks.filter_map(|disk| {
        let alias = disk.alias.as_deref();
        let job = jobs.iter().find(|job| Some(&*job.id) == alias && !job.phase.has_ended())?;
        Some(BlockJobView {
            target: disk.target.dev.clone(),
            kind: job.kind,
            ready: job.phase == vmm_protocol::block_job::BlockJobPhase::Ready,
            done: job.done.min(job.total),
            total: job.total,
            bandwidth: job.bandwidth,
        })
    });
    Ok(views.collect())
}
