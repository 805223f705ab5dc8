//! Why the broker could not: which thing, which part of its path, whose permission.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Granted, cgroup, process::cause};

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum BrokerError {
    #[error("{what} {} does not exist{}", path.display(), at(path, component))]
    Missing { what: String, path: PathBuf, component: PathBuf },
    #[error("no permission to {act} {what} {}{}: {owner}", path.display(), at(path, component))]
    Denied {
        act: Cow<'static, str>,
        what: String,
        path: PathBuf,
        component: PathBuf,
        owner: Ownership,
    },
    #[error("{what} {} is {found}; it must be {expected}", path.display())]
    WrongKind { what: String, path: PathBuf, found: Cow<'static, str>, expected: Cow<'static, str> },
    #[error(
        "firmware variables {} do not exist, and no template is known to make them from; name one: \
         <nvram template='…'>",
        path.display()
    )]
    NoTemplate { path: PathBuf },
    #[error("image {} is in use by {holder}", path.display())]
    Locked { path: PathBuf, holder: Holder },
    #[error("the domain's lock {} is held: its VMM process runs", path.display())]
    RunDirLocked { path: PathBuf },
    #[error(
        "there is no bridge {name:?} on this host; create it (ip link add {name} type bridge) or correct <source bridge=…>"
    )]
    NoBridge { name: String },
    #[error(
        "bridge {bridge:?} does not tell VLANs apart, so <vlan> would keep nothing from anybody; turn it on \
         (ip link set {bridge} type bridge vlan_filtering 1) or remove <vlan>"
    )]
    NoVlanFiltering { bridge: String },
    #[error(
        "there is no network interface {name:?} on this host; create it first (ip tuntap add {name} mode tap)"
    )]
    NoInterface { name: String },
    #[error(
        "there is no network interface {name:?} on this host; ip link shows those there are, for <source dev=…>"
    )]
    NoSource { name: String },
    #[error(
        "there is a network interface {name:?} on this host already; remove it, or choose another <target dev=…>"
    )]
    InterfaceTaken { name: String },
    #[error("cannot put a macvtap on network interface {name:?}: {reason}")]
    Direct {
        name: String,
        reason: Cow<'static, str>,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("network interface {name:?} is in use by another process")]
    InterfaceBusy { name: String },
    #[error("network interface {name:?} is no tap")]
    NotTap { name: String },
    #[error("tap {name:?} {problem}")]
    TapMode { name: String, problem: Cow<'static, str> },
    #[error(
        "there is {what} with the name {name:?} on this host; give the network another <bridge name=…>, or \
         remove that"
    )]
    BridgeTaken { name: String, what: String },
    #[error(
        "{wanted} cannot be the network's: {interface} has {net} on this host, and whoever is there would be \
         reached no more; choose another <ip>"
    )]
    SubnetTaken { wanted: ipnet::IpNet, net: ipnet::IpNet, interface: String },
    #[error(
        "{address} on bridge {bridge:?} is in use by another server; stop it, or have it listen elsewhere \
         (dnsmasq: bind-interfaces and except-interface={bridge})"
    )]
    ServiceBusy { address: std::net::SocketAddr, bridge: String },
    #[error(
        "the kernel refuses the rules of networks and ports: {what}; it needs nf_tables for them, with the \
         families inet and, where guests' ports are checked, bridge (CONFIG_NF_TABLES_BRIDGE)"
    )]
    Rules {
        what: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("the rules of port {tap:?} {problem}: this is a mistake of Manor's own")]
    Filter { tap: String, problem: Cow<'static, str> },
    #[error(
        "this host's kernel has not what a filter asks for: {what} needs the module {module}; load it (modprobe \
         {module}), or {instead}"
    )]
    FilterPart { what: String, module: Cow<'static, str>, instead: Cow<'static, str> },
    #[error(
        "the kernel does not limit what passes interface {name:?}: it needs sch_htb for what goes to a guest, \
         and sch_ingress, cls_u32 and act_police for what comes from one"
    )]
    Traffic {
        name: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("this host cannot run guests: {reason}")]
    NoKvm {
        reason: Cow<'static, str>,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("no permission to open /dev/kvm: {owner}; {remedy}")]
    KvmDenied { owner: Ownership, remedy: Cow<'static, str> },
    #[error("no cgroup for the domain: {reason}")]
    NoCgroup { reason: String },
    #[error(
        "the domain's limits need the controller {controller:?} of cgroup version 2: {reason}; remove what \
         needs it from the definition ({}), or give the host the controller",
        needs(controller)
    )]
    NoController { controller: Cow<'static, str>, reason: String },
    #[error("the kernel does not take {value:?} in {}{}", path.display(), cgroup::limits::explain(source))]
    Limit {
        path: PathBuf,
        value: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("there is a file {} already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error(
        "the broker does not {act} {} for the daemon: {reason}; if guests are to have it, root allows it in the \
         daemon's configuration ([files] allow = [{real:?}])",
        path.display()
    )]
    Refused {
        act: Cow<'static, str>,
        path: PathBuf,
        /// Where it leads.
        real: PathBuf,
        reason: String,
    },
    #[error("{what} is no guest's and no network's: the broker leaves it alone")]
    Stranger { what: String },
    #[error(
        "the broker knows no user for the processes of networks: [networks] user in the daemon's configuration named \
         none of this host's when the daemon began, or root; name one, and start the daemon anew"
    )]
    NoNetworkUser,
    #[error("port {port} is for the host's own services, as are all below {free}: choose another")]
    LowPort { port: u16, free: u16 },
    #[error("no space left to {act} {}", path.display())]
    NoSpace { act: Cow<'static, str>, path: PathBuf },
    #[error("{address} has no free port {}: choose another, or autoport='yes'", range(*first, *last))]
    PortBusy { address: std::net::IpAddr, first: u16, last: u16 },
    #[error("{source_there} is mounted on {}, which is another than the pool's; unmount it", path.display())]
    MountTaken { path: PathBuf, source_there: String },
    #[error("{} is in use, by a guest or another program: it cannot be unmounted", path.display())]
    MountBusy { path: PathBuf },
    #[error("this host has no {program}; install the package {package}")]
    NoProgram { program: Cow<'static, str>, package: Cow<'static, str> },
    #[error("passt, the network of {name}, does not start: {reason}")]
    Passt { name: String, reason: String },
    #[error("cannot connect to {place}")]
    Connect {
        place: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("{host:?} is no address, and no name that this host can find")]
    UnknownHost {
        host: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("socket path {} is {len} bytes long, and the kernel takes 107", path.display())]
    SocketPath { path: PathBuf, len: usize },
    #[error("process {pid} is not the one that was started: it ended, and its number was reused")]
    OtherProcess { pid: u32 },
    #[error("cannot {act}")]
    Host {
        act: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error("the broker, the process of this daemon that has its privileges, {what}")]
    Broker {
        what: String,
        #[serde(with = "cause")]
        source: io::Error,
    },
    #[error(
        "another daemon is at work here: its broker holds {}; stop that daemon, or give this one another \
         run_dir",
        lock.display()
    )]
    AnotherBroker { lock: PathBuf },
    #[error("the broker answered {answer} to another question")]
    Unexpected { answer: String },
}

