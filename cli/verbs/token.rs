//! manor token …: who may come in over TLS.

use api::types::{CreateToken, Role, Token};

use super::Session;
use crate::args;
use crate::failure::{Exit, Failure};
use crate::table::Table;

pub(super) async fn token(session: &Session, args: args::Token) -> Result<(), Failure> {
    match args {
        args::Token::Create(args) => create(session, args).await,
        args::Token::List => list(session).await,
        args::Token::Revoke { token } => revoke(session, &token).await,
    }
}

async fn create(session: &Session, args: args::TokenCreate) -> Result<(), Failure> {
    let domains = Some(args.domain).filter(|domains| !domains.is_empty());
    let wanted =
        CreateToken { name: args.name, role: args.role.into(), domains, lifetime_s: args.expires };
    let new = session.client.create_token(&wanted).await?;
    if session.terminal.json {
        session.terminal.print_json(&new);
        return Ok(());
    }
    // Alone on stdout, for `> FILE`.
    session.terminal.print(&format!("{}\n", new.secret));
    if !session.terminal.quiet {
        session
            .terminal
            .complain("it is shown this once; keep it where only its user can read it\n");
    }
    Ok(())
}

async fn list(session: &Session) -> Result<(), Failure> {
    let tokens = session.client.tokens().await?;
    if session.terminal.json {
        session.terminal.print_json(&tokens);
        return Ok(());
    }
    let mut table = Table::new(["Name", "Role", "Domains", "Created", "Expires"]);
    for token in tokens {
        let Token { name, role, domains, created, expires, .. } = token;
        let domains = domains.map_or_else(|| "all".to_owned(), |domains| domains.join(", "));
        let expires = expires.unwrap_or_else(|| "never".to_owned());
        table.row([name, role.name().to_owned(), domains, created, expires]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

async fn revoke(session: &Session, token: &str) -> Result<(), Failure> {
    match session.client.revoke_token(token).await {
        Err(error) if super::is(&error, "not-found") => {
            Err(Failure::new(Exit::NotFound, format!("failed to get token '{token}'")))
        }
        result => {
            result?;
            session.terminal.say(&format!("Token '{token}' revoked\n"));
            Ok(())
        }
    }
}

impl From<args::Role> for Role {
    fn from(role: args::Role) -> Self {
        match role {
            args::Role::Reader => Self::Reader,
            args::Role::Operator => Self::Operator,
            args::Role::Admin => Self::Admin,
        }
    }
}
