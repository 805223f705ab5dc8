//! domjobinfo and domjobabort: a domain has one job in virsh's eyes, the one that works on it.

use api::types::{Job, JobPhase};
use serde_json::json;

use super::Session;
use crate::args::{Domain, Domjobinfo};
use crate::failure::Failure;

/// Its latest job that does, or does not, run.
async fn latest(session: &Session, domain: &str, runs: bool) -> Result<Option<Job>, Failure> {
    let found = session.of(domain, session.client.domain(domain)).await?;
    let name = found.summary.name;
    let wanted = |job: &Job| {
        job.object == name
            && job.kind.starts_with("domain-")
            && (job.phase == JobPhase::Running) == runs
    };
    Ok(session.client.jobs().await?.into_iter().rev().find(wanted))
}

pub(super) async fn info(session: &Session, args: Domjobinfo) -> Result<(), Failure> {
    let job = latest(session, &args.domain, !args.completed).await?;
    if session.terminal.json {
        session.terminal.print_json(&json!(job));
        return Ok(());
    }
    let line = |name: &str, value: &str| {
        session.terminal.print(&format!("{:<17} {value}\n", format!("{name}:")));
    };
    let Some(job) = job else {
        line("Job type", "None");
        return Ok(());
    };
    line("Job type", kind(&job));
    line("Operation", operation(&job.kind));
    line("Data processed", &bytes(job.done_bytes));
    line("Data remaining", &bytes(job.total_bytes.saturating_sub(job.done_bytes)));
    line("Data total", &bytes(job.total_bytes));
    if let Some(error) = &job.error {
        line("Error message", &crate::terminal::printable(error));
    }
    Ok(())
}

fn kind(job: &Job) -> &'static str {
    match job.phase {
        JobPhase::Running if job.total_bytes == 0 => "Unbounded",
        JobPhase::Running => "Bounded",
        JobPhase::Done => "Completed",
        JobPhase::Failed | JobPhase::Interrupted => "Failed",
        JobPhase::Cancelled => "Cancelled",
    }
}

fn operation(kind: &str) -> &str {
    match kind {
        "domain-backup" => "Backup",
        "domain-dump" => "Dump",
        "domain-save" | "domain-managed-save" => "Save",
        other => other,
    }
}

fn bytes(count: u64) -> String {
    format!("{:.3} MiB", count as f64 / f64::from(1 << 20))
}

pub(super) async fn abort(session: &Session, args: Domain) -> Result<(), Failure> {
    let Some(job) = latest(session, &args.domain, true).await? else {
        return Err(Failure::other("no job is active on the domain".to_owned()));
    };
    Ok(session.client.abort_job(&job.id.to_string()).await?)
}
