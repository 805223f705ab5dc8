//! blockcommit, blockpull, blockcopy, blockjob.

use std::time::{Duration, Instant};

use api::types::{BlockJob, BlockJobKind, BlockWork, Job, JobPhase, StartBlockJob};

use super::media::{absolute, find};
use super::{Session, read_document};
use crate::args::{Blockcommit, Blockcopy, Blockjob, Blockpull, Waits};
use crate::failure::{Exit, Failure};

const MIB: u64 = 1 << 20;
/// How often the daemon is asked how far a job is.
const LOOKED_EACH: Duration = Duration::from_millis(200);

fn bandwidth(limit: Option<u64>, waits: &Waits) -> u64 {
    let limit = limit.unwrap_or(0);
    if waits.bytes { limit } else { limit.saturating_mul(MIB) }
}

/// What is done with a job of two stages, once both sides are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Pivot,
    End,
}

/// A job that was begun, and what virsh says of it.
struct Begun<'a> {
    session: &'a Session,
    domain: String,
    disk: String,
    job: Job,
    waits: &'a Waits,
    what: &'static str,
}

impl Begun<'_> {
    async fn now(&self) -> Result<Option<BlockJob>, Failure> {
        let jobs = self.session.client.block_jobs(&self.domain).await?;
        Ok(jobs.into_iter().find(|job| job.disk == self.disk))
    }

    /// Wait until it is ready, or has ended.
    async fn wait(&self) -> Result<(), Failure> {
        let deadline =
            self.waits.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        loop {
            let Some(job) = self.now().await? else { return self.outcome().await };
            if self.waits.verbose {
                let percent = percent(&job);
                self.session.terminal.say(&format!("\r{}: [{percent:3} %]", self.what));
            }
            if job.ready {
                return Ok(());
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.session.client.end_block_job(&self.domain, &self.disk, false).await?;
                return Err(Failure::other(format!("{} aborted: it took too long", self.what)));
            }
            tokio::time::sleep(LOOKED_EACH).await;
        }
    }

    /// What became of one that has ended.
    async fn outcome(&self) -> Result<(), Failure> {
        let job = self.session.client.job(&self.job.id.to_string(), 10_000).await?;
        match job.phase {
            JobPhase::Failed => Err(Failure::other(job.error.unwrap_or_default())),
            JobPhase::Cancelled => Err(Failure::other(format!("{} aborted", self.what))),
            _ => Ok(()),
        }
    }

    async fn end(&self, then: Then, done: &str, left: &str) -> Result<(), Failure> {
        let line = match then {
            Then::Nothing => "Now in synchronized phase",
            Then::Pivot => done,
            Then::End => left,
        };
        if then != Then::Nothing {
            let pivot = then == Then::Pivot;
            self.session.client.end_block_job(&self.domain, &self.disk, pivot).await?;
        }
        self.session.terminal.say(&format!("\n{line}\n"));
        Ok(())
    }
}

fn percent(job: &BlockJob) -> u64 {
    if job.ready || job.total_bytes == 0 {
        return if job.ready { 100 } else { 0 };
    }
    let hundredths = u128::from(job.done_bytes) * 100 / u128::from(job.total_bytes);
    // Not before it is so.
    u64::try_from(hundredths).unwrap_or(99).min(99)
}

async fn start<'a>(
    session: &'a Session,
    (domain, path): (&str, &str),
    work: BlockWork,
    bandwidth_bytes: u64,
    waits: &'a Waits,
    what: &'static str,
) -> Result<Begun<'a>, Failure> {
    let disk = find(session, domain, path, false).await?;
    let job = StartBlockJob { work, bandwidth_bytes };
    let job = session.of(domain, session.client.start_block_job(domain, &disk, &job)).await?;
    Ok(Begun { session, domain: domain.to_owned(), disk, job, waits, what })
}

pub(super) async fn blockcommit(session: &Session, args: Blockcommit) -> Result<(), Failure> {
    let then = match (args.pivot, args.keep_overlay) {
        (true, _) => Then::Pivot,
        (_, true) => Then::End,
        _ => Then::Nothing,
    };
    let active = args.active || then != Then::Nothing;
    let what = if active { "Active Block Commit" } else { "Block commit" };
    let speed = bandwidth(args.bandwidth, &args.waits);
    let Blockcommit { domain, path, base, shallow, top, delete, keep_relative, waits, .. } = args;
    let relative = keep_relative;
    let work = BlockWork::Commit { base, top, shallow, active, delete, relative };
    let begun = start(session, (&domain, &path), work, speed, &waits, what).await?;
    if !waits.wait && then == Then::Nothing {
        session.terminal.say(&format!("{what} started\n"));
        return Ok(());
    }
    begun.wait().await?;
    if active {
        let left = "Commit complete, overlay image kept";
        return begun.end(then, "Successfully pivoted", left).await;
    }
    session.terminal.say("\nCommit complete\n");
    Ok(())
}

