//! desc, metadata.

use api::types::{MetadataChange, MetadataElement};

use super::{Session, memory::affects};
use crate::args::{Desc, Metadata};
use crate::failure::{Exit, Failure};
use crate::terminal::printable;

pub(super) async fn desc(session: &Session, args: Desc) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let (domain, what) = (&args.domain, if args.title { "title" } else { "description" });
    if !args.new_desc.is_empty() {
        let text = Some(args.new_desc.join(" "));
        let change = match args.title {
            true => MetadataChange { title: text, ..MetadataChange::default() },
            false => MetadataChange { description: text, ..MetadataChange::default() },
        };
        session.of(domain, session.client.change_metadata(domain, &change, affects)).await?;
        session.terminal.say(&format!("Domain {what} updated successfully\n"));
        return Ok(());
    }
    let found = session.of(domain, session.client.metadata(domain, None, affects)).await?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    match if args.title { found.title } else { found.description } {
        Some(text) => session.terminal.print(&format!("{text}\n")),
        None => session.terminal.say(&format!("No {what} for domain: {}\n", printable(domain))),
    }
    Ok(())
}

pub(super) async fn metadata(session: &Session, args: Metadata) -> Result<(), Failure> {
    let affects = affects(args.affects)?;
    let domain = &args.domain;
    if args.set.is_some() || args.remove {
        let said = if args.remove { "Metadata removed\n" } else { "Metadata modified\n" };
        let element = MetadataElement { uri: args.uri, key: args.prefix, xml: args.set };
        let change = MetadataChange { element: Some(element), ..MetadataChange::default() };
        session.of(domain, session.client.change_metadata(domain, &change, affects)).await?;
        session.terminal.say(said);
        return Ok(());
    }
    let call = session.client.metadata(domain, Some(&args.uri), affects);
    let found = session.of(domain, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let Some(element) = found.element else {
        let line = format!(
            "metadata not found: the domain has no element of the namespace {}",
            printable(&args.uri)
        );
        return Err(Failure::new(Exit::NotFound, line));
    };
    session.terminal.print(&format!("{element}\n"));
    Ok(())
}
