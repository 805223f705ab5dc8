//! console: a guest's serial line on this terminal.

use std::io::IsTerminal as _;

use api::client::{ConsoleReader, ConsoleWriter};
use bytes::Bytes;
use tokio::signal::unix::{SignalKind, signal};

use super::Session;
use crate::args::Console;
use crate::failure::Failure;
use crate::raw::{RawMode, read_stdin};
use crate::terminal::printable;

pub(super) async fn console(session: &Session, args: Console) -> Result<(), Failure> {
    attach(session, &args.domain, args.devname.as_deref(), args.force).await
}

/// Until the console closes or the escape key is typed. Without a terminal, stdin and stdout are
/// the console's, and the end of stdin does not end it: there is still what the guest says.
pub(super) async fn attach(
    session: &Session,
    domain: &str,
    device: Option<&str>,
    force: bool,
) -> Result<(), Failure> {
    let details = session.of(domain, session.client.domain(domain)).await?;
    let interactive = std::io::stdin().is_terminal();
    if session.terminal.as_virsh && !interactive {
        return Err(Failure::other("Cannot run interactive console without a controlling TTY"));
    }
    let name = &details.summary.name;
    let mut console = session.client.console(name, device, force).await?;
    let escape = interactive.then_some(session.escape);
    if interactive {
        session.terminal.say(&format!(
            "Connected to domain '{}'\nEscape character is ^{}{}\n",
            printable(name),
            char::from(session.escape ^ 0x40),
            format_args!(" (Ctrl + {})", char::from(session.escape ^ 0x40)),
        ));
    }
    let mut terminated = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(no_signals)?;
    let raw = if interactive {
        Some(RawMode::enter().map_err(|error| Failure::other(format!("no raw mode: {error}")))?)
    } else {
        None
    };
    let result = tokio::select! {
        result = show(session, &mut console.reader) => result,
        result = send_typed(&mut console.writer, escape) => result,
        _ = terminated.recv() => Ok(()),
        _ = hung_up.recv() => Ok(()),
    };
    drop(raw);
    console.leave().await;
    session.terminal.say("\n");
    result
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::other(format!("cannot watch for signals: {error}"))
}

/// Everything the guest writes is its own: it goes to the terminal as it comes.
async fn show(session: &Session, console: &mut ConsoleReader) -> Result<(), Failure> {
    use std::io::Write as _;
    while let Some(bytes) = console.read().await? {
        let mut out = std::io::stdout().lock();
        if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
            session.terminal.complain("error: cannot write to stdout\n");
            return Ok(());
        }
    }
    Ok(())
}

/// Ends at the escape key only.
async fn send_typed(console: &mut ConsoleWriter, escape: Option<u8>) -> Result<(), Failure> {
    let mut typed = read_stdin();
    while let Some(mut bytes) = typed.recv().await {
        let leave = escape.and_then(|key| bytes.iter().position(|byte| *byte == key));
        if let Some(at) = leave {
            bytes.truncate(at);
        }
        if !bytes.is_empty() {
            console.write(Bytes::from(bytes)).await?;
        }
        if leave.is_some() {
            return Ok(());
        }
    }
    std::future::pending().await
}
