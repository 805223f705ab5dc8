//! net-…

use std::fmt::Write as _;
use std::path::Path;

use api::client::ClientError;
use api::types::{Affects, Network, UpdateNetwork};

use super::{Session, is, memory, read_document};
use crate::args::{
    self, Domifaddr, NetAutostart, NetDhcpLeases, NetDumpxml, NetFile, NetList, NetUpdate,
};
use crate::failure::{Exit, Failure};
use crate::table::Table;
use crate::terminal::printable;

impl Session {
    /// Name the network that was not found as virsh does.
    pub(super) async fn of_network<T>(
        &self,
        network: &str,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Failure> {
        match call.await {
            Ok(reply) => Ok(reply),
            Err(error) if is(&error, "not-found") => {
                let all = self.client.networks().await.unwrap_or_default();
                let lost = format!("failed to get network '{network}'");
                let lost = Failure::new(Exit::NotFound, lost);
                Err(lost.hint_near(network, all.into_iter().map(|network| network.name)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Do it, and say that it is done.
    async fn change_network(&self, network: &str, verb: &str, done: &str) -> Result<(), Failure> {
        let (word, call) = match verb {
            "stop" => ("destroy", self.client.network_verb(network, verb)),
            _ => (verb, self.client.network_verb(network, verb)),
        };
        let attempt = format!("Failed to {word} network {network}");
        self.of_network(network, call).await.map_err(|failure| failure.unless_lost(attempt))?;
        self.terminal.say(&format!("Network {} {done}\n", printable(network)));
        Ok(())
    }
}

pub(super) async fn define(session: &Session, args: NetFile) -> Result<(), Failure> {
    accept(session, &args.file, "define", "", "defined").await
}

pub(super) async fn create(session: &Session, args: NetFile) -> Result<(), Failure> {
    accept(session, &args.file, "create", "?transient=true", "created").await
}

async fn accept(
    session: &Session,
    file: &Path,
    what: &str,
    query: &str,
    done: &str,
) -> Result<(), Failure> {
    let xml = read_document(file)?;
    let from = file.display().to_string();
    let network = session.client.define_network(xml, query).await.map_err(|error| {
        let attempt = format!("Failed to {what} network from {}", printable(&from));
        Failure::of_document(error, attempt, &from)
    })?;
    if session.terminal.json {
        session.terminal.print_json(&network);
    }
    let (name, from) = (printable(&network.name), printable(&from));
    session.terminal.say(&format!("Network {name} {done} from {from}\n"));
    Ok(())
}

pub(super) async fn start(session: &Session, args: args::Network) -> Result<(), Failure> {
    session.change_network(&args.network, "start", "started").await
}

pub(super) async fn destroy(session: &Session, args: args::Network) -> Result<(), Failure> {
    session.change_network(&args.network, "stop", "destroyed").await
}

pub(super) async fn undefine(session: &Session, args: args::Network) -> Result<(), Failure> {
    let network = &args.network;
    let result = session.of_network(network, session.client.undefine_network(network)).await;
    let attempt = format!("Failed to undefine network {network}");
    result.map_err(|failure| failure.unless_lost(attempt))?;
    session.terminal.say(&format!("Network {} has been undefined\n", printable(network)));
    Ok(())
}

pub(super) async fn autostart(session: &Session, args: NetAutostart) -> Result<(), Failure> {
    let network = &args.network;
    let call = session.client.set_network_autostart(network, !args.disable);
    let word = if args.disable { "unmark" } else { "mark" };
    let attempt = format!("failed to {word} network {network} as autostarted");
    session.of_network(network, call).await.map_err(|failure| failure.unless_lost(attempt))?;
    let line = format!("Network {} {word}ed as autostarted\n", printable(network));
    session.terminal.say(&line);
    Ok(())
}

pub(super) async fn dumpxml(session: &Session, args: NetDumpxml) -> Result<(), Failure> {
    let network = &args.network;
    let xml = session.client.network_xml(network, args.inactive);
    session.terminal.print(&session.of_network(network, xml).await?);
    Ok(())
}

pub(super) async fn uuid(session: &Session, args: args::Network) -> Result<(), Failure> {
    let network = session.of_network(&args.network, session.client.network(&args.network)).await?;
    session.terminal.print(&format!("{}\n", network.uuid));
    Ok(())
}

pub(super) async fn name(session: &Session, args: args::Network) -> Result<(), Failure> {
    let network = session.of_network(&args.network, session.client.network(&args.network)).await?;
    session.terminal.print(&format!("{}\n", printable(&network.name)));
    Ok(())
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

pub(super) async fn info(session: &Session, args: args::Network) -> Result<(), Failure> {
    let network = session.of_network(&args.network, session.client.network(&args.network)).await?;
    if session.terminal.json {
        session.terminal.print_json(&network);
        return Ok(());
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{:15} {}", format!("{name}:"), printable(value));
    };
    line("Name", &network.name);
    line("UUID", &network.uuid.to_string());
    line("Active", yes(network.active));
    line("Persistent", yes(network.persistent));
    line("Autostart", yes(network.autostart));
    if let Some(bridge) = &network.bridge {
        line("Bridge", bridge);
    }
    for problem in &network.problems {
        line("Problem", problem);
    }
    session.terminal.print(&out);
    Ok(())
}

pub(super) async fn list(session: &Session, args: NetList) -> Result<(), Failure> {
    let all = session
        .client
        .networks()
        .await
        .map_err(|error| Failure::from(error).while_doing("Failed to list networks"))?;
    // Of two opposite filters neither says anything.
    let admits = |yes: bool, no: bool, is: bool| yes == no || yes == is;
    let wanted = |network: &Network| {
        (args.all || network.active != args.inactive)
            && admits(args.persistent, args.transient, network.persistent)
            && admits(args.autostart, args.no_autostart, network.autostart)
    };
    let rows: Vec<_> = all.into_iter().filter(wanted).collect();
    if session.terminal.json {
        session.terminal.print_json(&rows);
    } else if args.uuid || args.name {
        let line = |network: &Network| {
            let text = if args.uuid { network.uuid.to_string() } else { printable(&network.name) };
            format!("{text}\n")
        };
        session.terminal.print(&rows.iter().map(line).collect::<String>());
    } else {
        let mut table = Table::new(["Name", "State", "Autostart", "Persistent"]);
        for network in rows {
            let state = if network.active { "active" } else { "inactive" };
            let (autostart, persistent) = (yes(network.autostart), yes(network.persistent));
            table.row([network.name, state.into(), autostart.into(), persistent.into()]);
        }
        session.terminal.print(&table.text(!session.terminal.quiet));
    }
    Ok(())
}

pub(super) async fn update(session: &Session, args: NetUpdate) -> Result<(), Failure> {
    let NetUpdate { network, command, section, xml, parent_index, affects } = args;
    let affects = memory::affects(affects)?;
    let xml = if xml.starts_with('<') { xml } else { read_document(Path::new(&xml))? };
    let (live, config) = if affects.live || affects.config {
        (affects.live, affects.config)
    } else {
        let now = session.of_network(&network, session.client.network(&network)).await?;
        (now.active, !now.active)
    };
    let change = UpdateNetwork { command, section, parent_index, xml };
    let call = session.client.update_network(&network, &change, Affects { live, config });
    let attempt = format!("Failed to update network {network}");
    session.of_network(&network, call).await.map_err(|failure| failure.unless_lost(attempt))?;
    let what = match (config, live) {
        (true, true) => "persistent config and live state",
        (true, false) => "persistent config",
        _ => "live state",
    };
    session.terminal.say(&format!("Updated network {} {what}\n", printable(&network)));
    Ok(())
}

pub(super) async fn leases(session: &Session, args: NetDhcpLeases) -> Result<(), Failure> {
    let network = &args.network;
    let call = session.client.leases(network, args.mac.as_deref());
    let attempt = format!("Failed to get leases info for {network}");
    let leases = session.of_network(network, call).await;
    let leases = leases.map_err(|failure| failure.unless_lost(attempt))?;
    if session.terminal.json {
        session.terminal.print_json(&leases);
        return Ok(());
    }
    let mut table = Table::new([
        "Expiry Time",
        "MAC address",
        "Protocol",
        "IP address",
        "Hostname",
        "Client ID or DUID",
    ]);
    for lease in leases {
        let expiry = lease.expires.map_or_else(|| "never".to_owned(), local_time);
        let protocol = if lease.address.contains(':') { "ipv6" } else { "ipv4" };
        table.row([
            expiry,
            lease.mac,
            protocol.to_owned(),
            format!("{}/{}", lease.address, lease.prefix),
            lease.hostname.unwrap_or_else(|| "-".to_owned()),
            lease.client_id.map_or_else(|| "-".to_owned(), |id| with_colons(&id)),
        ]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

pub(super) async fn domifaddr(session: &Session, args: Domifaddr) -> Result<(), Failure> {
    if !["lease", "agent", "arp"].contains(&args.source.as_str()) {
        let text = format!(
            "addresses from '{}' are not provided; use --source lease, agent or arp",
            args.source
        );
        return Err(Failure::usage(text));
    }
    let call = session.client.addresses(&args.domain, &args.source);
    let mut rows = session.of(&args.domain, call).await?;
    rows.retain(|row| args.interface.as_ref().is_none_or(|interface| row.interface == *interface));
    if session.terminal.json {
        session.terminal.print_json(&rows);
        return Ok(());
    }
    let mut table = Table::new(["Name", "MAC address", "Protocol", "Address"]);
    let mut last = None;
    for row in rows {
        let protocol = if row.address.contains(':') { "ipv6" } else { "ipv4" };
        let address = format!("{}/{}", row.address, row.prefix);
        // Of an interface with several addresses, the first line names it.
        let again = !args.full && last.as_ref() == Some(&row.interface);
        last = Some(row.interface.clone());
        let [name, mac] =
            if again { ["-".to_owned(), "-".to_owned()] } else { [row.interface, row.mac] };
        table.row([name, mac, protocol.to_owned(), address]);
    }
    session.terminal.print(&table.text(!session.terminal.quiet));
    Ok(())
}

/// `2026-11-28 12:00:00`, where the host is.
fn local_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let zoned = time.map(|time| time.to_zoned(jiff::tz::TimeZone::system()));
    zoned.map_or_else(|| seconds.to_string(), |time| time.strftime("%F %T").to_string())
}

/// Hexadecimal digits as they are usually written: `01:52:54:…`.
fn with_colons(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 2 == 0 {
            out.push(':');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::with_colons;

    #[test]
    fn identifiers_are_written_in_pairs() {
        assert_eq!(with_colons("01525400ab"), "01:52:54:00:ab");
        assert_eq!(with_colons(""), "");
    }
}
