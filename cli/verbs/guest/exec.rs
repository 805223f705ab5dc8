//! guest-exec: a program in the guest, as if it ran here.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use api::types::GuestExecStatus;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use super::Session;
use crate::args::GuestExec;
use crate::failure::{Failure, reason};

/// What fits into a request, with its arguments beside it.
const MOST_INPUT: u64 = 32 << 10;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn guest_exec(session: &Session, args: GuestExec) -> Result<(), Failure> {
    let mut command = args.command.into_iter();
    let exec = api::types::GuestExec {
        program: command.next().unwrap_or_default(),
        arguments: command.collect(),
        environment: args.env,
        input_base64: if args.stdin { Some(input()?) } else { None },
        capture: !args.detach,
    };
    let domain = &args.domain;
    let pid = session.of(domain, session.client.guest_exec(domain, &exec)).await?;
    if args.detach {
        session.terminal.print(&format!("{pid}\n"));
        return Ok(());
    }
    let deadline = args.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut pause = SHORTEST_PAUSE;
    loop {
        let call = session.client.guest_exec_status(domain, pid);
        let status = session.of(domain, call).await?;
        if status.exited {
            return end(session, &status);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let line = format!("'{}' (process {pid}) still runs in the guest", exec.program);
            return Err(Failure::other(line));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn input() -> Result<String, Failure> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(MOST_INPUT + 1).read_to_end(&mut input);
    read.map_err(|error| Failure::other(format!("cannot read stdin: {}", reason(&error))))?;
    if input.len() as u64 > MOST_INPUT {
        let line = format!("stdin has more than the {MOST_INPUT} bytes that can be passed on");
        return Err(Failure::other(line));
    }
    Ok(STANDARD.encode(input))
}

/// What it wrote goes where it would have gone here, unchanged: it is what was asked for. Its exit
/// status is this command's.
fn end(session: &Session, status: &GuestExecStatus) -> Result<(), Failure> {
    if session.terminal.json {
        session.terminal.print_json(status);
    } else {
        let written = std::io::stdout().write_all(&status.stdout());
        let written = written.and_then(|()| std::io::stderr().write_all(&status.stderr()));
        written.map_err(|error| Failure::other(format!("cannot write: {}", reason(&error))))?;
        if status.truncated {
            session.terminal.warn("the guest agent kept only the beginning of what it wrote");
        }
    }
    match (status.exit_code, status.signal) {
        (Some(0), _) => Ok(()),
        // As a shell tells of it.
        (_, Some(signal)) => Err(Failure::of_guest(128_i64.saturating_add(signal))),
        (code, None) => Err(Failure::of_guest(code.unwrap_or(1))),
    }
}
