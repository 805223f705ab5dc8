//! start, shutdown, destroy, reboot, reset, suspend, resume.

use api::client::ClientError;
use api::types::StateName;

use super::memory::affects;
use super::{Session, console, is};
use crate::args::{Ask, Destroy, Domain, SetLifecycleAction, Start};
use crate::failure::{Exit, Failure};

pub(super) async fn start(session: &Session, args: Start) -> Result<(), Failure> {
    let found = session.of(&args.domain, session.client.domain(&args.domain)).await?.summary;
    // The other verbs tell of the domain by the name they were given, as virsh does.
    let domain = &found.name;
    if found.id.is_some() {
        return Err(Failure::new(Exit::Conflict, "Domain is already active"));
    }
    let how = api::types::Start {
        paused: args.paused,
        reset_nvram: args.reset_nvram,
        force_boot: args.force_boot,
        force: args.force,
    };
    let started = session.client.start(domain, how).await;
    session.done(domain, started, "start", "started").await?;
    if args.console {
        console::attach(session, domain, None, false).await?;
    }
    Ok(())
}

pub(super) async fn shutdown(session: &Session, args: Ask) -> Result<(), Failure> {
    let mode = modes(args.mode.as_deref(), "shutdown", &args.domain)?;
    let asked = session.client.shutdown(&args.domain, mode.as_deref()).await;
    session.done(&args.domain, asked, "shutdown", "is being shutdown").await
}

pub(super) async fn reboot(session: &Session, args: Ask) -> Result<(), Failure> {
    let mode = modes(args.mode.as_deref(), "reboot", &args.domain)?;
    let asked = session.client.reboot(&args.domain, mode.as_deref()).await;
    session.done(&args.domain, asked, "reboot", "is being rebooted").await
}

pub(super) async fn destroy(session: &Session, args: Destroy) -> Result<(), Failure> {
    let destroyed = session.client.destroy(&args.domain, args.graceful).await;
    session.done(&args.domain, destroyed, "destroy", "destroyed").await
}

pub(super) async fn reset(session: &Session, args: Domain) -> Result<(), Failure> {
    let reset = session.client.reset(&args.domain).await;
    session.done(&args.domain, reset, "reset", "was reset").await
}

pub(super) async fn inject_nmi(session: &Session, args: Domain) -> Result<(), Failure> {
    session.of(&args.domain, session.client.inject_nmi(&args.domain)).await
}

pub(super) async fn set_lifecycle_action(
    session: &Session,
    args: SetLifecycleAction,
) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let SetLifecycleAction { domain, event, action, .. } = &args;
    let call = session.client.set_lifecycle_action(domain, event, action, affects);
    session.of(domain, call).await
}

pub(super) async fn suspend(session: &Session, args: Domain) -> Result<(), Failure> {
    let suspended = session.client.suspend(&args.domain).await;
    session.done(&args.domain, suspended, "suspend", "suspended").await
}

pub(super) async fn resume(session: &Session, args: Domain) -> Result<(), Failure> {
    let resumed = session.client.resume(&args.domain).await;
    session.done(&args.domain, resumed, "resume", "resumed").await
}

/// virsh takes a list of ways to ask, and so does the daemon: of those it has.
fn modes(mode: Option<&str>, verb: &str, domain: &str) -> Result<Option<String>, Failure> {
    let Some(modes) = mode else { return Ok(None) };
    let (mut known, mut other) = (Vec::new(), "");
    for mode in modes.split(',') {
        match mode {
            "acpi" | "agent" => known.push(mode),
            "initctl" | "signal" | "paravirt" => other = mode,
            _ => {
                return Err(Failure::usage(format!(
                    "Unknown mode {mode} value, expecting 'acpi', 'agent', 'initctl', 'signal' or 'paravirt'"
                )));
            }
        }
    }
    if known.is_empty() {
        let line = format!("mode '{other}' is not supported; 'agent' and 'acpi' are");
        let attempt = format!("Failed to {verb} domain '{domain}'");
        return Err(Failure::other(line).while_doing(attempt));
    }
    Ok(Some(known.join(",")))
}

impl Session {
    /// Tell how a verb on a domain went, in virsh's words.
    async fn done(
        &self,
        domain: &str,
        result: Result<(), ClientError>,
        verb: &str,
        done: &str,
    ) -> Result<(), Failure> {
        let error = match result {
            Ok(()) if self.terminal.json => {
                // A transient domain that was destroyed is no more.
                let state = self.client.state(domain).await.ok();
                self.terminal.print_json(&state);
                return Ok(());
            }
            Ok(()) => {
                let domain = crate::terminal::printable(domain);
                self.terminal.say(&format!("Domain '{domain}' {done}\n"));
                return Ok(());
            }
            Err(error) if is(&error, "not-found") => return Err(self.no_such(domain).await),
            Err(error) => error,
        };
        let off = is(&error, "invalid-state")
            && self.client.state(domain).await.is_ok_and(|now| now.state == StateName::ShutOff);
        let failure = if off {
            // Scripts (the Pacemaker agent among them) look for these words.
            let cause = "Requested operation is not valid: domain is not running";
            Failure::new(Exit::Conflict, cause)
        } else {
            error.into()
        };
        Err(failure.while_doing(format!("Failed to {verb} domain '{domain}'")))
    }
}
