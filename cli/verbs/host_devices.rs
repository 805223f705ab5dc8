//! nodedev-…, iface-…

use api::types::NodeDevice;

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
