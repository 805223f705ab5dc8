//! The few privileged acts of the management plane: opening what guests use, making taps, pseudo-
//! terminals and cgroups, starting VMM processes. Everything else runs without privilege.
//!
//! A [`Request`] is plain data and goes through one method, [`Broker::perform`]: by [`Local`] in this
//! process, or by [`Remote`] in one of its own, with files beside the data in both directions.

mod cgroup;
mod confinement;
mod connect;
mod error;
mod group;
mod host_memory;
mod image_work;
mod inspect;
mod ledger;
mod local;
mod lock;
mod network;
mod open;
mod owner;
mod passt;
mod policy;
mod pool;
mod process;
mod pty;
mod request;
mod rundir;
mod saved;
mod scope;
mod spawn;
mod stat;
mod sys;
mod tap;
mod tcp;
mod variables;
mod vmm;
mod vsock;

pub use cgroup::limits::{CpuQuota, DeviceLimits, Limits};
pub use cgroup::threads::{ThreadRule, Threads};
pub use confinement::SecurityFact;
pub use error::{BrokerError, Holder};
pub use group::GroupAct;
pub use host_memory::{HostMemory, SamePages};
pub use ledger::Ledger;
pub use local::{Local, NetworkTerms};
pub use network::direct::{Direct, DirectMode};
pub use network::vlan::{NativeVlan, PortVlans};
pub use network::{
    AddressHolder, BridgePort, BridgeSpec, Checks, FieldTest, FilterRule, FilterSide, FilterStep,
    FilterVerdict, Floor, ForeignChain, ForeignHook, Forwarding, FrameField, FrameMatch,
    MOST_FILTER_RULES, NetworkAct, NetworkRules, PortFilter, PortForward, PortRules, Protocol,
    RouteSpec, RuleSet, RulesWatch, Sockets, SocketsSpec, Traffic, TrafficRate,
};
pub use owner::Owner;
pub use passt::{Passt, PasstForward, PasstRange};
pub use policy::Policy;
pub use pool::{MountSource, Permissions, PoolAct, PoolContents, PoolFile, Wanted};
pub use process::{Remote, Start, serve};
pub use request::{Granted, Peer, Request, Role, Sharing, SpawnedProcess, Stdio, Tap, TapQueues};
pub use rundir::{CONTROL_SOCKET, EXIT_RECORD, LOCK};
pub use saved::SavedAct;
pub use spawn::{Process, ProcessId};
pub use stat::Stat;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// Performs privileged acts. Calls block: they belong on a thread that may.
pub trait Broker: Send + Sync {
    /// Do one thing. `files` go to a spawned process, or are the one image to inspect; no other
    /// request takes any.
    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError>;

    /// Whether it acts as root, so that what it starts can become somebody else.
    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    /// Whether it makes bridges and what hangs on them.
    fn makes_networks(&self) -> bool {
        self.is_root()
    }
}

