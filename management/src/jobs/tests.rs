use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Job, Jobs, Phase};
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::journal::Journal;
use crate::store::{Disk, Vfs};

struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Arc<Jobs> {
        let journal = Journal::open(self.dir.path(), false);
        Arc::new(Jobs::open(Arc::new(Disk), self.dir.path(), journal))
    }
}

async fn ended(jobs: &Jobs, id: Uuid) -> Job {
    tokio::time::timeout(Duration::from_secs(10), jobs.ended(id)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_job_ends_as_its_work_does_and_is_remembered() {
    let rig = Rig::new();
    let jobs = rig.open();
    let done = jobs.start("test", "a".into(), 10, async |progress| {
        progress.at(4).map_err(|error| Error::new(Code::Internal, error.to_string()))
    });
    let failed =
        jobs.start("test", "b".into(), 10, async |_| Err(Error::new(Code::NoSpace, "it is full")));
    let (done, failed) = (done.unwrap().id, failed.unwrap().id);
    let job = ended(&jobs, done).await;
    assert_eq!((job.phase, job.done, job.total), (Phase::Done, 10, 10));
    let job = ended(&jobs, failed).await;
    assert_eq!((job.phase, job.error.as_deref()), (Phase::Failed, Some("it is full")));
    assert_eq!(jobs.cancel(done).unwrap_err().code, Code::InvalidState);
    let again = rig.open();
    assert_eq!(again.all(), jobs.all());
}

#[tokio::test]
async fn a_job_stops_when_it_is_told_to() {
    let rig = Rig::new();
    let jobs = rig.open();
    let mut events = jobs.journal.subscribe(None, None);
    let job = jobs.start("test", "a".into(), 10, async |progress| {
        loop {
            progress.at(3).map_err(|error| Error::new(Code::HostFailure, error.to_string()))?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let id = job.unwrap().id;
    jobs.cancel(id).unwrap();
    assert_eq!(ended(&jobs, id).await.phase, Phase::Cancelled);
    let mut phases = Vec::new();
    while phases.last().is_none_or(|phase| phase == "running") {
        if let EventKind::Job { phase, .. } = events.next().await.unwrap().kind {
            phases.push(phase);
        }
    }
    assert_eq!(
        (phases.first(), phases.last()),
        (Some(&"running".into()), Some(&"cancelled".into()))
    );
}

#[tokio::test]
async fn a_job_of_a_daemon_that_died_was_interrupted() {
    let rig = Rig::new();
    let jobs = rig.open();
    let job = jobs.start("test", "a".into(), 10, async |_| std::future::pending().await);
    let id = job.unwrap().id;
    // The other daemon, which finds what this one left.
    let next = rig.open();
    assert_eq!(next.get(id).unwrap().phase, Phase::Interrupted);
    assert_eq!(next.cancel(id).unwrap_err().code, Code::InvalidState);
    assert_eq!(next.cancel(Uuid::nil()).unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn a_panic_in_the_work_ends_the_job() {
    let rig = Rig::new();
    let jobs = rig.open();
    let job = jobs.start("test", "a".into(), 1, async |_| panic!("a defect"));
    assert_eq!(ended(&jobs, job.unwrap().id).await.phase, Phase::Failed);
}

#[tokio::test]
async fn old_jobs_are_forgotten_and_strange_files_do_no_harm() {
    let rig = Rig::new();
    let dir = rig.dir.path().join("jobs");
    Disk.make_dir(&dir).unwrap();
    for name in ["x.json", "y.tmp"] {
        std::fs::write(dir.join(name), "{").unwrap();
    }
    let jobs = rig.open();
    for _ in 0..super::KEPT + 20 {
        let id = jobs.start("test", "a".into(), 1, async |_| Ok(())).unwrap().id;
        ended(&jobs, id).await;
    }
    // The last one may still be counted.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(jobs.all().len(), super::KEPT);
    assert_eq!(files(&dir), super::KEPT);
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}
