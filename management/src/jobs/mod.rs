//! Jobs: long work that one can watch and abort.
//!
//! ```text
//! start ─→ running ─→ done | failed | cancelled
//!             └─ the daemon died ─→ interrupted
//! ```
//! Each phase is on disk before anyone hears of it, so that a job which no daemon works on any more
//! is known as such. What a job had half made is swept up where it lies (see [`crate::storage`]).

mod progress;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use progress::Progress;

use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::journal::Journal;
use crate::store::Vfs;

/// Jobs that have ended and can still be asked for.
const KEPT: usize = 200;
/// How often a job's progress is an event.
const TOLD_EACH: Duration = Duration::from_secs(1);

/// A job as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: Uuid,
    /// `volume-clone`, `volume-wipe` …
    pub kind: String,
    /// What it works on: `default/web.qcow2`.
    pub object: String,
    pub phase: Phase,
    /// Bytes.
    pub done: u64,
    pub total: u64,
    pub started: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<jiff::Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Running,
    Done,
    Failed,
    Cancelled,
    /// The daemon that did it died.
    Interrupted,
}

impl Phase {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

pub(crate) struct Jobs {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    journal: Arc<Journal>,
    table: Mutex<BTreeMap<Uuid, Entry>>,
    /// Counts the jobs that have ended.
    ended: watch::Sender<u64>,
}

struct Entry {
    job: Job,
    /// Of one that runs.
    progress: Option<Arc<Progress>>,
}

impl Entry {
    fn view(&self) -> Job {
        let mut job = self.job.clone();
        if let Some(progress) = &self.progress {
            (job.done, job.total) = progress.figures();
        }
        job
    }
}

impl Jobs {
    /// Take up what is known in `state`; what runs there was a former daemon's.
    pub(crate) fn open(vfs: Arc<dyn Vfs>, state: &Path, journal: Arc<Journal>) -> Self {
        let dir = state.join("jobs");
        let (ended, _) = watch::channel(0);
        let jobs = Self { vfs, dir, journal, table: Mutex::default(), ended };
        if let Err(error) = jobs.vfs.make_dir(&jobs.dir) {
            tracing::error!(%error, dir = %jobs.dir.display(), "jobs are kept in memory only");
        }
        for name in jobs.vfs.list(&jobs.dir).unwrap_or_default() {
            let path = jobs.dir.join(&name);
            let read = jobs.vfs.read(&path).ok();
            let job = read.and_then(|bytes| serde_json::from_slice::<Job>(&bytes).ok());
            match job.filter(|job| name == file_name(job.id)) {
                Some(job) => {
                    jobs.table().insert(job.id, Entry { job, progress: None });
                }
                // Unfinished, or unreadable: nobody needs it.
                None => drop(jobs.vfs.remove(&path)),
            }
        }
        let running = |entry: &Entry| entry.job.phase == Phase::Running;
        let left: Vec<_> = jobs.table().values().filter(|e| running(e)).map(Entry::view).collect();
        for job in left {
            tracing::warn!(job = %job.id, kind = job.kind, object = job.object, "was interrupted");
            jobs.settle(Job { phase: Phase::Interrupted, ended: Some(now()), ..job });
        }
        jobs.forget_old();
        jobs
    }

    /// Begin `work`, which is over when its future is. It asks its [`Progress`] whether to go on.
    pub(crate) fn start<F>(
        self: &Arc<Self>,
        kind: &str,
        object: String,
        total: u64,
        work: impl FnOnce(Arc<Progress>) -> F,
    ) -> Result<Job, Error>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let progress = Arc::new(Progress::new(total));
        let job = Job {
            id: Uuid::new_v4(),
            kind: kind.to_owned(),
            object,
            phase: Phase::Running,
            done: 0,
            total,
            started: now(),
            ended: None,
            error: None,
        };
        self.write(&job).map_err(|source| {
            let full = source.kind() == std::io::ErrorKind::StorageFull;
            let code = if full { Code::NoSpace } else { Code::HostFailure };
            let text = format!("the job could not be written in {}", self.dir.display());
            Error::new(code, text).with_source(source)
        })?;
        self.table().insert(job.id, Entry { job: job.clone(), progress: Some(progress.clone()) });
        self.tell(&job);
        let (jobs, begun, work) = (self.clone(), job.clone(), work(progress.clone()));
        // The work is a task of its own: a defect in it ends the job, not the watch over it.
        let mut work = tokio::spawn(work);
        tokio::spawn(async move {
            let mut told = 0;
            let result = loop {
                match tokio::time::timeout(TOLD_EACH, &mut work).await {
                    Ok(result) => break result,
                    Err(_) => {
                        let (done, total) = progress.figures();
                        if done != told {
                            jobs.tell(&Job { done, total, ..begun.clone() });
                        }
                        told = done;
                    }
                }
            };
            let result = result.unwrap_or_else(|error| {
                Err(Error::new(Code::Internal, "the job's task failed").with_source(error))
            });
            jobs.end(begun, &progress, result).await;
        });
        Ok(job)
    }

