//! The job of a backup: it looks at what the VMM does, and tidies up behind it.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;
use vmm_protocol::backup::{BackupPhase, BackupStatus};
use vmm_protocol::control::{Reply, Request};

use super::record::BackupRecord;
use super::{Shared, remove};
use crate::control::{Vmm, VmmError};
use crate::domain::actor::{blocking, vmm_error};
use crate::domain::handle::View;
use crate::error::{Code, Error};
use crate::jobs::{Job, Progress};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(200);
pub(super) const TOLD: Duration = Duration::from_secs(10);

/// Begin to watch the backup that domain `name`, which runs in `dir`, has. If nobody can, it is ended.
pub(crate) async fn watch(
    node: Shared,
    name: String,
    dir: PathBuf,
    vmm: Vmm,
) -> Result<Job, Error> {
    let (watched, watcher) = (Watched { node: node.clone(), name, dir, vmm }, node.jobs.clone());
    let spare = watched.clone();
    let begun = blocking(move || {
        let name = watched.name.clone();
        watcher.start("domain-backup", name, 0, move |progress| async move {
            match look(&watched.name, &watched.vmm, &progress).await {
                // It may go on: the domain's actor knows when the VMM is gone, or answers again.
                Err(Trouble::Lost(error)) => Err(error),
                Err(Trouble::Failed(error)) => watched.end(Err(error)).await,
                Ok(()) => watched.end(Ok(())).await,
            }
        })
    });
    let begun = begun.await;
    if begun.is_err() {
        let nobody = Error::new(Code::HostFailure, "nobody watches it");
        let _ = spare.end(Err(nobody)).await;
    }
    begun
}

/// A backup that is under way.
#[derive(Clone)]
struct Watched {
    node: Shared,
    name: String,
    dir: PathBuf,
    vmm: Vmm,
}

impl Watched {
    /// Whatever it came to: the guest shall not go on saving what nobody reads, and targets that hold
    /// nothing whole are removed.
    async fn end(self, ended: Result<(), Error>) -> Result<(), Error> {
        let Self { node, name, dir, vmm } = self;
        let told = vmm.tell(Request::BackupEnd, TOLD).await;
        let failed = ended.is_err();
        let forgotten = blocking(move || {
            let record = BackupRecord::read(&dir).filter(|_| failed);
            remove(&*node.broker, &record.map(|record| record.made).unwrap_or_default());
            BackupRecord::remove(&dir);
            Ok(())
        });
        forgotten.await?;
        ended.and(told.map_err(|error| vmm_error(&name, error)))
    }
}

enum Trouble {
    Failed(Error),
    /// The connection, and nobody knows what became of the backup.
    Lost(Error),
}

async fn look(name: &str, vmm: &Vmm, progress: &Progress) -> Result<(), Trouble> {
    loop {
        if progress.is_cancelled() {
            let text = "the backup was ended";
            return Err(Trouble::Failed(Error::new(Code::InvalidState, text)));
        }
        match status(vmm).await {
            // Somebody else has ended it.
            Ok(None) => return Ok(()),
            Ok(Some(status)) => {
                progress.set_total(status.total);
                let _ = progress.at(status.done);
                match status.phase {
                    BackupPhase::Running => {}
                    BackupPhase::Done => return Ok(()),
                    BackupPhase::Failed(reason) => {
                        let reason = crate::domain::clean(&reason);
                        let full = reason.contains("os error 28");
                        let code = if full { Code::NoSpace } else { Code::VmmFailed };
                        let text = format!(
                            "the backup of domain {name:?} failed, and the guest runs on: {reason}"
                        );
                        return Err(Trouble::Failed(Error::new(code, text)));
                    }
                }
            }
            // A guest that keeps its host busy.
            Err(VmmError::Timeout(_)) => {}
            Err(error @ VmmError::Refused(_)) => {
                return Err(Trouble::Failed(vmm_error(name, error)));
            }
            Err(error) => return Err(Trouble::Lost(vmm_error(name, error))),
        }
        sleep(LOOK).await;
    }
}

async fn status(vmm: &Vmm) -> Result<Option<BackupStatus>, VmmError> {
    match vmm.ask(Request::BackupStatus, TOLD).await? {
        Reply::Backup(status) => Ok(status),
        _ => Err(VmmError::Unexpected),
    }
}

/// What the backup that a domain has was asked for.
pub(crate) fn backup_xml(view: &View) -> Result<String, Error> {
    let record = view.live.as_ref().and_then(|live| BackupRecord::read(&live.run_dir));
    let record = record.ok_or_else(|| {
        let text = format!("domain {:?} has no backup under way", view.name);
        Error::new(Code::InvalidState, text)
    })?;
    Ok(record.xml)
}
