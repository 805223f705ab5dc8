//! list.

use api::types::{DomainSummary, ListQuery, StateName};

use super::Session;
use crate::args::List;
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn list(session: &Session, args: List) -> Result<(), Failure> {
    for (name, chosen) in [("uuid", args.uuid), ("name", args.name), ("id", args.id)] {
        if args.table && chosen {
            return Err(Failure::usage(format!(
                "Options --table and --{name} are mutually exclusive"
            )));
        }
    }
    let all = session
        .client
        .list(&query(&args))
        .await
        .map_err(|error| Failure::from(error).while_doing("Failed to list domains"))?;
    let mut rows: Vec<_> = all.into_iter().filter(|domain| is_wanted(domain, &args)).collect();
    if args.with_snapshot != args.without_snapshot {
        rows = with_snapshots(session, rows, args.with_snapshot).await?;
    }
    // Running ones by id, then the others by name, as virsh sorts.
    rows.sort_by_key(|domain| {
        (domain.id.is_none(), domain.id, domain.name.to_lowercase(), domain.name.clone())
    });
    if session.terminal.json {
        session.terminal.print_json(&rows);
    } else if args.uuid || args.name || args.id {
        session.terminal.print(&plain(&rows, &args));
    } else {
        session.terminal.print(&table(&rows, &args).text(!session.terminal.quiet));
    }
    Ok(())
}

/// Those that have snapshots, or those that have none.
async fn with_snapshots(
    session: &Session,
    rows: Vec<DomainSummary>,
    wanted: bool,
) -> Result<Vec<DomainSummary>, Failure> {
    let mut found = Vec::new();
    for domain in rows {
        let uuid = domain.uuid.to_string();
        if session.client.snapshots(&uuid).await?.is_empty() != wanted {
            found.push(domain);
        }
    }
    Ok(found)
}

/// What the daemon can sort out.
fn query(args: &List) -> ListQuery {
    // Of two opposite filters neither says anything.
    let one_of = |yes: bool, no: bool| (yes != no).then_some(yes);
    let active = if args.all { None } else { Some(!(args.inactive || args.state_shutoff)) };
    ListQuery {
        active,
        persistent: one_of(args.persistent, args.transient),
        autostart: one_of(args.autostart, args.no_autostart),
        ..ListQuery::default()
    }
}

fn is_wanted(domain: &DomainSummary, args: &List) -> bool {
    // Of what Manor does not have, no domain has any.
    if args.with_checkpoint && !args.without_checkpoint {
        return false;
    }
    let managed = (args.with_managed_save, args.without_managed_save);
    if matches!((managed, domain.managed_save), ((true, false), false) | ((false, true), true)) {
        return false;
    }
    let states = [
        (args.state_running, domain.state.state == StateName::Running),
        (args.state_paused, domain.state.state == StateName::Paused),
        (args.state_shutoff, domain.state.state == StateName::ShutOff),
        (
            args.state_other,
            !matches!(
                domain.state.state,
                StateName::Running | StateName::Paused | StateName::ShutOff
            ),
        ),
    ];
    let any_asked = states.iter().any(|(asked, _)| *asked);
    !any_asked || states.iter().any(|(asked, is)| *asked && *is)
}

fn id(domain: &DomainSummary) -> String {
    domain.id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

fn plain(rows: &[DomainSummary], args: &List) -> String {
    let mut out = String::new();
    for domain in rows {
        let mut cells = Vec::new();
        let only_id = args.id && !args.uuid && !args.name;
        if args.uuid {
            cells.push(domain.uuid.to_string());
        }
        if args.id && !(only_id && domain.id.is_none()) {
            cells.push(id(domain));
        }
        if args.name {
            cells.push(printable(&domain.name));
        }
        if !cells.is_empty() {
            out.push_str(&cells.join(" "));
            out.push('\n');
        }
    }
    out
}

fn table(rows: &[DomainSummary], args: &List) -> Table {
    let mut header = vec!["Id", "Name", "State"];
    if args.title {
        header.push("Title");
    }
    let mut table = Table::new(header);
    for domain in rows {
        let state = domain.state.state.words().to_owned();
        let mut cells = vec![id(domain), domain.name.clone(), state];
        if args.title {
            cells.push(domain.title.clone().unwrap_or_default());
        }
        table.push(cells);
    }
    table
}
