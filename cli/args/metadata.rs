//! Verbs of what is noted about a domain, and of what becomes of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Affects;

#[derive(Debug, Args)]
pub(crate) struct Desc {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// message; an empty one removes what there is
    #[arg(value_name = "NEW-DESC")]
    pub(crate) new_desc: Vec<String>,
    /// modify/get title instead of description
    #[arg(long)]
    pub(crate) title: bool,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Metadata {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// URI of the namespace
    pub(crate) uri: String,
    /// prefix that stands for the namespace: virsh's --key, which names a file here
    #[arg(long, requires = "set")]
    pub(crate) prefix: Option<String>,
    /// new metadata to set
    #[arg(long, value_name = "XML", requires = "prefix", conflicts_with = "remove")]
    pub(crate) set: Option<String>,
    /// remove the metadata corresponding to an uri
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct SetLifecycleAction {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// lifecycle type to modify: poweroff, reboot or crash
    #[arg(value_name = "TYPE")]
    pub(crate) event: String,
    /// lifecycle action to set: destroy, restart or preserve
    pub(crate) action: String,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct GuestAgentTimeout {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// timeout seconds; -2: as long as it takes (also without a number), -1: the usual one
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) timeout: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct Guestvcpus {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// list of cpus to enable or disable
    #[arg(long, value_name = "CPULIST")]
    pub(crate) cpulist: Option<String>,
    /// enable cpus specified by cpulist
    #[arg(long, requires = "cpulist", conflicts_with = "disable")]
    pub(crate) enable: bool,
    /// disable cpus specified by cpulist
    #[arg(long, requires = "cpulist")]
    pub(crate) disable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetUserSshkeys {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// user to list authorized keys for
    pub(crate) user: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetUserSshkeys {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// user to set authorized keys for
    pub(crate) user: String,
    /// file with the keys, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// clear out authorized keys file before adding new keys
    #[arg(long, conflicts_with = "remove")]
    pub(crate) reset: bool,
    /// remove keys from the authorized keys file
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dompmsuspend {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// where the guest keeps its memory: its own disk
    pub(crate) target: SleepTarget,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SleepTarget {
    Disk,
}
