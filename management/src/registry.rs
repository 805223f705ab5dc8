//! All domains by UUID, name and number, and what their actors share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::Broker;
use uuid::Uuid;
use vmm_protocol::config::{Isolation, IsolationMode};
use xml::DomainDef;
use xml::device::interface::Interface;

use crate::checkpoints::Checkpoints;
use crate::cloud_init::Seeds;
use crate::config::{self, Config};
use crate::device_watch::DeviceWatch;
use crate::domain::DomainRef;
use crate::domain::actor;
use crate::domain::handle::{Handle, View};
use crate::domain::listing::{Listed, Listing};
use crate::error::{Code, Error};
use crate::filters::Filters;
use crate::firmware::Installed;
use crate::host::Host;
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::network::Networks;
use crate::snapshots::Snapshots;
use crate::storage::Pools;
use crate::store::Store;
use crate::users::Users;

/// An interface of a running domain.
pub(crate) struct Attached {
    pub(crate) domain: String,
    pub(crate) uuid: Uuid,
    pub(crate) interface: Interface,
}

/// What the actors of all domains work with.
pub(crate) struct Node {
    pub parts: Parts,
    tables: Mutex<Tables>,
    pub listing: Listing,
    next_id: AtomicU32,
    pub users: Users,
}

/// What a node has beside its domains.
pub(crate) struct Parts {
    pub config: Config,
    pub broker: Arc<dyn Broker>,
    pub store: Arc<Store>,
    pub journal: Arc<Journal>,
    pub jobs: Arc<Jobs>,
    pub pools: Arc<Pools>,
    pub networks: Arc<Networks>,
    pub filters: Arc<Filters>,
    pub seeds: Arc<Seeds>,
    pub checkpoints: Arc<Checkpoints>,
    pub snapshots: Arc<Snapshots>,
    pub devices: DeviceWatch,
    /// Of this boot of the host.
    pub boot_id: Uuid,
    pub host: Host,
}