/// Whom a file belongs to, and who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub our_uid: u32,
}

impl Ownership {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self {
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            our_uid: rustix::process::geteuid().as_raw(),
        })
    }
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, gid, mode, our_uid } = self;
        write!(f, "it belongs to {uid}:{gid} with mode {mode:04o}, and this is uid {our_uid}")
    }
}

/// Who holds an image's lock, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    Process { pid: u32, name: String },
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

/// What of a definition needs a controller.
fn needs(controller: &str) -> &'static str {
    match controller {
        "cpu" => "<shares>, <period> and <quota> of <cputune>",
        "memory" => "<memtune>",
        _ => "<blkiotune>",
    }
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("from {first} to {last}") }
}

fn at(path: &Path, component: &Path) -> String {
    if path == component { String::new() } else { format!(" (at {})", component.display()) }
}

impl BrokerError {
    pub(crate) fn unexpected(answer: &Granted) -> Self {
        Self::Unexpected { answer: format!("{answer:?}") }
    }

    pub(crate) fn host(act: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let act = act.into();
        move |source| Self::Host { act, source }
    }

    /// Say what stands in the way of opening `path`: the first component that does.
    pub(crate) fn open(act: &'static str, what: &str, path: &Path, source: io::Error) -> Self {
        let (what, path) = (what.to_owned(), path.to_owned());
        match source.kind() {
            io::ErrorKind::NotFound => {
                let component = first_missing(&path);
                Self::Missing { what, path, component }
            }
            io::ErrorKind::PermissionDenied => {
                let component = first_closed(&path);
                match Ownership::of(&component) {
                    Ok(owner) => Self::Denied { act: act.into(), what, path, component, owner },
                    Err(_) => {
                        Self::Host { act: format!("{act} {what} {}", path.display()), source }
                    }
                }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { act: act.into(), path }
            }
            _ => Self::Host { act: format!("{act} {what} {}", path.display()), source },
        }
    }
}

fn prefixes(path: &Path) -> impl Iterator<Item = &Path> {
    let mut all: Vec<&Path> = path.ancestors().filter(|part| *part != Path::new("")).collect();
    all.reverse();
    all.into_iter()
}

fn first_missing(path: &Path) -> PathBuf {
    prefixes(path).find(|part| part.symlink_metadata().is_err()).unwrap_or(path).to_owned()
}

/// The first directory that cannot be searched, else the file itself.
fn first_closed(path: &Path) -> PathBuf {
    let blind = prefixes(path).find(|part| {
        part.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    });
    blind.and_then(Path::parent).unwrap_or(path).to_owned()
}
