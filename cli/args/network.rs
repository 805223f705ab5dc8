//! Verbs of virtual networks.

use std::path::PathBuf;

use clap::Args;

use super::Affects;

#[derive(Debug, Args)]
pub(crate) struct Network {
    /// network name or uuid
    pub(crate) network: String,
}

#[derive(Debug, Args)]
pub(crate) struct NetAutostart {
    /// network name or uuid
    pub(crate) network: String,
    /// disable autostarting
    #[arg(long)]
    pub(crate) disable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetFile {
    /// file containing an XML network description
    pub(crate) file: PathBuf,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetDumpxml {
    /// network name or uuid
    pub(crate) network: String,
    /// show inactive defined XML
    #[arg(long)]
    pub(crate) inactive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetEvent {
    /// filter by network name or uuid
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// which event type to wait for
    #[arg(long, value_name = "TYPE")]
    pub(crate) event: Option<String>,
    /// loop until timeout or interrupt, rather than one-shot
    #[arg(long)]
    pub(crate) r#loop: bool,
    /// timeout seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// list valid event types
    #[arg(long)]
    pub(crate) list: bool,
    /// show timestamp for each printed event
    #[arg(long)]
    pub(crate) timestamp: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetUpdate {
    /// network name or uuid
    pub(crate) network: String,
    /// type of update (add-first, add-last (add), delete, or modify)
    pub(crate) command: String,
    /// which section of network configuration to update
    pub(crate) section: String,
    /// name of file containing xml (or, if it starts with '<', the complete xml element itself) to
    /// add/modify, or to be matched for search
    pub(crate) xml: String,
    /// which parent object to search through
    #[arg(long, value_name = "NUMBER")]
    pub(crate) parent_index: Option<usize>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct NetDhcpLeases {
    /// network name or uuid
    pub(crate) network: String,
    /// MAC address
    pub(crate) mac: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetPortList {
    /// network name or uuid
    pub(crate) network: String,
    /// list UUIDs only
    #[arg(long)]
    pub(crate) uuid: bool,
    /// list table (default)
    #[arg(long, conflicts_with = "uuid")]
    pub(crate) table: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetPort {
    /// network name or uuid
    pub(crate) network: String,
    /// port UUID
    pub(crate) port: String,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct NetList {
    /// list inactive networks
    #[arg(long)]
    pub(crate) inactive: bool,
    /// list inactive & active networks
    #[arg(long)]
    pub(crate) all: bool,
    /// list persistent networks
    #[arg(long)]
    pub(crate) persistent: bool,
    /// list transient networks
    #[arg(long)]
    pub(crate) transient: bool,
    /// list networks with autostart enabled
    #[arg(long)]
    pub(crate) autostart: bool,
    /// list networks with autostart disabled
    #[arg(long)]
    pub(crate) no_autostart: bool,
    /// list uuid's only
    #[arg(long)]
    pub(crate) uuid: bool,
    /// list network names only
    #[arg(long)]
    pub(crate) name: bool,
    /// list table (default)
    #[arg(long)]
    pub(crate) table: bool,
}