pub(super) async fn blockpull(session: &Session, args: Blockpull) -> Result<(), Failure> {
    let speed = bandwidth(args.bandwidth, &args.waits);
    let Blockpull { domain, path, base, keep_relative, waits, .. } = args;
    let work = BlockWork::Pull { base, relative: keep_relative };
    let begun = start(session, (&domain, &path), work, speed, &waits, "Block Pull").await?;
    if !waits.wait {
        session.terminal.say("Block Pull started\n");
        return Ok(());
    }
    begun.wait().await?;
    session.terminal.say("\nPull complete\n");
    Ok(())
}

pub(super) async fn blockcopy(session: &Session, args: Blockcopy) -> Result<(), Failure> {
    let then = match (args.pivot, args.finish) {
        (true, _) => Then::Pivot,
        (_, true) => Then::End,
        _ => Then::Nothing,
    };
    let speed = bandwidth(args.bandwidth, &args.waits);
    let (shallow, reuse) = (args.shallow, args.reuse_external);
    let work = match (args.xml, args.dest.or(args.dest_place)) {
        (Some(file), _) => BlockWork::CopyTo { disk: read_document(&file)?, shallow, reuse },
        // The daemon stands in another directory.
        (None, Some(dest)) => {
            BlockWork::Copy { path: absolute(&dest)?, format: args.format, shallow, reuse }
        }
        (None, None) => {
            let text = "blockcopy needs a destination: --dest FILE, or --xml FILE";
            return Err(Failure::usage(text));
        }
    };
    let of = (&*args.domain, &*args.path);
    let begun = start(session, of, work, speed, &args.waits, "Block Copy").await?;
    if !args.waits.wait && then == Then::Nothing {
        session.terminal.say("Block Copy started\n");
        return Ok(());
    }
    begun.wait().await?;
    begun.end(then, "Successfully pivoted", "Successfully copied").await
}

pub(super) async fn blockjob(session: &Session, args: Blockjob) -> Result<(), Failure> {
    let (domain, path) = (&args.domain, &args.path);
    let disk = find(session, domain, path, false).await?;
    if args.abort || args.pivot {
        let ended =
            session.of(domain, session.client.end_block_job(domain, &disk, args.pivot)).await;
        return ended.map_err(|failure| {
            failure.unless_lost(format!("Failed to abort job for disk {path}"))
        });
    }
    if let Some(limit) = args.bandwidth {
        let bytes = if args.bytes { limit } else { limit.saturating_mul(MIB) };
        return session.of(domain, session.client.limit_block_job(domain, &disk, bytes)).await;
    }
    let jobs = session.of(domain, session.client.block_jobs(domain)).await?;
    let found = jobs.into_iter().find(|job| job.disk == disk);
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let Some(job) = found else {
        if !args.raw {
            return Err(Failure::new(Exit::NotFound, format!("No current block job for {path}")));
        }
        return Ok(());
    };
    let speed = if args.bytes { job.bandwidth_bytes } else { job.bandwidth_bytes / MIB };
    if args.raw {
        let BlockJob { kind, done_bytes, total_bytes, .. } = job;
        session.terminal.say(&format!(
            " type={}\n bandwidth={speed}\n cur={done_bytes}\n end={total_bytes}\n",
            words(kind)
        ));
        return Ok(());
    }
    let unit = if args.bytes { "bytes/s" } else { "MiB/s" };
    let mut line = format!("{}: [{:3} %]", words(job.kind), percent(&job));
    if job.bandwidth_bytes > 0 {
        line.push_str(&format!("    Bandwidth limit: {speed} {unit}"));
    }
    session.terminal.say(&format!("{line}\n"));
    Ok(())
}

fn words(kind: BlockJobKind) -> &'static str {
    match kind {
        BlockJobKind::Pull => "Block Pull",
        BlockJobKind::Commit => "Block Commit",
        BlockJobKind::ActiveCommit => "Active Block Commit",
        BlockJobKind::Copy => "Block Copy",
    }
}
