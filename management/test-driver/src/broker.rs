//! [`TestBroker`]: the broker's acts as far as they concern files, and nothing of the host beside.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use broker::{
    Broker, BrokerError, CONTROL_SOCKET, Granted, GroupAct, Limits, Local, NetworkAct, PoolAct,
    PoolContents, Request, Role, Sockets, Tap, TapQueues,
};
use image::{Description, Inspected};
use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open};

use crate::leases::Leases;
use crate::{GUEST_ROLE, NETWORK_ROLE};

/// What an image is called that no file is behind.
const NO_IMAGE: &str = "no-image";
/// Of such an image, bytes.
const SIZE: u64 = 10 << 30;
/// What the kernel takes for the path of a socket, bytes.
const LONGEST_SOCKET: usize = 107;
/// Of each pool, bytes.
const SPACE: u64 = 100 << 30;

/// Does with files what the daemon's own broker does, and answers everything else as if it had been
/// done.
#[derive(Debug)]
pub struct TestBroker {
    local: Local,
    /// The daemon's own: sockets below are real ones.
    directory: PathBuf,
    taps: AtomicU32,
    screens: Mutex<BTreeSet<u16>>,
    leases: Leases,
}

impl TestBroker {
    /// For a daemon that has everything of its own in `directory`.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        let role = |name: &str| vec![name.to_owned(), std::process::id().to_string()];
        let own = || PathBuf::from("/proc/self/exe");
        let local = Local::new()
            .with_program(own(), role(GUEST_ROLE))
            .with_server(own(), role(NETWORK_ROLE));
        Self {
            local,
            directory,
            taps: AtomicU32::new(0),
            screens: Mutex::default(),
            leases: Leases::default(),
        }
    }

    fn tap(&self, tap: Tap) -> Result<Granted, BrokerError> {
        let numbered = |kind: &str| format!("{kind}{}", self.taps.fetch_add(1, Ordering::Relaxed));
        if let Tap::Bridged { bridge, mac, .. } = &tap {
            self.leases.give(bridge, *mac).map_err(|error| failed("give an address", error))?;
        }
        let (name, queues) = match tap {
            Tap::Bridged { name, queues, .. } | Tap::Standalone { name, queues, .. } => {
                (name.unwrap_or_else(|| numbered("vnet")), queues)
            }
            Tap::Existing { name, queues } => (name, queues),
            Tap::Direct(_) => (numbered("macvtap"), 1),
        };
        let queues = (0..queues).map(|_| nothing()).collect::<Result<_, _>>()?;
        Ok(Granted::Tap(TapQueues { name, queues }))
    }

    /// The first port of these that no guest had yet: nobody is served there.
    fn screen(&self, first: u16, last: u16) -> Result<Granted, BrokerError> {
        let mut taken = self.screens.lock().unwrap_or_else(PoisonError::into_inner);
        let port = (first..=last).find(|port| !taken.contains(port)).unwrap_or(first);
        taken.insert(port);
        Ok(Granted::Port { listener: nothing()?, port })
    }

    fn is_ours(&self, path: &Path) -> bool {
        path.starts_with(&self.directory)
    }
}

impl Broker for TestBroker {
    /// In its own memory, whoever runs it.
    fn makes_networks(&self) -> bool {
        true
    }

