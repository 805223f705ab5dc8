//! plan, apply.

use api::types::{Plan, PlannedChange};

use super::Session;
use super::definition::read_document;
use crate::args;
use crate::failure::{Failure, mistakes};
use crate::table::Table;
use crate::terminal::printable;

/// Longer values are cut in the table; JSON has all.
const WIDEST: usize = 48;

pub(super) async fn plan(session: &Session, args: args::Plan) -> Result<(), Failure> {
    let (domain, xml, file) = read(&args)?;
    let call = session.client.plan(&domain, xml);
    let plan = call.await.map_err(|error| {
        Failure::of_document(error, format!("Failed to plan domain from {file}"), &file)
    })?;
    if session.terminal.json {
        session.terminal.print_json(&plan);
        return Ok(());
    }
    show(session, &plan, &file);
    Ok(())
}

pub(super) async fn apply(session: &Session, args: args::Plan) -> Result<(), Failure> {
    let (domain, xml, file) = read(&args)?;
    let attempt = || format!("Failed to apply {file}");
    let plan = session.client.plan(&domain, xml.clone());
    let plan = plan.await.map_err(|error| Failure::of_document(error, attempt(), &file))?;
    if !session.terminal.quiet {
        show(session, &plan, &file);
    }
    let call = session.client.apply(&domain, xml);
    let job = call.await.map_err(|error| Failure::of_document(error, attempt(), &file))?;
    session.wait_for(job).await.map_err(|failure| failure.while_doing(attempt()))?;
    session.terminal.say(&format!("Domain '{}' is as {file} says\n", printable(&plan.name)));
    Ok(())
}

fn show(session: &Session, plan: &Plan, file: &str) {
    for warning in mistakes(file, &plan.left_out) {
        session.terminal.warn(&warning);
    }
    if !plan.unsupported.is_empty() {
        let mut text = "Unsupported, so nothing can be applied:\n".to_owned();
        for line in mistakes(file, &plan.unsupported) {
            text.push_str(&line);
            text.push('\n');
        }
        session.terminal.print(&text);
        return;
    }
    if plan.changes.is_empty() {
        session.terminal.say("Nothing would change\n");
        return;
    }
    let mut table = Table::new(["When", "What", "Is", "Will be"]);
    for PlannedChange { path, old, new, when } in &plan.changes {
        let what = path.strip_prefix("/domain/").unwrap_or(path);
        table.row([words(when), what.to_owned(), side(old.as_ref()), side(new.as_ref())]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
}

fn words(when: &str) -> String {
    match when {
        "next-start" => "next start".to_owned(),
        "re-create" => "another domain".to_owned(),
        other => other.to_owned(),
    }
}

fn side(value: Option<&String>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let value = printable(value);
    if value.chars().count() <= WIDEST {
        return value;
    }
    let cut: String = value.chars().take(WIDEST - 1).collect();
    format!("{cut}…")
}

/// The domain, the document, and how the file is called.
fn read(args: &args::Plan) -> Result<(String, String, String), Failure> {
    let (xml, file) = (read_document(&args.file)?, args.file.display().to_string());
    let named = || {
        let document = roxmltree::Document::parse(&xml).ok()?;
        let root = document.root_element();
        let name = root.children().find(|child| child.tag_name().name() == "name")?;
        name.text().map(|text| text.trim().to_owned()).filter(|name| !name.is_empty())
    };
    let domain = args.domain.clone().or_else(named).ok_or_else(|| {
        let line = format!("'{file}' names no domain; say which one with --domain");
        Failure::usage(line)
    })?;
    Ok((domain, xml, file))
}
