//! shutdown-guests: what the host's unit does before the host goes down.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::client::ClientError;
use api::types::{AtShutdown, Domain, JobPhase, ListQuery, ManagedSave, StateName};
use futures_util::future::join_all;

use super::{Session, is};
use crate::args::ShutdownGuests;
use crate::failure::{Exit, Failure};
use crate::terminal::printable;

/// Between two looks at a guest.
const LOOK: Duration = Duration::from_millis(500);
/// Between two words about how far a save is.
const WORD: Duration = Duration::from_secs(5);
/// A disk that takes nothing more of a guest for so long is given up.
const STUCK: Duration = Duration::from_secs(60);

/// Those that started last go first, those of one order together; a guest that does not go in its
/// time has its power cut. Each step is said at once: somebody waits before the console.
pub(super) async fn shutdown_guests(
    session: &Session,
    args: ShutdownGuests,
) -> Result<(), Failure> {
    let query = ListQuery { active: Some(true), ..ListQuery::default() };
    let mut waves: BTreeMap<u32, Vec<Domain>> = BTreeMap::new();
    for summary in session.client.list(&query).await? {
        match session.client.domain(&summary.uuid.to_string()).await {
            Ok(domain) => waves.entry(domain.autostart_order).or_default().push(domain),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut left = Vec::new();
    for wave in waves.into_values().rev() {
        let ends = wave.iter().map(|domain| end(session, domain, &args));
        let ends = join_all(ends).await;
        let named = ends.into_iter().zip(&wave);
        left.extend(
            named.filter_map(|(end, domain)| end.err().map(|_| &domain.summary.name).cloned()),
        );
    }
    if left.is_empty() {
        return Ok(());
    }
    let line = format!("these guests still run: {}", left.join(", "));
    Err(Failure::other(line))
}

fn is_gone(error: &ClientError) -> bool {
    is(error, "not-found")
}

/// Save one guest, or shut it down; it is off when this returns, but for errors.
async fn end(session: &Session, domain: &Domain, args: &ShutdownGuests) -> Result<(), Failure> {
    let saved = match domain.at_shutdown {
        Some(AtShutdown::Save) => true,
        Some(AtShutdown::Shutdown) => false,
        // A transient domain has no next start to go on at.
        None => args.save && domain.summary.persistent,
    };
    if saved && save(session, domain).await {
        return Ok(());
    }
    shut_down(session, domain, args.timeout).await
}

/// Save a guest for when the host is back. False: it could not be, whatever the reason, and is to be shut
/// down as others are.
async fn save(session: &Session, domain: &Domain) -> bool {
    let (name, id) = (printable(&domain.summary.name), domain.summary.uuid.to_string());
    let say = |text: &str| session.terminal.say(&format!("{name}: {text}\n"));
    let start = Instant::now();
    let how = ManagedSave { with_host: true, ..ManagedSave::default() };
    let job = match session.client.managed_save(&id, &how).await {
        Ok(job) => job.id.to_string(),
        Err(error) if is_gone(&error) => return true,
        Err(error) => {
            say(&format!("cannot be saved: {error}"));
            return false;
        }
    };
    say("being saved");
    let (mut word, mut moved, mut done) = (Instant::now(), Instant::now(), 0);
    loop {
        let Ok(job) = session.client.job(&job, LOOK.as_millis() as u64).await else {
            // The daemon is away, which ends no save: look whether the guest has gone meanwhile.
            if is_off(session, &id).await || start.elapsed() > STUCK {
                return is_off(session, &id).await;
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        match job.phase {
            JobPhase::Running => {}
            JobPhase::Done => {
                say(&format!("saved after {} s", start.elapsed().as_secs()));
                return true;
            }
            JobPhase::Failed | JobPhase::Cancelled | JobPhase::Interrupted => {
                let reason = job.error.unwrap_or_else(|| "the save was given up".to_owned());
                say(&format!("cannot be saved: {}", printable(&reason)));
                return false;
            }
        }
        if job.done_bytes != done {
            (done, moved) = (job.done_bytes, Instant::now());
        }
        if moved.elapsed() > STUCK {
            // It ends as a job that failed.
            let _ = session.client.abort_job(&job.id.to_string()).await;
            moved = Instant::now();
        }
        if word.elapsed() > WORD && job.total_bytes > 0 {
            word = Instant::now();
            let percent = u128::from(done) * 100 / u128::from(job.total_bytes);
            say(&format!("{percent} % of {} MiB saved", job.total_bytes >> 20));
        }
    }
}

/// Ask a guest to go, and cut its power when it does not.
async fn shut_down(session: &Session, domain: &Domain, usual: u32) -> Result<(), Failure> {
    let (name, id) = (printable(&domain.summary.name), domain.summary.uuid.to_string());
    let say = |text: &str| session.terminal.say(&format!("{name}: {text}\n"));
    let patience = Duration::from_secs(domain.shutdown_timeout_s.unwrap_or(usual).into());
    let start = Instant::now();
    let asked = session.client.shutdown(&id, None).await;
    match &asked {
        Ok(()) => say(&format!("asked to shut down, within {} s", patience.as_secs())),
        Err(error) if is_gone(error) => return Ok(()),
        Err(error) => say(&format!("cannot be asked to shut down: {error}")),
    }
    // Many guests take the power button amiss that comes while they boot; they hear it once more.
    let mut again = Some(start + patience / 2);
    while asked.is_ok() && start.elapsed() < patience {
        if is_off(session, &id).await {
            say(&format!("off after {} s", start.elapsed().as_secs()));
            return Ok(());
        }
        if again.take_if(|at| *at <= Instant::now()).is_some() {
            let _ = session.client.shutdown(&id, Some("acpi")).await;
        }
        tokio::time::sleep(LOOK).await;
    }
    match session.client.destroy(&id, false).await {
        Ok(()) => say("its power is cut"),
        Err(_) if is_off(session, &id).await => say("off"),
        Err(error) => {
            let line = format!("{name}: still runs: {error}");
            session.terminal.warn(&line);
            return Err(Failure::new(Exit::Failed, line));
        }
    }
    Ok(())
}

/// Also of a transient domain, which is no more then. An answer that does not come says nothing.
async fn is_off(session: &Session, id: &str) -> bool {
    match session.client.domain(id).await {
        Ok(domain) => domain.summary.state.state == StateName::ShutOff,
        Err(error) => is_gone(&error),
    }
}