impl std::ops::Deref for Node {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

#[derive(Default)]
struct Tables {
    domains: HashMap<Uuid, Handle>,
    names: HashMap<String, Uuid>,
}

impl Tables {
    fn find(&self, domain: &DomainRef) -> Option<&Handle> {
        let by_name = |name: &str| self.names.get(name).and_then(|uuid| self.domains.get(uuid));
        let by_uuid = |uuid: &Uuid| self.domains.get(uuid);
        let by_id = |id: u32| {
            let has = |view: &View| view.live.as_ref().is_some_and(|live| live.record.id == id);
            self.domains.values().find(|handle| has(&handle.view.borrow()))
        };
        match domain {
            DomainRef::Id(id) => by_id(*id),
            DomainRef::Uuid(uuid) => by_uuid(uuid),
            DomainRef::Name(name) => by_name(name),
            DomainRef::Any(text) => {
                let id = text.parse().ok().and_then(by_id);
                let uuid = || Uuid::try_parse(text).ok().and_then(|uuid| by_uuid(&uuid));
                id.or_else(uuid).or_else(|| by_name(text))
            }
        }
    }
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Self {
        let (first, last) = parts.config.domains.users;
        let users = Users::new(first.max(1)..=last);
        let (tables, listing) = Default::default();
        Self { parts, tables, listing, next_id: AtomicU32::new(1), users }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn firmware(&self) -> Installed {
        Installed::new(self.config.firmware.clone())
    }

    pub(crate) fn run_dir(&self, uuid: Uuid) -> PathBuf {
        self.config.run_dir.join("domains").join(uuid.to_string())
    }

    /// A number no domain of this daemon has had.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A number that is in use.
    pub(crate) fn reserve_id(&self, id: u32) {
        self.next_id.fetch_max(id.saturating_add(1), Ordering::Relaxed);
    }

    /// What the VMM of `domain` is to give up. It has its user until its end is
    /// [cleaned up](crate::users::Users::give_back).
    pub(crate) fn isolation(&self, domain: Uuid) -> Result<Isolation, Error> {
        let mode = match self.config.domains.isolation {
            config::Isolation::Off => return Ok(Isolation::default()),
            config::Isolation::Possible => IsolationMode::Possible,
            config::Isolation::Required => IsolationMode::Required,
        };
        if !self.broker.is_root() {
            return Ok(Isolation { mode, user: None });
        }
        let user = self.users.take(domain).ok_or_else(|| {
            let text = "every user id of `[domains] users` has a guest: give it a wider range";
            Error::new(Code::ResourceExhausted, text)
        })?;
        Ok(Isolation { mode, user: Some(user) })
    }

    pub(crate) fn all(&self) -> Vec<Handle> {
        self.tables().domains.values().cloned().collect()
    }

    /// Every domain as lists show it, in their order.
    pub(crate) fn listed(&self) -> Arc<[Listed]> {
        self.listing.get(|| {
            let tables = self.tables();
            tables.domains.values().map(|handle| handle.view.borrow().listed()).collect()
        })
    }

    /// Names of running domains by the numbers of their processes.
    pub(crate) fn processes(&self) -> HashMap<u32, String> {
        let process = |view: &View| {
            let process = view.live.as_ref()?.record.process?;
            Some((process.pid, view.name.clone()))
        };
        self.tables().domains.values().filter_map(|handle| process(&handle.view.borrow())).collect()
    }

    /// Taps of running domains that are in a network.
    pub(crate) fn interfaces_of(&self, network: &str) -> Vec<String> {
        let tap = |attached: Attached| attached.interface.target?.dev;
        self.attached(network).into_iter().filter_map(tap).collect()
    }

    /// Interfaces of running domains that are in a network.
    pub(crate) fn attached(&self, network: &str) -> Vec<Attached> {
        self.attached_where(|interface| crate::ops::is_in(interface, network))
    }

    /// Interfaces of running domains that are so.
    pub(crate) fn attached_where(&self, is_so: impl Fn(&Interface) -> bool) -> Vec<Attached> {
        let inside = |view: &View| {
            let live = view.live.as_ref()?;
            let attached = |interface: &Interface| Attached {
                domain: view.name.clone(),
                uuid: view.uuid,
                interface: interface.clone(),
            };
            let interfaces = live.def.devices.interfaces.iter();
            let here = interfaces.filter(|interface| is_so(interface));
            Some(here.map(attached).collect::<Vec<_>>())
        };
        let tables = self.tables();
        let views = tables.domains.values();
        views.filter_map(|handle| inside(&handle.view.borrow())).flatten().collect()
    }

    /// A domain with an interface, now or by its definition, whose filter is so.
    pub(crate) fn domain_with_filter(&self, is_so: &dyn Fn(&str) -> bool) -> Option<String> {
        let has = |def: &DomainDef| {
            let filters = def.devices.interfaces.iter().filter_map(|it| it.filterref.as_ref());
            filters.into_iter().any(|filter| is_so(&filter.filter))
        };
        let is_user = |view: &View| {
            view.definition.as_ref().is_some_and(|stored| has(&stored.def))
                || view.live.as_ref().is_some_and(|live| has(&live.def))
        };
        let tables = self.tables();
        let mut views = tables.domains.values().map(|handle| handle.view.borrow());
        views.find(|view| is_user(view)).map(|view| view.name.clone())
    }

    pub(crate) fn get(&self, uuid: Uuid) -> Option<Handle> {
        self.tables().domains.get(&uuid).cloned()
    }

    pub(crate) fn find(&self, domain: &DomainRef) -> Result<Handle, Error> {
        let tables = self.tables();
        let found = tables.find(domain).cloned();
        found.ok_or_else(|| unknown(domain, tables.names.keys()))
    }

    /// The same for who has nothing to say of one that is not there.
    pub(crate) fn known(&self, domain: &DomainRef) -> Option<Handle> {
        self.tables().find(domain).cloned()
    }

    /// The domain of this UUID and name, or a new one that has nothing yet: whoever makes it sends it
    /// a command at once, and it vanishes if that fails.
    pub(crate) fn claim(self: &Arc<Self>, uuid: Uuid, name: &str) -> Result<Handle, Error> {
        let mut tables = self.tables();
        if let Some(holder) = tables.names.get(name).filter(|holder| **holder != uuid) {
            let text = format!(
                "there is a domain {name:?} already, with UUID {holder}; give that <uuid> to change \
                 it, or choose another <name>"
            );
            return Err(Error::new(Code::Exists, text));
        }
        if let Some(handle) = tables.domains.get(&uuid) {
            let known = handle.view.borrow().name.clone();
            if known != name {
                let text = format!(
                    "UUID {uuid} is that of domain {known:?}; rename it (domrename), or leave <uuid> \
                     out to define another domain"
                );
                return Err(Error::new(Code::Exists, text));
            }
            return Ok(handle.clone());
        }
        let handle = actor::spawn(self.clone(), uuid, name.to_owned(), actor::Begin::Empty);
        tables.names.insert(name.to_owned(), uuid);
        tables.domains.insert(uuid, handle.clone());
        self.listing.changed();
        Ok(handle)
    }

    /// A domain that was found at the start of the daemon.
    pub(crate) fn insert(self: &Arc<Self>, uuid: Uuid, name: String, begin: actor::Begin) {
        let mut tables = self.tables();
        // A transient domain may bear the name of one that was stored under another UUID since.
        tables.names.entry(name.clone()).or_insert(uuid);
        let handle = actor::spawn(self.clone(), uuid, name, begin);
        tables.domains.insert(uuid, handle);
        self.listing.changed();
    }

    /// Take a second name for a domain, to which it is about to change.
    pub(crate) fn reserve_name(&self, name: &str, uuid: Uuid) -> Result<(), Error> {
        let mut tables = self.tables();
        if let Some(holder) = tables.names.get(name) {
            let text = format!("there is a domain {name:?} already, with UUID {holder}");
            return Err(Error::new(Code::Exists, text));
        }
        tables.names.insert(name.to_owned(), uuid);
        Ok(())
    }

    /// The name of a domain that was known by its UUID alone; false if another has it.
    pub(crate) fn take_name(&self, uuid: Uuid, name: &str) -> bool {
        let mut tables = self.tables();
        if tables.names.get(name).is_some_and(|holder| *holder != uuid) {
            return false;
        }
        tables.names.retain(|_, holder| *holder != uuid);
        tables.names.insert(name.to_owned(), uuid);
        true
    }

    pub(crate) fn release_name(&self, name: &str, uuid: Uuid) {
        let mut tables = self.tables();
        if tables.names.get(name) == Some(&uuid) {
            tables.names.remove(name);
        }
    }

    /// Called by an actor that ends, before anyone can miss it.
    pub(crate) fn forget(&self, uuid: Uuid) {
        let mut tables = self.tables();
        if tables.domains.remove(&uuid).is_some() {
            tables.names.retain(|_, holder| *holder != uuid);
            self.listing.changed();
        }
    }
}

fn unknown<'a>(domain: &DomainRef, names: impl Iterator<Item = &'a String>) -> Error {
    let text = domain.to_string();
    let near = |name: &&String| {
        let most = name.chars().count().max(3) / 3;
        // What is longer or shorter by more is no slip of the finger, and not worth a closer look.
        let apart = name.len().abs_diff(text.len()) <= LONGEST_LETTER * most;
        apart.then(|| distance(&text, name)).filter(|distance| *distance <= most)
    };
    let nearest = names.filter_map(|name| Some((near(&name)?, name))).min();
    let message = match nearest {
        Some((_, name)) => format!("there is no domain {text:?}; did you mean {name:?}?"),
        None => format!("there is no domain {text:?}"),
    };
    Error::new(Code::NotFound, message)
}

/// Bytes of UTF-8.
const LONGEST_LETTER: usize = 4;

/// Letters to change, add or take away to come from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    // What both begin with costs nothing, and names of many domains begin alike.
    let same = from.chars().zip(to.chars()).take_while(|(a, b)| a == b);
    let same: usize = same.map(|(letter, _)| letter.len_utf8()).sum();
    let (from, to) = (&from[same..], &to[same..]);
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(256).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != *b)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[to.len()]
}
