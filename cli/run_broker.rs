//! `manor run-broker`: the daemon's privileged acts, in a process of their own. Started by the daemon, never
//! by a person.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};

use broker::{Ledger, Local, NetworkTerms, Owner, Policy, Remote, Start};
use clap::Parser as _;
use management::config::{Config, Domains, Isolation};
use management::passwd::{self, PASSWD, User};

use crate::failure::{Failure, chain};
use crate::log;

/// Its standard input is the daemon's door.
#[derive(clap::Parser)]
struct Role {
    /// Its own while it is at work
    #[arg(long)]
    lock: PathBuf,
    /// Where cgroups of guests go
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Whose the daemon's directories are, USER:GROUP by number
    #[arg(long, requires_all = ["own", "ledger"])]
    owner: Option<String>,
    /// Where it is written down which processes are guests' and networks', out of the daemon's reach
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// One of those directories
    #[arg(long)]
    own: Vec<PathBuf>,
    /// What it may have beside the usual places
    #[arg(long)]
    allow: Vec<PathBuf>,
    /// What processes of guests are told to insist on, whatever the daemon asks of them
    #[arg(long, allow_hyphen_values = true)]
    term: Vec<String>,
    /// Whom processes of networks become, USER:GROUP by number, whatever the daemon asks
    #[arg(long)]
    network_user: Option<String>,
    /// They are confined by a filter, whatever the daemon asks
    #[arg(long)]
    network_seccomp: bool,
    #[arg(long)]
    log_level: String,
    #[arg(long)]
    log_format: String,
}

/// To be called before anything is open that the broker has no business with.
pub(crate) fn start(config: &Config, owner: Option<&Owner>) -> Result<(Remote, Child), Failure> {
    let failed = |error| chain(&error).while_doing("the daemon cannot start");
    std::fs::create_dir_all(&config.run_dir).map_err(|source| {
        let act = format!("create {}", config.run_dir.display());
        failed(broker::BrokerError::Host { act, source })
    })?;
    let mut arguments: Vec<OsString> = vec!["run-broker".into()];
    let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    option("--lock", config.run_dir.join("broker.lock").into());
    option("--log-level", config.log.level.clone().into());
    option("--log-format", config.log.format.clone().into());
    if !config.domains.cgroup.as_os_str().is_empty() {
        option("--cgroup", config.domains.cgroup.clone().into());
    }
    if let Some(Owner { uid, gid, directories }) = owner {
        option("--owner", format!("{uid}:{gid}").into());
        option("--ledger", ledger_beside(&config.run_dir).into());
        directories.iter().for_each(|directory| option("--own", directory.into()));
        config.files.allow.iter().for_each(|path| option("--allow", path.into()));
        terms(&config.domains).into_iter().for_each(|term| option("--term", term.into()));
        // Where there is none, networks are refused, and say why.
        if let Some(User { uid, gid }) = networks_user(&config.networks.user) {
            option("--network-user", format!("{uid}:{gid}").into());
        }
        arguments.extend(config.networks.seccomp.then(|| "--network-seccomp".into()));
    }
    // Also after the file was replaced by a newer one.
    Remote::start(&Start { program: "/proc/self/exe".into(), arguments }).map_err(failed)
}

/// Not in it, where everything is the daemon's.
pub(crate) fn ledger_beside(run_dir: &Path) -> PathBuf {
    // A slash at the end would lead into it.
    let mut path = run_dir.components().collect::<PathBuf>().into_os_string();
    path.push("-broker");
    path.into()
}

/// How far guests' processes have to be confined, as root has set it: a daemon that was taken over may not have
/// one run as root.
fn terms(domains: &Domains) -> Vec<String> {
    let isolation = match domains.isolation {
        Isolation::Off => None,
        Isolation::Possible => Some("possible"),
        Isolation::Required => Some("required"),
    };
    let mut terms = Vec::new();
    if let Some(least) = isolation {
        let (first, last) = domains.users;
        terms.extend([format!("--isolation={least}"), format!("--users={first}-{last}")]);
    }
    terms.extend(domains.seccomp.then(|| "--seccomp".to_owned()));
    terms
}

/// Not root, by whatever name.
fn networks_user(name: &str) -> Option<User> {
    passwd::find(name, Path::new(PASSWD)).filter(|user| user.uid != 0 && user.gid != 0)
}

/// USER:GROUP
fn ids(text: &str) -> Option<(u32, u32)> {
    let (uid, gid) = text.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = [OsString::from("run-broker")].into_iter().chain(words);
    let role = Role::try_parse_from(words).unwrap_or_else(|error| error.exit());
    log::start(&role.log_level, &role.log_format);
    let owner = role.owner.as_deref().and_then(ids);
    let owner = owner.map(|(uid, gid)| Owner { uid, gid, directories: role.own.clone() });
    if owner.is_none() && role.owner.is_some() {
        tracing::error!("the owner of the daemon's directories is no pair of numbers");
        return ExitCode::FAILURE;
    }
    // Root needs no group to do what it does. Where it acts as the daemon's user, its own would open to a link
    // of the daemon's what only they may read. There is no second thread yet.
    if owner.is_some()
        && let Err(error) = rustix::thread::set_thread_groups(&[])
    {
        tracing::error!(%error, "the broker cannot give up its groups");
        return ExitCode::FAILURE;
    }
    let lock = role.lock.clone();
    match door().and_then(|door| broker::serve(door, &lock, || local(role, owner))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %chain(&error).lines().join(": "), "the broker ends");
            ExitCode::FAILURE
        }
    }
}

/// What it does, and for whom.
fn local(role: Role, owner: Option<Owner>) -> Result<Local, broker::BrokerError> {
    let ledger = role.ledger.as_deref().map(Ledger::open).transpose()?;
    let policy = owner.as_ref().zip(ledger);
    let policy =
        policy.map(|(it, ledger)| Policy::new(it, &role.allow, role.cgroup.clone(), ledger));
    let local = Local::new().with_cgroup_parent(role.cgroup).with_owner(owner).with_policy(policy);
    let networks = NetworkTerms {
        user: role.network_user.as_deref().and_then(ids),
        seccomp: role.network_seccomp,
    };
    Ok(local.with_terms(role.term).with_network_terms(networks))
}

/// Out of the way of programs that are run, which would have it as their input.
fn door() -> Result<std::os::fd::OwnedFd, broker::BrokerError> {
    use std::os::fd::AsFd as _;
    let take = || {
        let door = std::io::stdin().as_fd().try_clone_to_owned()?;
        let null = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        Ok(door)
    };
    take().map_err(|source| broker::BrokerError::Host { act: "take the door".into(), source })
}
