//! The command line: verbs, options and what they mean. virsh's words where virsh has the verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use crate::disk_image::Image;

/// Virtual machines of this host, from libvirt domain XML.
#[derive(Debug, Parser)]
#[command(
    name = "manor",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    subcommand_help_heading = "Commands",
    after_help = "'manor help' lists the commands by group, 'manor help COMMAND' explains one."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Daemon to talk to: a socket's path, http://HOST:PORT or qemu:///system.
    /// Else MANOR_URI, else LIBVIRT_DEFAULT_URI
    #[arg(short, long, value_name = "URI", global = true)]
    pub(crate) connect: Option<String>,
    /// Print results only: no headers, no messages
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Connect read-only
    #[arg(short, long, global = true)]
    pub(crate) readonly: bool,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no colours
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Key that leaves a console
    #[arg(short, long, value_name = "CHAR", default_value = "^]", global = true, hide = true)]
    pub(crate) escape: String,
    /// virsh's tuning of its own connection, which Manor does without
    #[arg(short, long, value_name = "NUM", global = true, hide = true)]
    pub(crate) debug: Option<u32>,
    #[arg(short, long, value_name = "NUM", global = true, hide = true)]
    pub(crate) keepalive_interval: Option<u32>,
    #[arg(short = 'K', long, value_name = "NUM", global = true, hide = true)]
    pub(crate) keepalive_count: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// autostart a domain
    Autostart(Autostart),
    /// connect to the guest console
    Console(Console),
    /// create a domain from an XML file
    Create(Create),
    /// define (but don't start) a domain from an XML file
    Define(Define),
    /// destroy (stop) a domain
    Destroy(Destroy),
    /// domain display connection URI
    Domdisplay(Domdisplay),
    /// convert a domain name or UUID to domain id
    Domid(Domain),
    /// set link state of a virtual interface
    DomifSetlink(DomifSetlink),
    /// convert a domain id or UUID to domain name
    Domname(Domain),
    /// rename a domain
    Domrename(Domrename),
    /// convert a domain name or id to domain UUID
    Domuuid(Domain),
    /// domain information in XML
    Dumpxml(Dumpxml),
    /// Domain Events
    Event(Event),
    /// reboot a domain
    Reboot(Ask),
    /// reset a domain
    Reset(Domain),
    /// resume a domain
    Resume(Domain),
    /// gracefully shutdown a domain
    Shutdown(Ask),
    /// take a screenshot of a current domain console and store it into a file
    Screenshot(Screenshot),
    /// send keycodes to the guest
    SendKey(SendKey),
    /// change memory allocation
    Setmem(Setmem),
    /// start a (previously defined) inactive domain
    Start(Start),
    /// suspend a domain
    Suspend(Domain),
    /// tty console
    Ttyconsole(Domain),
    /// undefine a domain
    Undefine(Undefine),
    /// vnc display
    Vncdisplay(Domain),

    /// list all domain blocks
    Domblklist(Domblklist),
    /// get link state of a virtual interface
    DomifGetlink(DomifGetlink),
    /// list all domain virtual interfaces
    Domiflist(Domiflist),
    /// domain information
    Dominfo(Domain),
    /// get memory statistics for a domain
    Dommemstat(Dommemstat),
    /// domain state
    Domstate(Domstate),
    /// get statistics about one or multiple domains
    Domstats(Domstats),
    /// list domains
    List(List),

    /// capabilities
    Capabilities,
    /// print the hypervisor hostname
    Hostname,
    /// node information
    Nodeinfo,
    /// print the hypervisor canonical URI
    Uri,
    /// show version
    Version(Version),

    /// print help
    Help(Help),

    /// run the management daemon
    Daemon(Daemon),
    /// look after the daemon's configuration file
    #[command(subcommand)]
    Config(Config),
    /// say what this host can do for guests, and why not when it can't
    HostCheck,
    /// look at, make, copy and mend disk images
    #[command(subcommand)]
    Image(Image),
    /// run a domain in the foreground, without a daemon
    Run(Run),
    /// install systemd units, group, directories and configuration, or remove them
    Setup(Setup),
    /// print a shell's completion script
    Completion(Completion),
    /// write the manual pages
    #[command(hide = true)]
    Man(Man),
}

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
pub(crate) struct Start {
    /// name of the inactive domain
    pub(crate) domain: String,
    /// attach to console after creation
    #[arg(long)]
    pub(crate) console: bool,
    /// leave the guest paused after creation
    #[arg(long)]
    pub(crate) paused: bool,
    /// force fresh boot by discarding any managed save (there is none)
    #[arg(long)]
    pub(crate) force_boot: bool,
    /// re-initialize NVRAM from its pristine template
    #[arg(long)]
    pub(crate) reset_nvram: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Undefine {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// remove domain managed state file (there is none)
    #[arg(long)]
    pub(crate) managed_save: bool,
    /// remove all domain snapshot metadata (there is none)
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

#[derive(Debug, Args)]
pub(crate) struct Domstate {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// also print reason for the state
    #[arg(long)]
    pub(crate) reason: bool,
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

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// report daemon version too
    #[arg(long)]
    pub(crate) daemon: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Help {
    /// Prints global help, command specific help, or help for a group of related commands
    pub(crate) command: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check a configuration file and say what is wrong in it
    Check {
        #[arg(default_value = crate::config::DEFAULT_PATH)]
        file: PathBuf,
    },
    /// Print the default configuration with its explanations
    Default,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// File containing an XML domain description
    pub(crate) file: PathBuf,
    /// Where the control socket and the locks lie meanwhile
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Do not install seccomp filters: only to debug the monitor itself
    #[arg(long, hide = true)]
    pub(crate) no_seccomp: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Undo what setup did. Definitions, changed configuration and logs stay
    #[arg(long)]
    pub(crate) remove: bool,
    /// With --remove: definitions, configuration and logs go too
    #[arg(long, requires = "remove")]
    pub(crate) purge: bool,
    /// Work on the system whose root this is, and start nothing
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Path of the manor binary in the units; this binary's own if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// Install the files only: neither enable nor start the daemon
    #[arg(long)]
    pub(crate) no_start: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    pub(crate) shell: Shell,
    /// Complete this command's name
    #[arg(long, default_value = "manor")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Zsh,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Directory to write them to
    pub(crate) directory: PathBuf,
}

/// Verbs of Manor's own; the others are read the way virsh reads them.
pub(crate) const NATIVE: &[&str] =
    &["daemon", "config", "host-check", "image", "run", "setup", "completion", "man"];
