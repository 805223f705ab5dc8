//! Addresses that the processes of networks have given: followed in the files in which they write them
//! down, told as events, and kept from other guests.
//!
//! The files are what is known: a daemon that was away has missed nothing but the events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use network::{Lease, Mac};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use uuid::Uuid;

use super::firewall::Holders;
use super::seconds_now;
use super::state::Shared;
use crate::error::{Code, Error};
use crate::events::{EventKind, LeaseChange};

type Known = BTreeMap<IpAddr, Lease>;

pub(super) struct Leases {
    dir: PathBuf,
    /// Of active networks, as they were seen last.
    known: Mutex<HashMap<Uuid, Known>>,
}

/// Many guests that start at once are one change.
const SETTLED: Duration = Duration::from_millis(50);
/// How late the end of a lease may be noticed. One that is given to another is in the file.
const PATIENCE: Duration = Duration::from_secs(10);

impl Leases {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, known: Mutex::default() }
    }

    pub(super) fn path(&self, network: Uuid) -> PathBuf {
        self.dir.join(format!("{network}.leases"))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those on record, the ended ones as well.
    pub(super) fn read(&self, network: Uuid) -> Result<Vec<Lease>, Error> {
        let path = self.path(network);
        let failed = |source| {
            let text = format!("cannot read {}", path.display());
            Error::new(Code::HostFailure, text).with_source(source)
        };
        match std::fs::File::open(&path) {
            Ok(file) => network::read_leases(&file).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The network has stopped; its guests get their addresses again when it is back.
    pub(super) fn forget(&self, network: Uuid) {
        self.known().remove(&network);
    }
}

/// Take note of the leases of an active network as they are now.
pub(super) fn look(shared: &Shared, uuid: Uuid, name: &str) {
    let leases = match shared.leases.read(uuid) {
        Ok(leases) => leases,
        Err(error) => {
            tracing::warn!(network = name, error = %error.chain(), "its leases are not known");
            return;
        }
    };
    let now = seconds_now();
    let live = leases.into_iter().filter(|lease| lease.is_live(now));
    let live: Known = live.map(|lease| (lease.address, lease)).collect();
    // Held until all is told: another look would tell it too.
    let mut known = shared.leases.known();
    let before = known.insert(uuid, live.clone());
    // A client of IPv6 need not say which MAC address it has: it would be kept from its own.
    let holders = live.values().filter(|lease| lease.mac != Mac::UNKNOWN);
    let holders: Holders = holders.map(|lease| (lease.address, lease.mac.0)).collect();
    if let Err(error) = shared.firewall.hold(uuid, holders) {
        let error = error.chain();
        tracing::error!(network = name, error, "guests may use addresses leased to others");
    }
    // What a daemon finds at its start is no news.
    let Some(before) = before else { return };
    let tell = |lease: &Lease, change| {
        let kind = EventKind::NetworkLease {
            network: name.to_owned(),
            network_uuid: uuid,
            address: lease.address,
            mac: Some(lease.mac).filter(|mac| *mac != Mac::UNKNOWN).map(|mac| mac.to_string()),
            hostname: lease.hostname.clone(),
            change,
        };
        shared.journal.publish(None, kind, None);
    };
    let same =
        |one: &Lease, other: &Lease| one.mac == other.mac && one.client_id == other.client_id;
    let is_in = |all: &Known, lease: &Lease| {
        all.get(&lease.address).is_some_and(|other| same(lease, other))
    };
    before
        .values()
        .filter(|lease| !is_in(&live, lease))
        .for_each(|lease| tell(lease, LeaseChange::Ended));
    live.values()
        .filter(|lease| !is_in(&before, lease))
        .for_each(|lease| tell(lease, LeaseChange::Given));
}

pub(super) fn watch(shared: &Arc<Shared>) {
    let begun = begin(shared).and_then(|changes| {
        let shared = Arc::downgrade(shared);
        let thread = std::thread::Builder::new().name("leases".to_owned());
        thread.spawn(move || follow(&changes, &shared)).map(drop)
    });
    if let Err(error) = begun {
        tracing::error!(%error, "leases of networks are not followed");
    }
}

fn begin(shared: &Shared) -> std::io::Result<OwnedFd> {
    std::fs::create_dir_all(&shared.leases.dir)?;
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&changes, &shared.leases.dir, flags)?;
    Ok(changes)
}

fn follow(changes: &OwnedFd, shared: &Weak<Shared>) {
    loop {
        let changed = match wait(changes) {
            Ok(changed) => changed,
            Err(error) => {
                tracing::error!(%error, "leases of networks are not followed any more");
                return;
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        let now = seconds_now();
        for (uuid, name) in shared.firewall.active() {
            let ended = |known: &Known| known.values().any(|lease| !lease.is_live(now));
            let is_due = shared.leases.known().get(&uuid).map(ended);
            // One that is about to start is looked at when it has.
            if is_due.is_some_and(|is_due| is_due || changed.concerns(uuid)) {
                look(&shared, uuid, &name);
            }
        }
    }
}

/// Which files were written to.
enum Changed {
    /// More than there is room to tell of.
    Any,
    These(BTreeSet<String>),
}

impl Changed {
    fn concerns(&self, network: Uuid) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.contains(&format!("{network}.leases")),
        }
    }
}

fn wait(changes: &OwnedFd) -> std::io::Result<Changed> {
    let mut fds = [PollFd::new(changes, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).ok();
    match poll(&mut fds, patience.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Changed::These(BTreeSet::new())),
        Ok(_) => std::thread::sleep(SETTLED),
        Err(errno) => return Err(errno.into()),
    }
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(changes.as_fd(), &mut buffer);
    let mut names = BTreeSet::new();
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                return Ok(Changed::Any);
            }
            Ok(event) => {
                names.extend(event.file_name().map(CStr::to_string_lossy).map(String::from));
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(Changed::These(names)),
            Err(errno) => return Err(errno.into()),
        }
    }
}
