//! manor user …: who comes in by a password, in libvirt's protocol.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use api::types::{SetUser, User};

use super::Session;
use crate::args;
use crate::failure::{Exit, Failure, reason};
use crate::raw::Unseen;
use crate::table::Table;

/// Longer than any password.
const MOST: u64 = 4096;

pub(super) async fn user(session: &Session, args: args::User) -> Result<(), Failure> {
    match args {
        args::User::Set(args) => set(session, args).await,
        args::User::List => list(session).await,
        args::User::Remove { name } => remove(session, &name).await,
    }
}

async fn set(session: &Session, args: args::UserSet) -> Result<(), Failure> {
    let password = password(session, args.password_file.as_deref())?;
    let domains = Some(args.domain).filter(|domains| !domains.is_empty());
    let wanted = SetUser { password, role: args.role.into(), domains };
    session.client.set_user(&args.name, &wanted).await?;
    session.terminal.say(&format!("User '{}' set\n", args.name));
    Ok(())
}

/// The first line of a file, or of stdin: not from the command line, which others see.
fn password(session: &Session, file: Option<&Path>) -> Result<String, Failure> {
    let is_terminal = file.is_none() && std::io::stdin().is_terminal();
    let _unseen = is_terminal.then(|| {
        session.terminal.complain("Password: ");
        Unseen::enter()
    });
    let mut text = String::new();
    let read = match file {
        Some(path) => {
            std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
        }
        None if is_terminal => std::io::stdin().read_line(&mut text),
        None => std::io::stdin().lock().take(MOST).read_to_string(&mut text),
    };
    if is_terminal {
        session.terminal.complain("\n");
    }
    let place = file.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    read.map_err(|error| {
        Failure::other(format!("cannot read the password from {place}: {}", reason(&error)))
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

async fn list(session: &Session) -> Result<(), Failure> {
    let users = session.client.users().await?;
    if session.terminal.json {
        session.terminal.print_json(&users);
        return Ok(());
    }
    let mut table = Table::new(["Name", "Role", "Domains", "Changed"]);
    for User { name, role, domains, changed } in users {
        let domains = domains.map_or_else(|| "all".to_owned(), |domains| domains.join(", "));
        table.row([name, role.name().to_owned(), domains, changed]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

async fn remove(session: &Session, name: &str) -> Result<(), Failure> {
    match session.client.remove_user(name).await {
        Err(error) if super::is(&error, "not-found") => {
            Err(Failure::new(Exit::NotFound, format!("failed to get user '{name}'")))
        }
        result => {
            result?;
            session.terminal.say(&format!("User '{name}' removed\n"));
            Ok(())
        }
    }
}
