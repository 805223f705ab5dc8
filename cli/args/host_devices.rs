//! Verbs of the host's devices and interfaces, and of filters.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct NodedevList {
    /// capability names, separated by comma
    #[arg(long, value_name = "STRING")]
    pub(crate) cap: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NodedevDumpxml {
    /// device name
    pub(crate) device: String,
}

#[derive(Debug, Args)]
pub(crate) struct IfaceList {
    /// list inactive interfaces
    #[arg(long, conflicts_with = "all")]
    pub(crate) inactive: bool,
    /// list inactive & active interfaces
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IfaceDumpxml {
    /// interface name
    pub(crate) interface: String,
}

#[derive(Debug, Args)]
pub(crate) struct Nwfilter {
    /// network filter name or uuid
    pub(crate) nwfilter: String,
}

#[derive(Debug, Args)]
pub(crate) struct NwfilterDefine {
    /// file containing an XML network filter description
    pub(crate) file: PathBuf,
    /// validate the XML against the schema: it always is
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NwfilterBindingDumpxml {
    /// network filter binding port dev
    pub(crate) binding: String,
}
