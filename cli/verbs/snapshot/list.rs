//! snapshot-list.

use api::types::Snapshot;

use crate::args::SnapshotList;
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;
use crate::verbs::Session;

pub(in crate::verbs) async fn list(session: &Session, args: SnapshotList) -> Result<(), Failure> {
    let domain = &args.domain;
    let all = session.of(domain, session.client.snapshots(domain)).await?;
    let from = match (&args.from, args.current) {
        (Some(name), _) => {
            session.of_snapshot(domain, session.client.snapshot(domain, name)).await?;
            Some(name.clone())
        }
        (None, true) => {
            let current = session.client.current_snapshot(domain);
            Some(session.of_snapshot(domain, current).await?.name)
        }
        (None, false) => None,
    };
    if args.tree {
        let roots: Vec<&Snapshot> = match &from {
            Some(from) => all.iter().filter(|it| it.name == *from).collect(),
            None => children(&all, None),
        };
        let mut out = String::new();
        for root in roots {
            branch(&mut out, &all, root, "", "");
            out.push('\n');
        }
        session.terminal.print(&out);
        return Ok(());
    }
    let mut rows: Vec<&Snapshot> = match &from {
        // Alone, --descendants takes its snapshot in.
        Some(from) => below(&all, from, args.descendants),
        None => all.iter().collect(),
    };
    rows.retain(|snapshot| is_wanted(snapshot, &args));
    if !args.topological {
        rows.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if session.terminal.json {
        session.terminal.print_json(&rows);
    } else if args.name {
        let names: String = rows.iter().map(|it| format!("{}\n", printable(&it.name))).collect();
        session.terminal.print(&names);
    } else {
        session.terminal.print(&table(&rows, args.parent).text(!session.terminal.quiet));
    }
    Ok(())
}

fn children<'a>(all: &'a [Snapshot], parent: Option<&str>) -> Vec<&'a Snapshot> {
    all.iter().filter(|snapshot| snapshot.parent.as_deref() == parent).collect()
}

fn below<'a>(all: &'a [Snapshot], from: &str, deep: bool) -> Vec<&'a Snapshot> {
    let mut found = children(all, Some(from));
    let mut at = 0;
    // No more than there are, whatever their parents say.
    while deep && at < found.len() && found.len() <= all.len() {
        found.extend(children(all, Some(&found[at].name)));
        at += 1;
    }
    found
}

/// Of two opposite filters, none and both mean everything.
fn either(yes: bool, no: bool, is: bool) -> bool {
    yes == no || is == yes
}

fn is_wanted(snapshot: &Snapshot, args: &SnapshotList) -> bool {
    let states = [
        (args.inactive, snapshot.state == "shutoff"),
        (args.active, !matches!(snapshot.state.as_str(), "shutoff" | "disk-snapshot")),
        (args.disk_only, snapshot.state == "disk-snapshot"),
    ];
    let any_state =
        states.iter().all(|(asked, _)| !asked) || states.iter().any(|(asked, is)| *asked && *is);
    any_state
        && either(args.external, args.internal, snapshot.external)
        && either(args.metadata, args.no_metadata, true)
        && either(args.leaves, args.no_leaves, snapshot.children == 0)
        && (!args.roots || snapshot.parent.is_none())
}

/// As virsh times it, in UTC.
fn time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S +0000").to_string()
}

fn table(rows: &[&Snapshot], with_parent: bool) -> Table {
    let mut header = vec!["Name", "Creation Time", "State"];
    if with_parent {
        header.push("Parent");
    }
    let mut table = Table::new(header);
    for snapshot in rows {
        let mut cells = vec![snapshot.name.clone(), time(snapshot.created), snapshot.state.clone()];
        if with_parent {
            cells.push(snapshot.parent.clone().unwrap_or_default());
        }
        table.push(cells);
    }
    table
}

/// A snapshot and what lies below it, with virsh's lines.
fn branch(out: &mut String, all: &[Snapshot], snapshot: &Snapshot, lead: &str, inner: &str) {
    out.push_str(&format!("{lead}{}\n", printable(&snapshot.name)));
    // A ring ends here at the latest: it has no more members than there are.
    if inner.len() > 2 * all.len() {
        return;
    }
    let children = children(all, Some(&snapshot.name));
    for (at, child) in children.iter().enumerate() {
        let is_last = at + 1 == children.len();
        if at == 0 {
            out.push_str(&format!("{inner}  |\n"));
        }
        let next = format!("{inner}{}", if is_last { "    " } else { "  | " });
        branch(out, all, child, &format!("{inner}  +- "), &next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, parent: Option<&str>) -> Snapshot {
        Snapshot {
            name: name.to_owned(),
            description: None,
            state: "shutoff".to_owned(),
            created: 0,
            parent: parent.map(str::to_owned),
            current: false,
            external: true,
            children: 0,
            descendants: 0,
        }
    }

    #[test]
    fn a_tree_is_drawn_as_virsh_draws_it() {
        let all = [
            snapshot("a", None),
            snapshot("b", Some("a")),
            snapshot("c", Some("b")),
            snapshot("d", Some("a")),
        ];
        let mut out = String::new();
        branch(&mut out, &all, &all[0], "", "");
        assert_eq!(out, "a\n  |\n  +- b\n  |   |\n  |   +- c\n  +- d\n");
        let names = |rows: Vec<&Snapshot>| -> Vec<String> {
            rows.iter().map(|it| it.name.clone()).collect()
        };
        assert_eq!(names(below(&all, "a", false)), ["b", "d"]);
        assert_eq!(names(below(&all, "a", true)), ["b", "d", "c"]);
    }

    #[test]
    fn times_are_as_virsh_writes_them() {
        assert_eq!(time(1_700_000_000), "2023-11-14 22:13:20 +0000");
    }
}