    fn perform(&self, request: Request, files: &[BorrowedFd<'_>]) -> Result<Granted, BrokerError> {
        match request {
            Request::OpenKvm
            | Request::OpenInput { .. }
            | Request::StartPasst { .. }
            | Request::Connect(_) => nothing().map(Granted::File),
            Request::OpenImage { ref path, .. } if !path.exists() => no_image().map(Granted::File),
            // What is written there is a guest's, and guests write nothing.
            Request::OpenOutput { ref path, .. } if !self.is_ours(path) => {
                nothing().map(Granted::File)
            }
            // Nobody is served at a guest's own sockets, so there need be no place for them.
            Request::Listen { ref path } if !self.is_ours(path) || !has_room(path) => {
                nothing().map(Granted::File)
            }
            Request::MakeVariables { .. }
            | Request::RemoveVariables { .. }
            | Request::RemoveCgroup { .. }
            | Request::Limit { .. }
            | Request::TuneThreads { .. } => Ok(Granted::Done),
            Request::MakeCgroup { name } => {
                Ok(Granted::Path(self.directory.join("cgroup").join(name)))
            }
            Request::Inspect { format } if is_no_image(files) => describe(&format),
            Request::Pool { act: PoolAct::Mount(_) | PoolAct::Unmount(_), .. } => Ok(Granted::Done),
            Request::Pool { act: PoolAct::Look(_), .. } => {
                let Granted::Pool(contents) = self.local.perform(request, files)? else {
                    return Ok(Granted::Done);
                };
                Ok(Granted::Pool(PoolContents { capacity: SPACE, available: SPACE, ..contents }))
            }
            Request::Group { group, act } => volume_group(&group, &act),
            // LVM's answer where it has no groups.
            Request::VolumeGroups => Ok(Granted::Answer(b"{\"report\":[{\"vg\":[]}]}".to_vec())),
            Request::OpenTap(tap) => self.tap(tap),
            Request::OpenVhostNet => Ok(Granted::VhostNet(None)),
            Request::OpenVsock { .. } => Ok(Granted::Vsock(None)),
            Request::ListenTcp { first, last, .. } => self.screen(first, last),
            Request::HostMemory(number) => {
                number.set(&self.directory.join("host/sys")).map(|()| Granted::Done)
            }
            Request::Network(act) => Ok(network(&act)),
            Request::Spawn { role, name, stdio, .. } => {
                if role == Role::Network {
                    let known = self.leases.add(files);
                    known.map_err(|error| failed("look into a network", error))?;
                }
                let limits = Limits::default();
                let request = Request::Spawn { role, name, stdio, cgroup: None, limits };
                self.local.perform(request, files)
            }
            Request::Kill { process, .. } => {
                self.local.perform(Request::Kill { process, cgroup: None }, files)
            }
            // There is none, so nothing happens to it.
            Request::WatchRules => {
                Err(failed("watch a packet filter", io::Error::from(io::ErrorKind::Unsupported)))
            }
            Request::OpenImage { .. }
            | Request::OpenOutput { .. }
            | Request::FindVmm { .. }
            | Request::Confinement { .. }
            | Request::Stat { .. }
            | Request::RealPath { .. }
            | Request::Saved(_)
            | Request::Inspect { .. }
            | Request::WorkOnImages
            | Request::Pool { .. }
            | Request::OpenPty
            | Request::Listen { .. }
            | Request::MakeRunDir { .. }
            | Request::RemoveRunDir { .. }
            | Request::LockRunDir { .. } => self.local.perform(request, files),
        }
    }
}

/// Whether a socket can be there, or has to be: that of a process itself.
fn has_room(path: &Path) -> bool {
    path.as_os_str().len() <= LONGEST_SOCKET || path.ends_with(CONTROL_SOCKET)
}

fn failed(act: &str, source: impl Into<io::Error>) -> BrokerError {
    BrokerError::Host { act: act.to_owned(), source: source.into() }
}

fn nothing() -> Result<OwnedFd, BrokerError> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("open /dev/null", errno))
}

/// Guests of the test driver may have disks that are nowhere.
fn no_image() -> Result<OwnedFd, BrokerError> {
    let make = || {
        let file = memfd_create(NO_IMAGE, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, SIZE)?;
        Ok(file)
    };
    make().map_err(|errno: rustix::io::Errno| failed("make up a disk", errno))
}

fn is_no_image(files: &[BorrowedFd<'_>]) -> bool {
    use std::os::fd::AsRawFd as _;
    let Some(file) = files.first() else { return false };
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
    link.is_ok_and(|link| link.to_string_lossy().contains(NO_IMAGE))
}

/// It is of whatever format it is said to be, and nothing lies below it.
fn describe(format: &str) -> Result<Granted, BrokerError> {
    let description: Result<Description, _> =
        serde_json::from_value(serde_json::json!({ "format": format, "size": SIZE }));
    let answer = match description {
        Ok(description) => Inspected::Image(Box::new(description)),
        Err(_) => Inspected::Refused(format!("{format:?} is no format of images")),
    };
    serde_json::to_vec(&answer).map(Granted::Answer).map_err(|error| failed("describe", error))
}

fn network(act: &NetworkAct) -> Granted {
    match act {
        NetworkAct::LookForeign => Granted::Foreign(Vec::new()),
        NetworkAct::LookRules(_) => Granted::Intact(true),
        NetworkAct::Sockets(_) => Granted::Sockets(Sockets::default()),
        _ => Granted::Done,
    }
}

fn volume_group(group: &str, act: &GroupAct) -> Result<Granted, BrokerError> {
    match act {
        GroupAct::Activate(_) => Ok(Granted::Done),
        _ => {
            let source = io::Error::other("the test driver has no LVM; use a pool of type='dir'");
            Err(failed(&format!("use volume group {group:?}"), source))
        }
    }
}
