//! nodedev-…, iface-…, nwfilter-…

use api::types::{Filter, NodeDevice};

use super::Session;
use super::host::show_xml;
use crate::args;
use crate::failure::Failure;
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn nodedev_list(
    session: &Session,
    args: args::NodedevList,
) -> Result<(), Failure> {
    let mut devices = session.client.node_devices().await?;
    if let Some(kinds) = &args.cap {
        devices.retain(|device| kinds.split(',').any(|kind| kind == device.kind));
    }
    if session.terminal.json {
        session.terminal.print_json(&devices);
        return Ok(());
    }
    let line = |device: &NodeDevice| format!("{}\n", printable(&device.name));
    session.terminal.print(&devices.iter().map(line).collect::<String>());
    Ok(())
}

pub(super) async fn nodedev_dumpxml(
    session: &Session,
    args: args::NodedevDumpxml,
) -> Result<(), Failure> {
    show_xml(session, &session.client.node_device(&args.device).await?.xml);
    Ok(())
}

pub(super) async fn iface_list(session: &Session, args: args::IfaceList) -> Result<(), Failure> {
    let mut interfaces = session.client.host_interfaces().await?;
    interfaces.retain(|interface| args.all || interface.active != args.inactive);
    if session.terminal.json {
        session.terminal.print_json(&interfaces);
        return Ok(());
    }
    let mut table = Table::new(["Name", "State", "MAC Address"]);
    for interface in &interfaces {
        let state = if interface.active { "active" } else { "inactive" };
        table.row([interface.name.clone(), state.to_owned(), interface.mac.clone()]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(super) async fn iface_dumpxml(
    session: &Session,
    args: args::IfaceDumpxml,
) -> Result<(), Failure> {
    let all = session.client.host_interfaces().await?;
    let found = all.iter().find(|interface| interface.name == args.interface);
    let found = found.ok_or_else(|| {
        let text = format!("failed to get interface '{}': the host has none", args.interface);
        Failure::other(text).hint_near(&args.interface, all.iter().map(|one| one.name.clone()))
    })?;
    show_xml(session, &found.xml);
    Ok(())
}

pub(super) async fn nwfilter_list(session: &Session) -> Result<(), Failure> {
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

pub(super) async fn nwfilter_dumpxml(
    session: &Session,
    args: args::NwfilterDumpxml,
) -> Result<(), Failure> {
    let all = session.client.filters().await?;
    let wanted = &args.nwfilter;
    let is_it = |filter: &&Filter| {
        filter.name == *wanted || filter.uuid.to_string().eq_ignore_ascii_case(wanted)
    };
    let found = all.iter().find(is_it).ok_or_else(|| {
        let text = format!("failed to get nwfilter '{wanted}': there is none");
        Failure::other(text).hint_near(wanted, all.iter().map(|one| one.name.clone()))
    })?;
    show_xml(session, &found.xml);
    Ok(())
}

pub(super) async fn nwfilter_binding_list(session: &Session) -> Result<(), Failure> {
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

pub(super) async fn nwfilter_binding_dumpxml(
    session: &Session,
    args: args::NwfilterBindingDumpxml,
) -> Result<(), Failure> {
    show_xml(session, &session.client.filter_binding(&args.binding).await?.xml);
    Ok(())
}
