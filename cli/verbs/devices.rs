//! domblklist, domiflist, domdisplay, ttyconsole.

use super::Session;
use crate::args::{Domain, Domblklist, Domiflist};
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

pub(super) async fn domblklist(session: &Session, args: Domblklist) -> Result<(), Failure> {
    let call = session.client.disks(&args.domain, args.inactive);
    let disks = session.of(&args.domain, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&disks);
        return Ok(());
    }
    let mut table = if args.details {
        Table::new(["Type", "Device", "Target", "Source"])
    } else {
        Table::new(["Target", "Source"])
    };
    for disk in disks {
        if args.details {
            table.row([disk.kind, disk.device, disk.target, or_dash(disk.source)]);
        } else {
            table.row([disk.target, or_dash(disk.source)]);
        }
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(super) async fn domiflist(session: &Session, args: Domiflist) -> Result<(), Failure> {
    let call = session.client.interfaces(&args.domain, args.inactive);
    let interfaces = session.of(&args.domain, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&interfaces);
        return Ok(());
    }
    let mut table = Table::new(["Interface", "Type", "Source", "Model", "MAC"]);
    for interface in interfaces {
        table.row([
            or_dash(interface.target),
            interface.kind,
            or_dash(interface.source),
            or_dash(interface.model),
            interface.mac,
        ]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

/// No display device is provided yet, so no domain has one.
pub(super) async fn domdisplay(session: &Session, args: Domain) -> Result<(), Failure> {
    session.of(&args.domain, session.client.state(&args.domain)).await?;
    Err(Failure::other("No graphical display found"))
}

/// The terminal on the host that is the first console's other end.
pub(super) async fn ttyconsole(session: &Session, args: Domain) -> Result<(), Failure> {
    let xml = session.of(&args.domain, session.client.xml(&args.domain, false, false)).await?;
    let document = roxmltree::Document::parse(&xml)
        .map_err(|error| Failure::other(format!("the domain's XML is broken: {error}")))?;
    let tty = document
        .descendants()
        .filter(|node| node.has_tag_name("console"))
        .find_map(|node| node.attribute("tty"));
    match tty {
        Some(tty) if session.terminal.json => session.terminal.print_json(&tty),
        Some(tty) => session.terminal.print(&format!("{}\n", printable(tty))),
        None if session.terminal.json => session.terminal.print_json(&tty),
        None => {}
    }
    Ok(())
}
