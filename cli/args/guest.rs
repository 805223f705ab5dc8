//! Verbs that a guest's agent answers.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Domfsfreeze {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// mountpoint path to be frozen; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) mountpoint: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Domfstrim {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// just a hint to ignore contiguous free ranges smaller than this (Bytes)
    #[arg(long, value_name = "BYTES", default_value = "0")]
    pub(crate) minimum: String,
}

#[derive(Debug, Args)]
pub(crate) struct Domhostname {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// address source: 'agent' (the only one there is)
    #[arg(long, default_value = "agent")]
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct Domtime {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// set to the time of the host running this command
    #[arg(long)]
    pub(crate) now: bool,
    /// print domain's time in human readable form
    #[arg(long)]
    pub(crate) pretty: bool,
    /// instead of setting given time, synchronize from domain's RTC
    #[arg(long)]
    pub(crate) sync: bool,
    /// time to set, in seconds since the Unix epoch
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time: Option<i64>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of virsh's")]
pub(crate) struct Guestinfo {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// report active users
    #[arg(long)]
    pub(crate) user: bool,
    /// report operating system information
    #[arg(long)]
    pub(crate) os: bool,
    /// report timezone information
    #[arg(long)]
    pub(crate) timezone: bool,
    /// report hostname
    #[arg(long)]
    pub(crate) hostname: bool,
    /// report filesystem information
    #[arg(long)]
    pub(crate) filesystem: bool,
    /// report disk information
    #[arg(long)]
    pub(crate) disk: bool,
    /// report interface information
    #[arg(long)]
    pub(crate) interface: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GuestExec {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// what to run, by its path or by a name that the guest finds, and its arguments
    #[arg(required = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
    /// a variable of its environment, NAME=value; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// pass on what this command reads, up to 32 KiB
    #[arg(long)]
    pub(crate) stdin: bool,
    /// print its number in the guest, and do not wait for it
    #[arg(long)]
    pub(crate) detach: bool,
    /// wait for so many seconds at most; it goes on in the guest
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct QemuAgentCommand {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// command
    #[arg(required = true)]
    pub(crate) cmd: Vec<String>,
    /// timeout seconds. must be positive.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// execute command without timeout (for as long as the daemon waits)
    #[arg(long)]
    pub(crate) block: bool,
    /// pretty-print the output
    #[arg(long)]
    pub(crate) pretty: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetUserPassword {
    /// domain name, id or uuid
    pub(crate) domain: String,
    /// the username
    pub(crate) user: String,
    /// the new password
    pub(crate) password: String,
    /// the password is already encrypted
    #[arg(long)]
    pub(crate) encrypted: bool,
}