/// The acts by name, each over [`Broker::perform`].
impl dyn Broker + '_ {
    fn file(&self, request: Request) -> Result<OwnedFd, BrokerError> {
        match self.perform(request, &[])? {
            Granted::File(file) => Ok(file),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    fn done(&self, request: Request) -> Result<(), BrokerError> {
        match self.perform(request, &[])? {
            Granted::Done => Ok(()),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    pub fn open_kvm(&self) -> Result<OwnedFd, BrokerError> {
        self.file(Request::OpenKvm)
    }

    /// A file to read once: `what` names it in errors (`kernel`).
    pub fn open_input(&self, what: &str, path: &Path) -> Result<OwnedFd, BrokerError> {
        self.file(Request::OpenInput { what: what.to_owned(), path: path.to_owned() })
    }

    /// A log or console output file.
    pub fn open_output(&self, path: &Path, append: bool) -> Result<OwnedFd, BrokerError> {
        self.file(Request::OpenOutput { path: path.to_owned(), append })
    }

    /// A disk image, locked as QEMU would lock it.
    pub fn open_image(
        &self,
        path: &Path,
        read_only: bool,
        direct: bool,
        sharing: Sharing,
    ) -> Result<OwnedFd, BrokerError> {
        let path = path.to_owned();
        self.file(Request::OpenImage { path, read_only, direct, sharing })
    }

    /// Make a guest's firmware variables from `template`, unless it has some; with `reset` anyway.
    pub fn make_variables(
        &self,
        path: &Path,
        template: Option<&Path>,
        reset: bool,
    ) -> Result<(), BrokerError> {
        let (path, template) = (path.to_owned(), template.map(Path::to_owned));
        self.done(Request::MakeVariables { path, template, reset })
    }

    /// Remove a guest's firmware variables; none there is no error.
    pub fn remove_variables(&self, path: &Path) -> Result<(), BrokerError> {
        self.done(Request::RemoveVariables { path: path.to_owned() })
    }

    /// A file of a guest's memory, made or opened.
    pub fn saved_file(&self, act: SavedAct) -> Result<OwnedFd, BrokerError> {
        self.file(Request::Saved(act))
    }

    pub fn rename_saved(&self, from: &Path, to: &Path) -> Result<(), BrokerError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.done(Request::Saved(SavedAct::Rename { from, to }))
    }

    /// Give a file a name that nothing has.
    pub fn name_saved(&self, from: &Path, to: &Path) -> Result<(), BrokerError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.done(Request::Saved(SavedAct::Name { from, to }))
    }

    /// Remove a file of a guest's memory; none there is no error.
    pub fn remove_saved(&self, path: &Path) -> Result<(), BrokerError> {
        self.done(Request::Saved(SavedAct::Remove { path: path.to_owned() }))
    }

    /// What a confined process reads in the header of an image of `format`, in its own words.
    pub fn inspect(&self, format: &str, image: BorrowedFd<'_>) -> Result<Vec<u8>, BrokerError> {
        match self.perform(Request::Inspect { format: format.to_owned() }, &[image])? {
            Granted::Answer(answer) => Ok(answer),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// Do something to a pool that gives nothing back.
    pub fn pool(&self, pool: &Path, act: PoolAct) -> Result<(), BrokerError> {
        self.done(Request::Pool { pool: pool.to_owned(), act })
    }

    /// What is in a pool, and how much space there is.
    pub fn pool_contents(&self, pool: &Path, wanted: Wanted) -> Result<PoolContents, BrokerError> {
        let (pool, act) = (pool.to_owned(), PoolAct::Look(wanted));
        match self.perform(Request::Pool { pool, act }, &[])? {
            Granted::Pool(contents) => Ok(contents),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// A file of a pool.
    pub fn pool_file(&self, pool: &Path, act: PoolAct) -> Result<OwnedFd, BrokerError> {
        self.file(Request::Pool { pool: pool.to_owned(), act })
    }

    /// A volume through the page cache: `shared` with those who write to it.
    pub fn pool_open(
        &self,
        pool: &Path,
        volume: &str,
        write: bool,
        shared: bool,
    ) -> Result<OwnedFd, BrokerError> {
        let sharing = if shared { Sharing::Shared } else { Sharing::Exclusive };
        let volume = volume.to_owned();
        self.pool_file(pool, PoolAct::Open { volume, write, direct: false, sharing })
    }

    /// Do something to a volume group that gives nothing back.
    pub fn group(&self, group: &str, act: GroupAct) -> Result<(), BrokerError> {
        self.done(Request::Group { group: group.to_owned(), act })
    }

    /// What LVM says of a volume group or its volumes, in its own words.
    pub fn group_report(&self, group: &str, act: GroupAct) -> Result<Vec<u8>, BrokerError> {
        match self.perform(Request::Group { group: group.to_owned(), act }, &[])? {
            Granted::Answer(answer) => Ok(answer),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// The host's volume groups and what they lie on, in LVM's own words.
    pub fn volume_groups(&self) -> Result<Vec<u8>, BrokerError> {
        match self.perform(Request::VolumeGroups, &[])? {
            Granted::Answer(answer) => Ok(answer),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    pub fn tap(&self, tap: Tap) -> Result<TapQueues, BrokerError> {
        match self.perform(Request::OpenTap(tap), &[])? {
            Granted::Tap(tap) => Ok(tap),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// What has the host's kernel move the packets of one tap queue; none: its kernel does not.
    pub fn vhost_net(&self) -> Result<Option<OwnedFd>, BrokerError> {
        match self.perform(Request::OpenVhostNet, &[])? {
            Granted::VhostNet(device) => Ok(device),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// The network of interface `name` of a guest, as passt makes it; our end of the connection to it.
    pub fn passt(
        &self,
        name: &str,
        passt: Passt,
        cgroup: Option<&Path>,
    ) -> Result<OwnedFd, BrokerError> {
        let (name, cgroup) = (name.to_owned(), cgroup.map(Path::to_owned));
        self.file(Request::StartPasst { name, passt, cgroup })
    }

    /// A confined process with these images open, which waits at the other end of what comes back.
    pub fn work_on_images(&self, images: &[BorrowedFd<'_>]) -> Result<OwnedFd, BrokerError> {
        match self.perform(Request::WorkOnImages, images)? {
            Granted::File(socket) => Ok(socket),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// The host's end of a guest's sockets, and the address the guest got.
    pub fn vsock(&self, cid: Option<u32>) -> Result<Option<(OwnedFd, u32)>, BrokerError> {
        match self.perform(Request::OpenVsock { cid }, &[])? {
            Granted::Vsock(device) => Ok(device),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// A new pseudo-terminal: both sides, the second as a program opens it, and the path of that.
    pub fn pty(&self) -> Result<(OwnedFd, OwnedFd, std::path::PathBuf), BrokerError> {
        match self.perform(Request::OpenPty, &[])? {
            Granted::Pty { master, slave, path } => Ok((master, slave, path)),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// A listening unix stream socket; whatever lies at `path` is replaced if it is a socket.
    pub fn listen(&self, path: &Path) -> Result<OwnedFd, BrokerError> {
        self.file(Request::Listen { path: path.to_owned() })
    }

    /// A listening TCP socket at the first of `ports` that is free, and which that is.
    pub fn listen_tcp(
        &self,
        address: std::net::IpAddr,
        ports: std::ops::RangeInclusive<u16>,
    ) -> Result<(OwnedFd, u16), BrokerError> {
        let (first, last) = ports.into_inner();
        match self.perform(Request::ListenTcp { address, first, last }, &[])? {
            Granted::Port { listener, port } => Ok((listener, port)),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// A connection that does not block.
    pub fn connect(&self, peer: Peer) -> Result<OwnedFd, BrokerError> {
        self.file(Request::Connect(peer))
    }

    pub fn make_run_dir(&self, path: &Path) -> Result<(), BrokerError> {
        self.done(Request::MakeRunDir { path: path.to_owned() })
    }

    /// Remove a run directory that [`make_run_dir`](Self::make_run_dir) made, and what is in it.
    pub fn remove_run_dir(&self, path: &Path) -> Result<(), BrokerError> {
        self.done(Request::RemoveRunDir { path: path.to_owned() })
    }

    /// The lock of a run directory, held as long as any copy of the file is open.
    pub fn lock_run_dir(&self, path: &Path) -> Result<OwnedFd, BrokerError> {
        self.file(Request::LockRunDir { path: path.to_owned() })
    }

    /// The cgroup for a domain's processes; none where the host has no cgroup v2 for us.
    pub fn make_cgroup(&self, name: &str) -> Result<std::path::PathBuf, BrokerError> {
        match self.perform(Request::MakeCgroup { name: name.to_owned() }, &[])? {
            Granted::Path(path) => Ok(path),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    pub fn remove_cgroup(&self, path: &Path) -> Result<(), BrokerError> {
        self.done(Request::RemoveCgroup { path: path.to_owned() })
    }

    /// Put a number of how the host treats its memory into force.
    pub fn set_host_memory(&self, number: HostMemory) -> Result<(), BrokerError> {
        self.done(Request::HostMemory(number))
    }

    /// Put `limits` into force for a running domain, in place of those that were.
    pub fn limit(&self, cgroup: &Path, limits: Limits) -> Result<(), BrokerError> {
        self.done(Request::Limit { cgroup: cgroup.to_owned(), limits })
    }

    /// Where threads of a VMM run from now on, and how much.
    pub fn tune_threads(
        &self,
        process: ProcessId,
        cgroup: Option<&Path>,
        rules: Vec<ThreadRule>,
    ) -> Result<(), BrokerError> {
        self.done(Request::TuneThreads { process, cgroup: cgroup.map(Path::to_owned), rules })
    }

    /// Make a network's bridge, or make it so.
    pub fn make_bridge(&self, bridge: BridgeSpec) -> Result<(), BrokerError> {
        self.done(Request::Network(NetworkAct::Bridge(bridge)))
    }

    /// Remove a bridge that was made for the network `owner`; none there is no error.
    pub fn remove_bridge(&self, name: &str, owner: &str) -> Result<(), BrokerError> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.done(Request::Network(NetworkAct::RemoveBridge { name, owner }))
    }

    /// Put taps back into the bridge that they have fallen out of.
    pub fn reattach(&self, bridge: &str, taps: Vec<String>) -> Result<(), BrokerError> {
        let bridge = bridge.to_owned();
        self.done(Request::Network(NetworkAct::Reattach { bridge, taps }))
    }

    /// Take a guest's tap down, and out of the bridge it is in.
    pub fn leave_bridge(&self, tap: &str) -> Result<(), BrokerError> {
        self.done(Request::Network(NetworkAct::LeaveBridge { tap: tap.to_owned() }))
    }

    /// Put a guest's tap that is in no bridge into one, and bring it up.
    pub fn join_bridge(&self, port: BridgePort) -> Result<(), BrokerError> {
        self.done(Request::Network(NetworkAct::JoinBridge(port)))
    }

    /// The rules of all networks and ports, in place of those that are in force.
    pub fn network_rules(&self, rules: RuleSet) -> Result<(), BrokerError> {
        self.done(Request::Network(NetworkAct::Rules(rules)))
    }

    /// Other addresses are held than before, in rules that are in force.
    pub fn network_holders(
        &self,
        before: Vec<AddressHolder>,
        after: Vec<AddressHolder>,
    ) -> Result<(), BrokerError> {
        self.done(Request::Network(NetworkAct::Holders { before, after }))
    }

    /// Whether these rules are in force, and no others beside them.
    pub fn are_network_rules(&self, rules: RuleSet) -> Result<bool, BrokerError> {
        match self.perform(Request::Network(NetworkAct::LookRules(rules)), &[])? {
            Granted::Intact(intact) => Ok(intact),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// Remove the macvtaps of the domain `owner`, but for those that it has now.
    pub fn remove_direct(&self, owner: &str, keep: Vec<String>) -> Result<(), BrokerError> {
        let owner = owner.to_owned();
        self.done(Request::Network(NetworkAct::RemoveDirect { owner, keep }))
    }

    /// Chains of others that drop what they do not know.
    pub fn foreign_chains(&self) -> Result<Vec<ForeignChain>, BrokerError> {
        match self.perform(Request::Network(NetworkAct::LookForeign), &[])? {
            Granted::Foreign(found) => Ok(found),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// How much passes an interface from now on.
    pub fn shape(&self, interface: &str, traffic: Traffic) -> Result<(), BrokerError> {
        self.share(interface, traffic, Vec::new())
    }

    /// How much passes a bridge from now on, and how much of it is for whom.
    pub fn share(
        &self,
        bridge: &str,
        traffic: Traffic,
        floors: Vec<Floor>,
    ) -> Result<(), BrokerError> {
        let interface = bridge.to_owned();
        self.done(Request::Network(NetworkAct::Shape { interface, traffic, floors }))
    }

    /// What a network's process listens at.
    pub fn service_sockets(&self, sockets: SocketsSpec) -> Result<Sockets, BrokerError> {
        match self.perform(Request::Network(NetworkAct::Sockets(sockets)), &[])? {
            Granted::Sockets(sockets) => Ok(sockets),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// Start the process of a domain or a network. `files` appear in it from descriptor 3 upward,
    /// in order.
    pub fn spawn(
        &self,
        role: Role,
        name: &str,
        stdio: Stdio,
        cgroup: Option<&Path>,
        limits: Limits,
        files: &[BorrowedFd<'_>],
    ) -> Result<SpawnedProcess, BrokerError> {
        let request = Request::Spawn {
            role,
            name: name.to_owned(),
            stdio,
            cgroup: cgroup.map(Path::to_owned),
            limits,
        };
        match self.perform(request, files)? {
            Granted::Spawned(process) => Ok(process),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// The VMM that has the lock file at `lock` open, if any. `said` is the number that it gives itself.
    pub fn find_vmm(&self, said: u32, lock: &Path) -> Result<Option<ProcessId>, BrokerError> {
        match self.perform(Request::FindVmm { said, lock: lock.to_owned() }, &[])? {
            Granted::Process(process) => Ok(process),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    fn stat_by(&self, path: &Path, follow: bool) -> Result<Option<Stat>, BrokerError> {
        match self.perform(Request::Stat { path: path.to_owned(), follow }, &[])? {
            Granted::Stat(stat) => Ok(stat),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// What lies at a path, through links; none: nothing does.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>, BrokerError> {
        self.stat_by(path, true)
    }

    /// Whether anything lies at a path, a link that leads nowhere included; where guests have nothing, there
    /// is nothing for them.
    pub fn is_there(&self, path: &Path) -> Result<bool, BrokerError> {
        match self.stat_by(path, false) {
            Err(BrokerError::Refused { .. }) => Ok(false),
            found => Ok(found?.is_some()),
        }
    }

    /// Where a path leads in the end, without links; all of it must be there.
    pub fn real_path(&self, path: &Path) -> Result<std::path::PathBuf, BrokerError> {
        match self.perform(Request::RealPath { path: path.to_owned() }, &[])? {
            Granted::Path(path) => Ok(path),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// What a process may do, fact by fact; empty when it is gone.
    pub fn confinement(&self, process: ProcessId) -> Result<Vec<SecurityFact>, BrokerError> {
        match self.perform(Request::Confinement { process }, &[])? {
            Granted::Facts(facts) => Ok(facts),
            other => Err(BrokerError::unexpected(&other)),
        }
    }

    /// Changes of the host's packet filter from now on.
    pub fn watch_rules(&self) -> Result<RulesWatch, BrokerError> {
        self.file(Request::WatchRules).map(RulesWatch::from)
    }

    /// SIGKILL to exactly this process, and to whatever else is in its cgroup.
    pub fn kill(&self, process: ProcessId, cgroup: Option<&Path>) -> Result<(), BrokerError> {
        self.done(Request::Kill { process, cgroup: cgroup.map(Path::to_owned) })
    }
}

#[cfg(test)]
mod tests;
