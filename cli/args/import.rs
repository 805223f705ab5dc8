//! Moving in from elsewhere.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// show what of libvirt's definitions on this host can be taken over, and how; then take it over
    ///
    /// Guests, networks, pools, secrets, and which of them start with the host, by libvirt's files; libvirt
    /// need not run. Without --apply nothing is changed. libvirt's files never are.
    Libvirt(ImportLibvirt),
}

#[derive(Debug, Args)]
pub(crate) struct ImportLibvirt {
    /// take over what is not refused
    #[arg(long)]
    pub(crate) apply: bool,
    /// root of the host whose files these are
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
}
