//! Jobs of domains: waited for, watched, aborted.
//!
//! libvirt knows no job by itself, only the one that a domain has: here it is the one that works on
//! the domain's name.

use std::time::Duration;

use management::jobs::{Job, Phase};
use management::ops::{AbortJob, FindDomain, GetJob, ListJobs};

use super::super::failure::{Area, Failure, known_flags};
use super::super::protocol::object::Domain;
use super::super::protocol::typed::{Parameters, Value};
use super::Client;

/// Between two looks at a job.
const LOOK: Duration = Duration::from_secs(30);

/// Callers of libvirt wait for what takes long. The job does not wait for them: it goes on when
/// they have gone.
pub(super) async fn ended(client: &Client, area: Area, job: &Job) -> Result<(), Failure> {
    loop {
        let job = client.ask(area, GetJob { job: job.id, wait: LOOK }).await?;
        match job.phase {
            Phase::Running => {}
            Phase::Done => return Ok(()),
            Phase::Failed | Phase::Cancelled | Phase::Interrupted => {
                let reason = job.error.unwrap_or_else(|| job.phase.name().to_owned());
                let text = format!("{} of {:?}: {reason}", job.kind, job.object);
                return Err(Failure::operation_failed(area, &text));
            }
        }
    }
}

/// virDomainJobOperation, of those kinds of jobs that stand in a domain's way. Block jobs are none to
/// libvirt: they are asked for disk by disk.
fn operation(kind: &str) -> Option<i32> {
    const SAVE: i32 = 2;
    const SNAPSHOT: i32 = 6;
    const SNAPSHOT_REVERT: i32 = 7;
    const DUMP: i32 = 8;
    const BACKUP: i32 = 9;
    const SNAPSHOT_DELETE: i32 = 10;
    match kind {
        "domain-save" | "domain-managed-save" => Some(SAVE),
        "domain-snapshot" => Some(SNAPSHOT),
        "domain-snapshot-revert" => Some(SNAPSHOT_REVERT),
        "domain-dump" => Some(DUMP),
        "domain-backup" => Some(BACKUP),
        "domain-snapshot-delete" => Some(SNAPSHOT_DELETE),
        _ => None,
    }
}

/// Whether what it moves are disks, and not memory.
fn moves_disks(job: &Job) -> bool {
    matches!(&*job.kind, "domain-backup" | "domain-snapshot-delete")
}

/// Its latest job that does, or does not, run.
async fn latest(client: &Client, domain: &Domain, runs: bool) -> Result<Option<Job>, Failure> {
    let name = client.domain(FindDomain { domain: domain.reference() }).await?.name;
    let wanted = |job: &Job| {
        job.object == name
            && operation(&job.kind).is_some()
            && (job.phase == Phase::Running) == runs
    };
    Ok(client.domain(ListJobs).await?.into_iter().rev().find(wanted))
}

/// virDomainJobType.
fn kind(job: &Job) -> i32 {
    const BOUNDED: i32 = 1;
    const UNBOUNDED: i32 = 2;
    const COMPLETED: i32 = 3;
    const FAILED: i32 = 4;
    const CANCELLED: i32 = 5;
    match job.phase {
        // How much there is to do is known a little later than that there is something.
        Phase::Running if job.total == 0 => UNBOUNDED,
        Phase::Running => BOUNDED,
        Phase::Done => COMPLETED,
        Phase::Failed | Phase::Interrupted => FAILED,
        Phase::Cancelled => CANCELLED,
    }
}

/// Milliseconds.
fn elapsed(job: &Job) -> u64 {
    let until = job.ended.unwrap_or_else(jiff::Timestamp::now);
    u64::try_from(until.duration_since(job.started).as_millis()).unwrap_or(0)
}

fn remaining(job: &Job) -> u64 {
    job.total.saturating_sub(job.done)
}

/// Its type, times, and what is done of all data, of memory and of files.
type JobInfo = (i32, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64);

pub(crate) async fn info(client: Client, domain: Domain) -> Result<JobInfo, Failure> {
    let Some(job) = latest(&client, &domain, true).await? else {
        return Ok((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    };
    let (total, done, left) = (job.total, job.done, remaining(&job));
    // All of it is memory, or all of it is disks.
    let (memory, files) = match moves_disks(&job) {
        true => ((0, 0, 0), (total, done, left)),
        false => ((total, done, left), (0, 0, 0)),
    };
    let (kind, time) = (kind(&job), elapsed(&job));
    let ((m0, m1, m2), (f0, f1, f2)) = (memory, files);
    Ok((kind, time, 0, total, done, left, m0, m1, m2, f0, f1, f2))
}

pub(crate) async fn stats(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(i32, Parameters), Failure> {
    const COMPLETED: u32 = 1;
    // They are kept in any case, as long as the daemon keeps jobs.
    const KEEP: u32 = 2;
    known_flags(flags, COMPLETED | KEEP, "virDomainGetJobStats")?;
    let job = latest(&client, &domain, flags & COMPLETED == 0).await?;
    Ok(job.map_or_else(Default::default, |job| (kind(&job), parameters(&job))))
}

fn parameters(job: &Job) -> Parameters {
    let mut all = Parameters::default();
    all.int("operation", operation(&job.kind).unwrap_or(0));
    all.ullong("time_elapsed", elapsed(job));
    let part = if moves_disks(job) { "disk" } else { "memory" };
    for what in ["data", part] {
        all.ullong(format!("{what}_total"), job.total);
        all.ullong(format!("{what}_processed"), job.done);
        all.ullong(format!("{what}_remaining"), remaining(job));
    }
    if job.ended.is_some() {
        all.add("success", Value::Boolean(job.phase == Phase::Done));
    }
    if let Some(error) = &job.error {
        all.string("errmsg", error);
    }
    all
}

pub(crate) async fn abort(client: Client, domain: Domain) -> Result<(), Failure> {
    abort_flags(client, (domain, 0)).await
}

pub(crate) async fn abort_flags(
    client: Client,
    (domain, flags): (Domain, u32),
) -> Result<(), Failure> {
    known_flags(flags, 0, "virDomainAbortJobFlags")?;
    let Some(job) = latest(&client, &domain, true).await? else {
        return Err(Failure::invalid_state(Area::Domain, "no job is active on the domain"));
    };
    client.domain(AbortJob { job: job.id }).await
}