    async fn end(self: Arc<Self>, job: Job, progress: &Progress, result: Result<(), Error>) {
        let (done, total) = progress.figures();
        let (phase, error) = match result {
            Ok(()) => (Phase::Done, None),
            Err(_) if progress.is_cancelled() => (Phase::Cancelled, None),
            Err(error) => (Phase::Failed, Some(error.chain())),
        };
        let done = if phase == Phase::Done { total } else { done };
        let job = Job { phase, error, done, total, ended: Some(now()), ..job };
        tracing::info!(job = %job.id, kind = job.kind, object = job.object, phase = phase.name(),
            error = job.error, "job ended");
        let jobs = self;
        let settled = tokio::task::spawn_blocking(move || {
            jobs.settle(job);
            jobs.forget_old();
        });
        // It does not panic, and a daemon that stops needs it no more.
        let _ = settled.await;
    }

    pub(crate) fn all(&self) -> Vec<Job> {
        let mut all: Vec<_> = self.table().values().map(Entry::view).collect();
        all.sort_by_key(|job| job.started);
        all
    }

    pub(crate) fn get(&self, id: Uuid) -> Result<Job, Error> {
        self.table().get(&id).map(Entry::view).ok_or_else(|| unknown(id))
    }

    /// Ask a job to stop. It has stopped when its phase says so.
    pub(crate) fn cancel(&self, id: Uuid) -> Result<(), Error> {
        let table = self.table();
        let entry = table.get(&id).ok_or_else(|| unknown(id))?;
        let Some(progress) = &entry.progress else {
            let text = format!("job {id} has ended: {}", entry.job.phase.name());
            return Err(Error::new(Code::InvalidState, text));
        };
        progress.cancel();
        Ok(())
    }

    /// What a job has come to; on disk, then told.
    fn settle(&self, job: Job) {
        if let Err(error) = self.write(&job) {
            // The next daemon will take it for interrupted; what it made is there all the same.
            tracing::error!(%error, job = %job.id, "a job's end cannot be written");
        }
        self.table().insert(job.id, Entry { job: job.clone(), progress: None });
        self.tell(&job);
        self.ended.send_modify(|count| *count += 1);
    }

    /// A job once it has ended.
    pub(crate) async fn ended(&self, id: Uuid) -> Result<Job, Error> {
        let mut ended = self.ended.subscribe();
        loop {
            let job = self.get(id)?;
            // The sender is here as long as we are.
            if job.phase != Phase::Running || ended.changed().await.is_err() {
                return Ok(job);
            }
        }
    }

    fn forget_old(&self) {
        let mut table = self.table();
        let mut ended: Vec<_> =
            table.values().filter_map(|e| Some((e.job.ended?, e.job.id))).collect();
        ended.sort();
        let count = ended.len().saturating_sub(KEPT);
        for (_, id) in ended.into_iter().take(count) {
            table.remove(&id);
            let _ = self.vfs.remove(&self.dir.join(file_name(id)));
        }
    }

    fn write(&self, job: &Job) -> std::io::Result<()> {
        let path = self.dir.join(file_name(job.id));
        let unfinished = path.with_extension("tmp");
        self.vfs.create_synced(&unfinished, &serde_json::to_vec(job)?)?;
        self.vfs.rename(&unfinished, &path)?;
        self.vfs.sync_dir(&self.dir)
    }

    fn tell(&self, job: &Job) {
        let kind = EventKind::Job {
            job: job.id,
            kind: job.kind.clone(),
            object: job.object.clone(),
            phase: job.phase.name().to_owned(),
            done: job.done,
            total: job.total,
            reason: job.error.clone(),
        };
        self.journal.publish(None, kind, None);
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Uuid, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: Uuid) -> Error {
    Error::new(Code::NotFound, format!("there is no job {id}"))
}

fn file_name(id: Uuid) -> String {
    format!("{id}.json")
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
