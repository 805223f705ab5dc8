//! manor job …, and waiting for a job that a verb began.

use api::types::{Job, JobPhase};

use crate::args;
use crate::disk_image::Progress;
use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::terminal::printable;
use crate::verbs::Session;

/// One question is open for so long; a bar moves a few times in a second.
const WAIT_MS: u64 = 250;

pub(in crate::verbs) async fn job(session: &Session, args: args::Job) -> Result<(), Failure> {
    match args {
        args::Job::List => list(session).await,
        args::Job::Watch { job } => {
            let job = find(session, &job).await?;
            let ended = watch(session, job).await?;
            if session.terminal.json {
                session.terminal.print_json(&ended);
            } else {
                let line = format!("Job {} {}\n", ended.id, ended.phase.name());
                session.terminal.say(&line);
            }
            outcome(&ended)
        }
        args::Job::Abort { job } => {
            let job = find(session, &job).await?;
            session.client.abort_job(&job.id.to_string()).await?;
            session.terminal.say(&format!("Job {} is asked to stop\n", job.id));
            Ok(())
        }
    }
}

async fn list(session: &Session) -> Result<(), Failure> {
    let jobs = session.client.jobs().await?;
    if session.terminal.json {
        session.terminal.print_json(&jobs);
        return Ok(());
    }
    let mut table = Table::new(["Id", "Kind", "Object", "State", "Progress"]);
    for job in jobs {
        let progress = match (job.done_bytes, job.total_bytes) {
            (_, 0) => "-".to_owned(),
            (done, total) => format!("{}%", (u128::from(done) * 100 / u128::from(total)).min(100)),
        };
        let state = job.phase.name().to_owned();
        table.row([job.id.to_string(), job.kind, job.object, state, progress]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

/// By the id, or a beginning of it that only one has.
async fn find(session: &Session, text: &str) -> Result<Job, Failure> {
    let mut found = session.client.jobs().await?;
    found.retain(|job| job.id.to_string().starts_with(&text.to_ascii_lowercase()));
    match (found.pop(), found.is_empty()) {
        (Some(job), true) => Ok(job),
        (Some(_), false) => Err(Failure::usage(format!("several jobs begin with '{text}'"))),
        (None, _) => Err(Failure::new(Exit::NotFound, format!("failed to get job '{text}'"))),
    }
}

/// Follow a job to its end, with a bar on a terminal.
async fn watch(session: &Session, mut job: Job) -> Result<Job, Failure> {
    let mut bar = Progress::new(&session.terminal, job.total_bytes, false);
    let id = job.id.to_string();
    while job.phase == JobPhase::Running {
        bar.at_of(job.done_bytes, job.total_bytes);
        job = session.client.job(&id, WAIT_MS).await?;
    }
    if job.phase == JobPhase::Done {
        bar.at_of(job.total_bytes, job.total_bytes);
    }
    Ok(job)
}

fn outcome(job: &Job) -> Result<(), Failure> {
    let line = match job.phase {
        JobPhase::Done | JobPhase::Running => return Ok(()),
        JobPhase::Failed => job.error.clone().unwrap_or_else(|| "it failed".to_owned()),
        JobPhase::Cancelled => format!("job {} was cancelled", job.id),
        JobPhase::Interrupted => format!("job {} was interrupted by the daemon's end", job.id),
    };
    Err(Failure::other(printable(&line)))
}

impl Session {
    /// Wait for a job's end; interrupted meanwhile, it is aborted.
    pub(in crate::verbs) async fn wait_for(&self, job: Job) -> Result<(), Failure> {
        let id = job.id.to_string();
        let ended = tokio::select! {
            ended = watch(self, job) => ended?,
            _ = tokio::signal::ctrl_c() => {
                self.client.abort_job(&id).await?;
                self.client.job(&id, 10_000).await?
            }
        };
        outcome(&ended)
    }
}
