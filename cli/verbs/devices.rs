//! domblklist, domiflist, domif-getlink, domif-setlink, ttyconsole.

use api::types::{Affects, Interface, LinkState};

use super::Session;
use super::storage::capacity;
use crate::args::{Domain, Domblkinfo, Domblklist, DomifGetlink, DomifSetlink, Domiflist};
use crate::failure::{Exit, Failure};
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

pub(super) async fn domblkinfo(session: &Session, args: Domblkinfo) -> Result<(), Failure> {
    let Domblkinfo { domain, device, human, all: _ } = &args;
    let size = |bytes: u64| if *human { capacity(bytes, 3) } else { bytes.to_string() };
    if let Some(disk) = device {
        let sizes = session.client.disk_sizes(domain, disk).await?;
        if session.terminal.json {
            session.terminal.print_json(&sizes);
            return Ok(());
        }
        let line = |name: &str, bytes: u64| format!("{name:15} {}\n", size(bytes));
        session.terminal.print(&format!(
            "{}{}{}",
            line("Capacity:", sizes.capacity),
            line("Allocation:", sizes.allocation),
            line("Physical:", sizes.physical),
        ));
        return Ok(());
    }
    let disks = session.of(domain, session.client.disks(domain, false)).await?;
    let mut table = Table::new(["Target", "Capacity", "Allocation", "Physical"]);
    for disk in disks {
        // An empty drive, or a disk on a server, has none that anybody here knows.
        let row = match session.client.disk_sizes(domain, &disk.target).await {
            Ok(sizes) => [sizes.capacity, sizes.allocation, sizes.physical].map(size),
            Err(_) => ["-", "-", "-"].map(str::to_owned),
        };
        let [capacity, allocation, physical] = row;
        table.row([disk.target, capacity, allocation, physical]);
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

pub(super) async fn domif_getlink(session: &Session, args: DomifGetlink) -> Result<(), Failure> {
    let DomifGetlink { domain, interface, config } = &args;
    let found = find(session, domain, interface, *config).await?.ok_or_else(|| {
        let by = if normal_mac(interface).is_some() { "mac" } else { "dev" };
        lost(format!("Interface ({by}: {interface}) not found."))
    })?;
    if session.terminal.json {
        session.terminal.print_json(&found);
    } else {
        // virsh's line has no end of its own: the empty line after every command ends it.
        let end = if session.terminal.quiet { "\n" } else { "" };
        let line = format!("{} {}{end}", printable(interface), found.link.name());
        session.terminal.print(&line);
    }
    Ok(())
}

pub(super) async fn domif_setlink(session: &Session, args: DomifSetlink) -> Result<(), Failure> {
    let DomifSetlink { domain, interface, state, config } = &args;
    let state = match state.as_str() {
        "up" => LinkState::Up,
        "down" => LinkState::Down,
        other => return Err(Failure::usage(format!("invalid link state '{other}'"))),
    };
    let found = find(session, domain, interface, *config)
        .await?
        .ok_or_else(|| lost(format!("interface '{interface}' not found")))?;
    let affects = Affects { live: false, config: *config };
    session.client.set_link(domain, &found.mac, state, affects).await.map_err(|error| {
        Failure::from(error).while_doing("Failed to update interface link state")
    })?;
    session.terminal.say("Device updated successfully\n");
    Ok(())
}

fn lost(line: String) -> Failure {
    Failure::new(Exit::NotFound, line)
}

/// The interface with this MAC address, or on this tap. A tap's name is often of the running domain
/// alone: it finds the stored interface by the MAC address they share.
async fn find(
    session: &Session,
    domain: &str,
    name: &str,
    stored: bool,
) -> Result<Option<Interface>, Failure> {
    let current = session.of(domain, session.client.interfaces(domain, false)).await?;
    if !stored {
        return one(current, name);
    }
    let stored = session.of(domain, session.client.interfaces(domain, true)).await?;
    match (one(stored.clone(), name)?, one(current, name)?) {
        (None, Some(live)) => one(stored, &live.mac),
        (found, _) => Ok(found),
    }
}

fn one(interfaces: Vec<Interface>, name: &str) -> Result<Option<Interface>, Failure> {
    let mac = normal_mac(name);
    let is_it = |interface: &Interface| {
        interface.target.as_deref() == Some(name) || mac.as_ref() == Some(&interface.mac)
    };
    let mut found = interfaces.into_iter().filter(is_it);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Failure::other("multiple matching interfaces found")),
        (first, None) => Ok(first),
    }
}

/// As the daemon writes it: lower case, two digits for each byte.
fn normal_mac(text: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok().filter(|_| !part.starts_with('+')))
        .collect();
    let bytes = bytes.filter(|bytes| bytes.len() == 6)?;
    let parts: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(parts.join(":"))
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
