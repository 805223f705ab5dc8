//! Verbs that change a domain, or reach into it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Domain {
    /// domain name, id or uuid
    pub(crate) domain: String,
}

#[derive(Debug, Args)]
pub(crate) struct Autostart {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// disable autostarting
    #[arg(long)]
    pub(crate) disable: bool,
    /// start after the domains of lower orders, and shut down before them
    #[arg(long)]
    pub(crate) order: Option<u32>,
    /// seconds from its start to the turn of the next order
    #[arg(long)]
    pub(crate) delay: Option<u32>,
    /// seconds to shut down in when the host goes down, before its power is cut
    #[arg(long)]
    pub(crate) shutdown_timeout: Option<u32>,
    /// what becomes of it when the host goes down
    #[arg(long, value_enum)]
    pub(crate) at_shutdown: Option<AtShutdown>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AtShutdown {
    /// it is asked to shut down
    Shutdown,
    /// it is saved, and goes on when the host is back
    Save,
}

#[derive(Debug, Args)]
pub(crate) struct ShutdownGuests {
    /// seconds that a guest has which has no time of its own
    #[arg(long, default_value_t = 90)]
    pub(crate) timeout: u32,
    /// save guests that are not marked otherwise, so that they go on when the host is back
    #[arg(long)]
    pub(crate) save: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Console {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// character device name
    #[arg(long, value_name = "DEVICE")]
    pub(crate) devname: Option<String>,
    /// force console connection (disconnect already connected sessions)
    #[arg(long)]
    pub(crate) force: bool,
    /// only connect if safe console handling is supported
    #[arg(long)]
    pub(crate) safe: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Define {
    /// file containing an XML domain description
    pub(crate) file: PathBuf,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
    #[command(flatten)]
    pub(crate) cloud_init: CloudInit,
}

/// Documents for the guest's first boot.
#[derive(Debug, Args)]
pub(crate) struct CloudInit {
    /// give the guest a drive with this user-data for its cloud-init
    #[arg(long = "cloud-init", value_name = "USER-DATA")]
    pub(crate) user_data: Option<PathBuf>,
    /// with --cloud-init: more to tell than instance id and host name
    #[arg(long, value_name = "FILE", requires = "user_data")]
    pub(crate) meta_data: Option<PathBuf>,
    /// with --cloud-init: how the guest shall set up its network
    #[arg(long, value_name = "FILE", requires = "user_data")]
    pub(crate) network_config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// file containing an XML domain description
    pub(crate) file: PathBuf,
    /// attach to console after creation
    #[arg(long)]
    pub(crate) console: bool,
    /// leave the guest paused after creation
    #[arg(long)]
    pub(crate) paused: bool,
    /// validate the XML against the schema (always done)
    #[arg(long)]
    pub(crate) validate: bool,
    /// re-initialize NVRAM from its pristine template
    #[arg(long)]
    pub(crate) reset_nvram: bool,
    #[command(flatten)]
    pub(crate) cloud_init: CloudInit,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// terminate gracefully
    #[arg(long)]
    pub(crate) graceful: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Domrename {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// new domain name
    pub(crate) new_name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Dumpxml {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// show inactive defined XML
    #[arg(long)]
    pub(crate) inactive: bool,
    /// include security sensitive information in XML dump
    #[arg(long)]
    pub(crate) security_info: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Event {
    /// filter by domain name, id or uuid
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// which event type to wait for
    #[arg(long, value_name = "TYPE")]
    pub(crate) event: Option<String>,
    /// wait for all events instead of just one type
    #[arg(long)]
    pub(crate) all: bool,
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

/// Ask the guest to do something.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// how to ask: acpi|agent|initctl|signal|paravirt
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<String>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Start {
    /// name of the inactive domain
    pub(crate) domain: String,
    /// attach to console after creation
    #[arg(long)]
    pub(crate) console: bool,
    /// leave the guest paused after creation
    #[arg(long)]
    pub(crate) paused: bool,
    /// force fresh boot by discarding any managed save
    #[arg(long)]
    pub(crate) force_boot: bool,
    /// re-initialize NVRAM from its pristine template
    #[arg(long)]
    pub(crate) reset_nvram: bool,
    /// avoid file system cache when loading (memory stays in its file until it is used)
    #[arg(long)]
    pub(crate) bypass_cache: bool,
    /// go on from a managed save also over disks that have changed since
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Undefine {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// remove domain managed state file
    #[arg(long)]
    pub(crate) managed_save: bool,
    /// remove all domain snapshot metadata, and leave what the snapshots hold
    #[arg(long)]
    pub(crate) snapshots_metadata: bool,
    /// remove all domain checkpoint metadata (there is none)
    #[arg(long)]
    pub(crate) checkpoints_metadata: bool,
    /// remove nvram file
    #[arg(long)]
    pub(crate) nvram: bool,
    /// keep nvram file
    #[arg(long, conflicts_with = "nvram")]
    pub(crate) keep_nvram: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DomifSetlink {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// interface device (MAC Address)
    pub(crate) interface: String,
    /// new state of the device: up or down
    pub(crate) state: String,
    /// affect next boot
    #[arg(long, alias = "persistent")]
    pub(crate) config: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Domdisplay {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// includes the password into the connection URI if available
    #[arg(long)]
    pub(crate) include_password: bool,
    /// select particular graphical display (e.g. "vnc", "spice")
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// show all possible graphical displays
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Screenshot {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// where to store the screenshot ('-' for stdout)
    pub(crate) file: Option<String>,
    /// ID of a screen to take screenshot of
    #[arg(long, value_name = "NUMBER")]
    pub(crate) screen: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct SendKey {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// the key code
    #[arg(required = true)]
    pub(crate) keycode: Vec<String>,
    /// the codeset of keycodes, default:linux
    #[arg(long, value_name = "CODESET")]
    pub(crate) codeset: Option<String>,
    /// the time (in milliseconds) how long the keys will be held
    #[arg(long, value_name = "NUMBER")]
    pub(crate) holdtime: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Setmem {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// new memory size, as scaled integer (default KiB)
    pub(crate) size: String,
    #[command(flatten)]
    pub(crate) affects: Affects,
}

/// Which definition a change touches.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Affects {
    /// affect next boot
    #[arg(long)]
    pub(crate) config: bool,
    /// affect running domain
    #[arg(long)]
    pub(crate) live: bool,
    /// affect current domain
    #[arg(long)]
    pub(crate) current: bool,
}
