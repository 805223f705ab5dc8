//! Verbs that tell what is.

use clap::Args;

use super::Affects;

#[derive(Debug, Args)]
pub(crate) struct Domblklist {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// get inactive rather than running configuration
    #[arg(long)]
    pub(crate) inactive: bool,
    /// additionally display the type and device value
    #[arg(long)]
    pub(crate) details: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Domblkinfo {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// block device
    #[arg(required_unless_present = "all")]
    pub(crate) device: Option<String>,
    /// human readable output
    #[arg(long)]
    pub(crate) human: bool,
    /// display all block devices info
    #[arg(long, conflicts_with = "device")]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DomifGetlink {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// interface device (MAC Address)
    pub(crate) interface: String,
    /// Get persistent interface state
    #[arg(long, alias = "persistent")]
    pub(crate) config: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Domifaddr {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// network interface name
    #[arg(long)]
    pub(crate) interface: Option<String>,
    /// always display names and MACs of interfaces
    #[arg(long)]
    pub(crate) full: bool,
    /// address source: 'lease' | 'agent' | 'arp'
    #[arg(long, default_value = "lease")]
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct Domiflist {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// get inactive rather than running configuration
    #[arg(long)]
    pub(crate) inactive: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Dommemstat {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// period in seconds to set collection
    #[arg(long)]
    pub(crate) period: Option<u32>,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

#[derive(Debug, Args)]
pub(crate) struct Domstate {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// also print reason for the state
    #[arg(long)]
    pub(crate) reason: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DomdirtyrateCalc {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// calculate memory dirty rate within specified seconds, 1 to 60
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seconds: u32,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Domstats {
    /// list of domains to get stats for
    pub(crate) domain: Vec<String>,
    /// report domain state
    #[arg(long)]
    pub(crate) state: bool,
    /// report domain physical cpu usage
    #[arg(long)]
    pub(crate) cpu_total: bool,
    /// report domain balloon statistics
    #[arg(long)]
    pub(crate) balloon: bool,
    /// report domain virtual cpu information
    #[arg(long)]
    pub(crate) vcpu: bool,
    /// report domain network interface information
    #[arg(long)]
    pub(crate) interface: bool,
    /// report domain block device statistics
    #[arg(long)]
    pub(crate) block: bool,
    /// report domain IOThread information
    #[arg(long)]
    pub(crate) iothread: bool,
    /// report domain dirty rate information
    #[arg(long)]
    pub(crate) dirtyrate: bool,
    /// list only active domains
    #[arg(long)]
    pub(crate) list_active: bool,
    /// list only inactive domains
    #[arg(long)]
    pub(crate) list_inactive: bool,
    /// list only running domains
    #[arg(long)]
    pub(crate) list_running: bool,
    /// list only paused domains
    #[arg(long)]
    pub(crate) list_paused: bool,
    /// list only shutoff domains
    #[arg(long)]
    pub(crate) list_shutoff: bool,
    /// list only persistent domains
    #[arg(long)]
    pub(crate) list_persistent: bool,
    /// list only transient domains
    #[arg(long)]
    pub(crate) list_transient: bool,
    /// do not pretty-print the fields
    #[arg(long)]
    pub(crate) raw: bool,
    /// report only stats that are accessible instantly (always so)
    #[arg(long)]
    pub(crate) nowait: bool,
}

#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct List {
    /// list inactive domains
    #[arg(long)]
    pub(crate) inactive: bool,
    /// list inactive & active domains
    #[arg(long)]
    pub(crate) all: bool,
    /// list transient domains
    #[arg(long)]
    pub(crate) transient: bool,
    /// list persistent domains
    #[arg(long)]
    pub(crate) persistent: bool,
    /// list domains with existing snapshot
    #[arg(long)]
    pub(crate) with_snapshot: bool,
    /// list domains without a snapshot
    #[arg(long)]
    pub(crate) without_snapshot: bool,
    /// list domains with existing checkpoint
    #[arg(long)]
    pub(crate) with_checkpoint: bool,
    /// list domains without a checkpoint
    #[arg(long)]
    pub(crate) without_checkpoint: bool,
    /// list domains in running state
    #[arg(long)]
    pub(crate) state_running: bool,
    /// list domains in paused state
    #[arg(long)]
    pub(crate) state_paused: bool,
    /// list domains in shutoff state
    #[arg(long)]
    pub(crate) state_shutoff: bool,
    /// list domains in other states
    #[arg(long)]
    pub(crate) state_other: bool,
    /// list domains with autostart enabled
    #[arg(long)]
    pub(crate) autostart: bool,
    /// list domains with autostart disabled
    #[arg(long)]
    pub(crate) no_autostart: bool,
    /// list domains with managed save state
    #[arg(long)]
    pub(crate) with_managed_save: bool,
    /// list domains without managed save
    #[arg(long)]
    pub(crate) without_managed_save: bool,
    /// list uuid's only
    #[arg(long)]
    pub(crate) uuid: bool,
    /// list domain names only
    #[arg(long)]
    pub(crate) name: bool,
    /// list domain IDs only
    #[arg(long)]
    pub(crate) id: bool,
    /// list table (default)
    #[arg(long)]
    pub(crate) table: bool,
    /// mark inactive domains with managed save state (there is none)
    #[arg(long)]
    pub(crate) managed_save: bool,
    /// show domain title
    #[arg(long)]
    pub(crate) title: bool,
}
