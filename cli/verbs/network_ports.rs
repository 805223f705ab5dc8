//! net-port-…

use std::fmt::Write as _;

use super::Session;
use crate::args::{NetPort, NetPortList};
use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::terminal::printable;

pub(super) async fn list(session: &Session, args: NetPortList) -> Result<(), Failure> {
    let call = session.client.network_ports(&args.network);
    let ports = session.of_network(&args.network, call).await?;
    if session.terminal.json {
        session.terminal.print_json(&ports);
    } else if args.uuid {
        let lines = ports.iter().map(|port| format!("{}\n", port.uuid)).collect::<String>();
        session.terminal.print(&lines);
    } else {
        let mut table = Table::new(["UUID"]);
        for port in ports {
            table.row([port.uuid.to_string()]);
        }
        session.terminal.print(&table.text(!session.terminal.quiet));
    }
    Ok(())
}

pub(super) async fn dumpxml(session: &Session, args: NetPort) -> Result<(), Failure> {
    // What is not found is the network, or the port.
    session.of_network(&args.network, session.client.network(&args.network)).await?;
    let xml = session.client.network_port_xml(&args.network, &args.port).await;
    let attempt = format!("failed to get network port '{}'", args.port);
    let xml = xml.map_err(|error| Failure::from(error).while_doing(&attempt))?;
    session.terminal.print(&xml);
    Ok(())
}

/// What virsh has no verb for: whose it is, in words.
pub(super) async fn info(session: &Session, args: NetPort) -> Result<(), Failure> {
    let call = session.client.network_ports(&args.network);
    let ports = session.of_network(&args.network, call).await?;
    let is_it = |uuid: &str| uuid.eq_ignore_ascii_case(&args.port);
    let Some(port) = ports.into_iter().find(|port| is_it(&port.uuid.to_string())) else {
        let text = format!("network {} has no port {}", args.network, args.port);
        return Err(Failure::new(Exit::NotFound, text));
    };
    if session.terminal.json {
        session.terminal.print_json(&port);
        return Ok(());
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{:15} {}", format!("{name}:"), printable(value));
    };
    line("UUID", &port.uuid.to_string());
    line("Domain", &port.domain);
    line("MAC address", &port.mac);
    line("Device", port.device.as_deref().unwrap_or("-"));
    line("Port group", port.group.as_deref().unwrap_or("-"));
    session.terminal.print(&out);
    Ok(())
}
