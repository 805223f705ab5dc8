//! domblkerror, domblkstat, domifstat: how the devices of a domain fare, as virsh lists them.

use std::fmt::Write as _;

use api::types::{DomainStats, StateName};

use crate::args::{Domain, Domblkstat, Domifstat};
use crate::failure::{Exit, Failure};
use crate::terminal::printable;
use crate::verbs::Session;

/// The disks that a guest is paused for.
pub(crate) async fn domblkerror(session: &Session, args: Domain) -> Result<(), Failure> {
    let stats = running(session, &args.domain, "block").await?;
    let failed: Vec<_> =
        stats.block_stats.into_iter().filter(|disk| disk.fault.is_some()).collect();
    if session.terminal.json {
        session.terminal.print_json(&failed);
        return Ok(());
    }
    let mut text = String::new();
    for disk in &failed {
        let fault = disk.fault.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}: {}", printable(&disk.target), printable(fault));
    }
    if failed.is_empty() {
        text = "No errors found\n".to_owned();
    }
    session.terminal.print(&text);
    Ok(())
}

pub(crate) async fn domblkstat(session: &Session, args: Domblkstat) -> Result<(), Failure> {
    let stats = running(session, &args.domain, "block").await?;
    let device = args.device.as_deref();
    let is_it = |name: &str| device.is_none_or(|device| device == name);
    let found: Vec<_> = stats
        .block_stats
        .into_iter()
        .filter(|disk| is_it(&disk.target) || disk.source.as_deref().is_some_and(is_it))
        .collect();
    if let (Some(device), true) = (device, found.is_empty()) {
        return Err(Failure::new(Exit::NotFound, format!("invalid path: {device}")));
    }
    if session.terminal.json {
        session.terminal.print_json(&found);
        return Ok(());
    }
    let mut text = String::new();
    for disk in &found {
        let name = device.map_or(String::new(), |device| format!("{} ", printable(device)));
        for (counter, value) in [
            ("rd_req", disk.read_requests),
            ("rd_bytes", disk.read_bytes),
            ("wr_req", disk.write_requests),
            ("wr_bytes", disk.write_bytes),
            ("flush_operations", disk.flush_requests),
            ("rd_total_times", disk.read_time_ns),
            ("wr_total_times", disk.write_time_ns),
            ("flush_total_times", disk.flush_time_ns),
            ("errs", disk.errors),
        ] {
            let _ = writeln!(text, "{name}{counter} {value}");
        }
    }
    session.terminal.print(&text);
    Ok(())
}

pub(crate) async fn domifstat(session: &Session, args: Domifstat) -> Result<(), Failure> {
    let stats = running(session, &args.domain, "interface").await?;
    let name = &args.interface;
    let mut all = stats.interface_stats.into_iter();
    let found = all.find(|net| net.target == *name || net.mac.eq_ignore_ascii_case(name));
    let net = found.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("invalid path, '{name}' is not a known interface"))
    })?;
    if session.terminal.json {
        session.terminal.print_json(&net);
        return Ok(());
    }
    let mut text = String::new();
    for (counter, value) in [
        ("rx_bytes", net.receive_bytes),
        ("rx_packets", net.receive_packets),
        ("rx_drop", net.receive_drops),
        ("tx_bytes", net.transmit_bytes),
        ("tx_packets", net.transmit_packets),
        ("tx_drop", net.transmit_drops),
    ] {
        let _ = writeln!(text, "{} {counter} {value}", printable(name));
    }
    session.terminal.print(&text);
    Ok(())
}

async fn running(session: &Session, domain: &str, what: &str) -> Result<DomainStats, Failure> {
    let stats = session.of(domain, session.client.stats(domain)).await?;
    if stats.summary.state.state == StateName::ShutOff {
        let line = format!("Failed to get {what} stats for domain '{domain}'");
        return Err(Failure::other(line).also("domain is not running"));
    }
    Ok(stats)
}
