//! What can be asked of a broker, as plain data, and what comes back.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::limits::Limits;
use crate::cgroup::threads::ThreadRule;
use crate::confinement::SecurityFact;
use crate::group::GroupAct;
use crate::host_memory::HostMemory;
use crate::network::direct::Direct;
use crate::network::{ForeignChain, NetworkAct, Sockets};
use crate::passt::Passt;
use crate::pool::{PoolAct, PoolContents};
use crate::saved::SavedAct;
use crate::spawn::{Process, ProcessId};
use crate::stat::Stat;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// `/dev/kvm`
    OpenKvm,
    OpenInput {
        what: String,
        path: PathBuf,
    },
    OpenOutput {
        path: PathBuf,
        append: bool,
    },
    OpenImage {
        path: PathBuf,
        read_only: bool,
        /// Past the host's page cache (`O_DIRECT`).
        direct: bool,
        sharing: Sharing,
    },
    /// A guest's own firmware variables, made from `template` if there are none yet.
    MakeVariables {
        path: PathBuf,
        template: Option<PathBuf>,
        /// Make them anew.
        reset: bool,
    },
    RemoveVariables {
        path: PathBuf,
    },
    /// Something with a file of a guest's memory.
    Saved(SavedAct),
    /// Read the header of an image, which is the one file that comes with it.
    Inspect {
        format: String,
    },
    /// Something with a pool, which is a directory.
    Pool {
        pool: PathBuf,
        act: PoolAct,
    },
    /// A process that does something to the images passed beside this message, and has nothing else. What
    /// it is to do comes over the socket that comes back, and so does what it says; it ends with that.
    WorkOnImages,
    /// Something with a volume group of LVM.
    Group {
        group: String,
        act: GroupAct,
    },
    /// Which volume groups of LVM there are.
    VolumeGroups,
    OpenTap(Tap),
    /// passt(1) for interface `name`, which ends with the connection to it that comes back.
    StartPasst {
        name: String,
        passt: Passt,
        /// Of the guest.
        cgroup: Option<PathBuf>,
    },
    /// `/dev/vhost-net`, if there is one for us.
    OpenVhostNet,
    /// `/dev/vhost-vsock`, if there is one, with this address for the guest, or any that is free.
    OpenVsock {
        cid: Option<u32>,
    },
    OpenPty,
    Listen {
        path: PathBuf,
    },
    ListenTcp {
        address: std::net::IpAddr,
        first: u16,
        last: u16,
    },
    /// A connection to a server, for a guest's disk.
    Connect(Peer),
    MakeRunDir {
        path: PathBuf,
    },
    RemoveRunDir {
        path: PathBuf,
    },
    LockRunDir {
        path: PathBuf,
    },
    MakeCgroup {
        name: String,
    },
    RemoveCgroup {
        path: PathBuf,
    },
    /// What is limited in the cgroup of a running domain from now on.
    Limit {
        cgroup: PathBuf,
        limits: Limits,
    },
    /// Where the threads of a VMM run from now on, and how much.
    TuneThreads {
        process: ProcessId,
        cgroup: Option<PathBuf>,
        rules: Vec<ThreadRule>,
    },
    /// A number of how the host treats its memory.
    HostMemory(HostMemory),
    /// Something with the networks of the host.
    Network(NetworkAct),
    Spawn {
        role: Role,
        /// The domain's or the network's, for the process list.
        name: String,
        stdio: Stdio,
        cgroup: Option<PathBuf>,
        /// In force before it runs.
        limits: Limits,
    },
    Kill {
        process: ProcessId,
        cgroup: Option<PathBuf>,
    },
    /// The VMM that has this lock file open. It says of itself that it is process `said`.
    FindVmm {
        said: u32,
        lock: PathBuf,
    },
    /// What lies at a path, or where the link there leads.
    Stat {
        path: PathBuf,
        follow: bool,
    },
    /// Where a path leads in the end.
    RealPath {
        path: PathBuf,
    },
    /// What this process may do.
    Confinement {
        process: ProcessId,
    },
    /// A socket that tells of changes of the host's packet filter.
    WatchRules,
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Domain,
    Network,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Peer {
    /// By name or address.
    Tcp {
        host: String,
        port: u16,
    },
    Unix {
        path: PathBuf,
    },
}

/// Who else may use an image at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Readers, and no other writer.
    Exclusive,
    /// Anyone: the guests see to it themselves (`<shareable/>`).
    Shared,
    /// As exclusive, for a process that has locked it so already: others are not looked for.
    Again,
}

/// A network interface of the host whose other end is a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tap {
    /// Made now, in a bridge, gone with its last file.
    Bridged {
        bridge: String,
        /// None: the first free `vnetN`.
        name: Option<String>,
        /// The guest's; the host's end gets its own.
        mac: [u8; 6],
        mtu: Option<u16>,
        queues: u16,
        /// Where the bridge tells VLANs apart, those it is in; none: as the bridge has it.
        #[serde(default)]
        vlans: Option<crate::PortVlans>,
        /// The bridge has the guest's address from us, and learns none from there.
        #[serde(default)]
        known_mac: bool,
    },
    /// Made now, in no bridge.
    Standalone { name: Option<String>, mac: [u8; 6], mtu: Option<u16>, queues: u16 },
    /// Made now, on an interface of the host; it stays until it is removed by its owner's name.
    Direct(Direct),
    /// Someone else's; it must be there.
    Existing { name: String, queues: u16 },
}

#[derive(Debug)]
pub struct TapQueues {
    /// As the kernel named it.
    pub name: String,
    pub queues: Vec<OwnedFd>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stdio {
    /// stdin and stdout nowhere, stderr appended to this file.
    Log(PathBuf),
    /// As the broker has them; the process ends with the thread that started it.
    Foreground,
}

#[derive(Debug)]
pub struct SpawnedProcess {
    pub id: ProcessId,
    pub process: Process,
}

#[derive(Debug)]
pub enum Granted {
    Done,
    File(OwnedFd),
    Path(PathBuf),
    Pty {
        master: OwnedFd,
        slave: OwnedFd,
        path: PathBuf,
    },
    Port {
        listener: OwnedFd,
        port: u16,
    },
    Tap(TapQueues),
    VhostNet(Option<OwnedFd>),
    Vsock(Option<(OwnedFd, u32)>),
    Spawned(SpawnedProcess),
    Answer(Vec<u8>),
    Pool(PoolContents),
    Sockets(Sockets),
    /// What was asked about is as it should be.
    Intact(bool),
    Foreign(Vec<ForeignChain>),
    Process(Option<ProcessId>),
    Stat(Option<Stat>),
    /// None: it is gone.
    Facts(Vec<SecurityFact>),
}
