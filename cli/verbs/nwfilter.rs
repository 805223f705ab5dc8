//! nwfilter-…

use api::types::Filter;

use super::host::show_xml;
use super::network_edit::{Draft, is_another_try_wanted};
use super::{Session, read_document};
use crate::args;
use crate::failure::{Failure, reason};
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn list(session: &Session) -> Result<(), Failure> {
    let filters = session.client.filters().await?;
    if session.terminal.json {
        session.terminal.print_json(&filters);
        return Ok(());
    }
    let mut table = Table::new(["UUID", "Name"]);
    for filter in &filters {
        table.row([filter.uuid.to_string(), filter.name.clone()]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

async fn find(session: &Session, wanted: &str) -> Result<Filter, Failure> {
    let all = session.client.filters().await?;
    let is_it = |filter: &&Filter| {
        filter.name == *wanted || filter.uuid.to_string().eq_ignore_ascii_case(wanted)
    };
    let found = all.iter().find(is_it).cloned();
    found.ok_or_else(|| {
        let text = format!("failed to get nwfilter '{wanted}': there is none");
        Failure::other(text).hint_near(wanted, all.iter().map(|one| one.name.clone()))
    })
}

pub(super) async fn dumpxml(session: &Session, args: args::Nwfilter) -> Result<(), Failure> {
    show_xml(session, &find(session, &args.nwfilter).await?.xml);
    Ok(())
}

pub(super) async fn define(session: &Session, args: args::NwfilterDefine) -> Result<(), Failure> {
    let from = args.file.display().to_string();
    let xml = read_document(&args.file)?;
    let filter = session.client.define_filter(xml).await.map_err(|error| {
        let attempt = format!("Failed to define network filter from {}", printable(&from));
        Failure::of_document(error, attempt, &from)
    })?;
    if session.terminal.json {
        session.terminal.print_json(&filter);
    }
    let (name, from) = (printable(&filter.name), printable(&from));
    session.terminal.say(&format!("Network filter {name} defined from {from}\n"));
    Ok(())
}

pub(super) async fn undefine(session: &Session, args: args::Nwfilter) -> Result<(), Failure> {
    let filter = find(session, &args.nwfilter).await?;
    session.client.undefine_filter(&filter.uuid.to_string()).await?;
    let name = printable(&args.nwfilter);
    session.terminal.say(&format!("Network filter {name} undefined\n"));
    Ok(())
}

/// The definition in the user's editor, and back.
pub(super) async fn edit(session: &Session, args: args::Nwfilter) -> Result<(), Failure> {
    let filter = &args.nwfilter;
    let before = find(session, filter).await?;
    let draft = Draft::new("filter.xml", &before.xml).map_err(|error| {
        Failure::other(format!("cannot write a file to edit: {}", reason(&error)))
    })?;
    loop {
        let text = draft.edit()?;
        if text == before.xml {
            let name = printable(filter);
            session
                .terminal
                .say(&format!("Network filter {name} XML configuration not changed.\n"));
            return Ok(());
        }
        if find(session, filter).await? != before {
            let problem = "the XML configuration was changed by another user";
            return Err(Failure::other(format!("{problem}; yours is lost")));
        }
        match session.client.define_filter(text).await {
            Ok(defined) => {
                let name = printable(&defined.name);
                let line = format!("Network filter {name} XML configuration edited.\n");
                session.terminal.say(&line);
                return Ok(());
            }
            Err(error) => {
                let attempt = format!("Failed to edit network filter {}", printable(filter));
                let failure = Failure::of_document(error, attempt, "filter.xml");
                if !is_another_try_wanted(session, &failure) {
                    return Err(failure);
                }
            }
        }
    }
}

pub(super) async fn binding_list(session: &Session) -> Result<(), Failure> {
    let bindings = session.client.filter_bindings().await?;
    if session.terminal.json {
        session.terminal.print_json(&bindings);
        return Ok(());
    }
    let mut table = Table::new(["Port Dev", "Filter"]);
    for binding in &bindings {
        table.row([binding.device.clone(), binding.filter.clone()]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(super) async fn binding_dumpxml(
    session: &Session,
    args: args::NwfilterBindingDumpxml,
) -> Result<(), Failure> {
    show_xml(session, &session.client.filter_binding(&args.binding).await?.xml);
    Ok(())
}
