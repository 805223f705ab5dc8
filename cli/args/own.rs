//! Manor's own verbs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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
    /// For this user alone, without root: its sockets and files are in XDG_RUNTIME_DIR and ~/.local/state/manor,
    /// its configuration is ~/.config/manor/manor.toml; 'manor list' finds it
    #[arg(long, conflicts_with = "driver")]
    pub(crate) user: bool,
    /// What runs guests. Nothing does with 'test': all else is as it is, on a host that is made up, to
    /// test tools with. It needs no privilege, and says on its output where it can be reached
    #[arg(long, value_enum, value_name = "DRIVER", default_value = "kvm")]
    pub(crate) driver: Driver,
    /// What there is at the beginning: <node> with domains, networks and pools (with --driver test)
    #[arg(long, value_name = "FILE")]
    pub(crate) fixture: Option<PathBuf>,
    /// Keep definitions here; without it nothing outlives the daemon (with --driver test)
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Listen for the API here
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Listen for other hosts here, by TLS with the certificate that the configuration names
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Listen for libvirt's clients here: virsh -c 'qemu+unix:///system?socket=PATH'
    #[arg(long, value_name = "PATH")]
    pub(crate) libvirt_socket: Option<PathBuf>,
    /// Listen for libvirt's clients of other hosts here, by TLS: virsh -c qemu+tls://HOST/system
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) libvirt_tls: Option<std::net::SocketAddr>,
    /// Where the certificates of that are, by libvirt's names
    #[arg(long, value_name = "DIR")]
    pub(crate) pkipath: Option<PathBuf>,
    /// Listen for libvirt's clients in plain text here, on a loopback address: virsh -c qemu+tcp://127.0.0.1/system
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) libvirt_tcp: Option<std::net::SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    Kvm,
    Test,
}

/// As libvirt's program of the name `virt-ssh-helper`, which clients run through ssh.
#[derive(Debug, Args)]
pub(crate) struct SshHelper {
    /// Connect to the read-only socket
    #[arg(short, long)]
    pub(crate) readonly: bool,
    /// The daemon's configuration, which tells its sockets
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub(crate) config: PathBuf,
    /// qemu:///system; with ?socket=PATH, that socket
    pub(crate) uri: String,
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
    #[command(flatten)]
    pub(crate) cloud_init: super::CloudInit,
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
