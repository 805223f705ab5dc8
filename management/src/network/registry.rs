//! All networks by UUID and name.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use broker::Broker;
use futures_util::future::join_all;
use uuid::Uuid;
use xml::{DomainDef, NetworkDef};

use super::firewall::Firewall;
use super::foreign::Foreign;
use super::leases::Leases;
use super::state::{RECORD, Shared, State};
use super::{NetworkRef, NetworkView, guard, leases, plan, resolvers, service, user};
use crate::config::Config;
use crate::domain::actor::blocking;
use crate::error::{Code, Error};
use crate::filters::{Filters, Library};
use crate::host::Host;
use crate::journal::Journal;
use crate::store::{Contents, Store, StoredNetwork, Vfs};
use crate::translate::NewIds;
use crate::translate::{invalid, ports};
use crate::worker::Worker;

pub(crate) type Network = Worker<State>;

/// Before a process that ended is started again; it doubles while that does not help.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A process that ran for so long was well.
const WELL: Duration = Duration::from_secs(60);

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.views()).finish()
    }
}

pub(crate) struct Networks {
    shared: Arc<Shared>,
    table: Mutex<HashMap<Uuid, Arc<Network>>>,
}

/// What every host begins with: a NAT network, defined and not started.
const DEFAULT: &str = include_str!("../../../resources/networks/default.xml");

/// What was found at the start of the daemon.
pub(crate) struct Found {
    /// There was no place for networks yet.
    first: bool,
    store: Store<StoredNetwork>,
    stored: Vec<StoredNetwork>,
    /// Networks that a former daemon had active, by the definitions they had then.
    active: HashMap<Uuid, NetworkDef>,
    pub(crate) quarantined: Vec<(String, String)>,
    pub(crate) degraded: Vec<String>,
}

impl Found {
    pub(crate) fn read(vfs: Arc<dyn Vfs>, config: &Config) -> Self {
        let first = !config.state_dir.join("networks").exists();
        let (store, contents) = Store::open(vfs, &config.state_dir);
        let Contents { objects: stored, quarantined, degraded } = contents;
        let mut active = HashMap::new();
        let dirs = std::fs::read_dir(config.run_dir.join("networks"));
        for entry in dirs.into_iter().flatten().flatten() {
            let uuid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let text = std::fs::read_to_string(entry.path().join(RECORD)).ok();
            let def = text.and_then(|text| NetworkDef::parse_stored(&text).ok());
            if let (Some(uuid), Some(def)) = (uuid, def) {
                active.insert(uuid, def.value);
            }
        }
        Self { first, store, stored, active, quarantined, degraded }
    }
}

impl Networks {
    /// Take up what was found; networks that were active are complete again when this returns.
    pub(crate) async fn open(
        found: Found,
        config: &Config,
        (host, broker): (Host, Arc<dyn Broker>),
        journal: Arc<Journal>,
        filters: Arc<Filters>,
        running: &[DomainDef],
    ) -> Self {
        let Found { first, store, stored, mut active, .. } = found;
        // Before any rule is touched: those of guests that run are among them.
        let is_own = |name: &str| {
            let own = |def: &NetworkDef| *def.name == *name && !def.is_foreign_bridge();
            active.values().any(own)
        };
        let ports = running.iter().flat_map(|live| ports::of_domain(live, is_own)).collect();
        let shared = Arc::new(Shared {
            firewall: Firewall::new(broker.clone(), filters, ports, &active),
            foreign: Foreign::new(broker.clone()),
            broker,
            store,
            journal,
            run_dir: config.run_dir.join("networks"),
            leases: Leases::new(config.state_dir.join("leases")),
            log_dir: config.log_dir.clone(),
            settings: config.networks.clone(),
            host,
        });
        guard::watch(&shared);
        leases::watch(&shared);
        let networks = Self { shared, table: Mutex::default() };
        let mut adoptions = Vec::new();
        for stored in stored {
            let uuid = stored.uuid;
            let was_active = active.remove(&uuid);
            let def = match &was_active {
                Some(def) => Ok(def.clone()),
                None => NetworkDef::parse_stored(&stored.xml).map(|def| def.value),
            };
            match def {
                Ok(def) => {
                    let network = networks.insert(uuid, Some(stored), def);
                    adoptions.extend(was_active.map(|_| network));
                }
                // It stays where it is: another version of this program may read it.
                Err(error) => {
                    let error = invalid(error).chain();
                    tracing::error!(%uuid, error, "a network's definition makes no sense");
                }
            }
        }
        for (uuid, def) in active {
            adoptions.push(networks.insert(uuid, None, def));
        }
        join_all(adoptions.iter().map(|network| async {
            if let Err(error) = network.run(State::adopt).await {
                let name = &network.now().view.name;
                tracing::error!(network = name, error = %error.chain(), "does not work");
            }
        }))
        .await;
        // A daemon that was killed between a filter's rules and its definition leaves rules of no filter.
        let mended = networks.shared.clone();
        let mended = blocking(move || mended.firewall.repair()).await;
        if let Err(error) = mended {
            tracing::error!(error = %error.chain(), "the rules of networks are not in force");
        }
        // Without root nothing could start it.
        let first = first && networks.shared.broker.makes_networks();
        if first && let Err(error) = networks.define_default().await {
            tracing::error!(error = %error.chain(), "there is no network \"default\"");
        }
        networks
    }

    async fn define_default(&self) -> Result<(), Error> {
        let mut def = NetworkDef::parse(DEFAULT).map_err(invalid)?.value;
        def.fill_defaults(&mut NewIds);
        let network = self.claim(&mut def)?;
        network.run(|state| state.define(def)).await
    }

    /// Start what is marked so, once for each boot of the host.
    pub(crate) async fn autostart(&self) {
        for network in self.all() {
            let view = network.now().view.clone();
            if !view.autostart || view.active {
                continue;
            }
            match network.run(|state| state.start(Vec::new())).await {
                Ok(()) => tracing::info!(network = view.name, "started with the host"),
                Err(error) => {
                    tracing::error!(network = view.name, error = %error.chain(), "not started");
                }
            }
        }
    }

    fn insert(&self, uuid: Uuid, stored: Option<StoredNetwork>, def: NetworkDef) -> Arc<Network> {
        let network = Network::spawn(State::new(self.shared.clone(), uuid, stored, def));
        tokio::spawn(watch(network.clone()));
        self.table().insert(uuid, network.clone());
        network
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Network>>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, network| !network.now().gone);
        table
    }

    /// By name.
    pub(crate) fn all(&self) -> Vec<Arc<Network>> {
        let mut all: Vec<_> = self.table().values().cloned().collect();
        all.sort_by_cached_key(|network| network.now().view.name.clone());
        all
    }

    pub(crate) fn views(&self) -> Vec<NetworkView> {
        self.all().iter().map(|network| self.view(network)).collect()
    }

    /// With what the host's other rules do to it.
    pub(crate) fn view(&self, network: &Network) -> NetworkView {
        let now = network.now();
        let mut view = now.view.clone();
        if let Some(rules) = plan::rules(&now.def).filter(|_| view.active) {
            view.problems.extend(self.shared.foreign.warnings(&rules));
        }
        view
    }

    pub(crate) fn find(&self, network: &NetworkRef) -> Result<Arc<Network>, Error> {
        let table = self.table();
        let by_uuid = Uuid::try_parse(&network.0).ok().and_then(|uuid| table.get(&uuid));
        let found =
            by_uuid.or_else(|| table.values().find(|known| known.now().view.name == network.0));
        found.cloned().ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no network {:?}", network.0))
        })
    }

    /// Whether Manor makes the network's bridge.
    pub(crate) fn is_own(&self, network: &str) -> bool {
        let network = self.find(&NetworkRef::from(network));
        network.is_ok_and(|network| !network.now().def.is_foreign_bridge())
    }

    /// What may come through the taps of a domain that is about to run. Blocks.
    pub(crate) fn guard(&self, ports: Vec<(String, Option<ports::Port>)>) -> Result<(), Error> {
        self.shared.firewall.guard(ports)
    }

    /// Put filters in force at all taps that have them, then `keep` them. Blocks.
    pub(crate) fn refilter(
        &self,
        library: &Library,
        keep: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.shared.firewall.refilter(library, keep)
    }

    /// User and group of the processes beside guests that the configuration names; none where they are
    /// what the daemon is.
    pub(crate) fn unprivileged(&self) -> Result<Option<(u32, u32)>, Error> {
        Ok(user::of(&self.shared.settings.user, &*self.shared.broker)?
            .map(|user| (user.uid, user.gid)))
    }

    /// Forget the rules of taps that are gone. Blocks.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        self.shared.firewall.guard(Vec::new())
    }

    /// Whether a network can be defined so.
    ///
    /// # Errors
    /// Those of [`Self::claim`] and of storing it. One that is about to go stands in nobody's way.
    pub(crate) fn may_define(
        &self,
        def: &NetworkDef,
        going: Option<&Arc<Network>>,
    ) -> Result<(), Error> {
        service::check(def)?;
        let stays = |network: &Arc<Network>| going.is_none_or(|it| !Arc::ptr_eq(it, network));
        let table = self.table();
        let others = table.iter().filter(|(_, network)| stays(network));
        free_for(def, def.uuid.unwrap_or_default(), others).map(drop)
    }

    /// The network that every host begins with, while it is as it was then.
    pub(crate) fn untouched_default(&self) -> Option<Arc<Network>> {
        let mut begun = NetworkDef::parse(DEFAULT).ok()?.value;
        let table = self.table();
        let found = table.values().find(|known| known.now().view.name == *begun.name)?;
        let now = found.now();
        if now.view.active || now.view.autostart || !now.view.persistent {
            return None;
        }
        begun.uuid = now.def.uuid;
        begun.mac = now.def.mac;
        begun.bridge = now.def.bridge.clone();
        begun.fill_defaults(&mut NewIds);
        (begun == now.def).then(|| found.clone())
    }

    /// Whether it is the bridge of a network here.
    pub(crate) fn has_bridge(&self, bridge: &str) -> bool {
        let has = |view: &NetworkView| view.active && view.bridge.as_deref() == Some(bridge);
        self.table().values().any(|network| has(&network.now().view))
    }

    /// The network of this definition's UUID, or a new one that has nothing yet; with a bridge in
    /// the definition, the network's own or the first that is free.
    pub(crate) fn claim(&self, def: &mut NetworkDef) -> Result<Arc<Network>, Error> {
        let uuid = def.uuid.ok_or_else(|| Error::new(Code::Internal, "a network has no UUID"))?;
        let mut table = self.table();
        let taken = free_for(def, uuid, table.iter())?;
        if def.bridge_name().is_none() {
            let own = table.get(&uuid).and_then(|network| network.now().view.bridge.clone());
            let name = own.or_else(|| free_bridge(&taken, &self.shared.host));
            def.bridge.get_or_insert_default().name = name;
        }
        let fresh = || {
            let network = Network::spawn(State::new(self.shared.clone(), uuid, None, def.clone()));
            tokio::spawn(watch(network.clone()));
            network
        };
        Ok(table.entry(uuid).or_insert_with(fresh).clone())
    }
}

/// Whether a network of this name, UUID and bridge can be beside these; the bridges that they have.
fn free_for<'a>(
    def: &NetworkDef,
    uuid: Uuid,
    others: impl Iterator<Item = (&'a Uuid, &'a Arc<Network>)>,
) -> Result<BTreeSet<String>, Error> {
    let mut taken = BTreeSet::new();
    for (other, network) in others {
        let now = network.now();
        let (same_uuid, same_name) = (*other == uuid, now.view.name == *def.name);
        if !same_uuid && !now.def.is_foreign_bridge() {
            taken.extend(now.view.bridge.clone());
        }
        let problem = match (same_uuid, same_name) {
            (true, true) | (false, false) => continue,
            (true, false) => format!("UUID {uuid} is that of network {:?}", now.view.name),
            (false, true) => format!(
                "there is a network {:?} already, with UUID {other}; give that <uuid> to \
                 change it, or choose another <name>",
                now.view.name
            ),
        };
        return Err(Error::new(Code::Exists, problem));
    }
    if let (Some(bridge), false) = (def.bridge_name(), def.is_foreign_bridge())
        && taken.contains(bridge)
    {
        let text = format!("bridge {bridge:?} is that of another network; choose another <bridge>");
        return Err(Error::new(Code::Exists, text));
    }
    Ok(taken)
}

fn free_bridge(taken: &BTreeSet<String>, host: &Host) -> Option<String> {
    let interfaces = host.sys().join("class/net");
    let on_host = |name: &str| interfaces.join(name).exists();
    let free = |name: &String| !taken.contains(name) && !on_host(name);
    (0..=taken.len() + 1024).map(|number| format!("virbr{number}")).find(free)
}

/// Start a network's process again when it ends by itself.
async fn watch(network: Arc<Network>) {
    let mut published = network.subscribe();
    let mut pause = SHORTEST_PAUSE;
    let mut asked = resolvers::Watch::new();
    loop {
        let exit = published.borrow_and_update().exit.clone();
        let since = std::time::Instant::now();
        let ended = async {
            match &exit {
                Some(exit) => exit.ended().await,
                None => std::future::pending().await,
            }
        };
        let resolvers = async {
            match &exit {
                Some(_) => asked.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = resolvers => {
                let name = network.now().view.name.clone();
                match network.run(|state| state.refresh()).await {
                    Ok(()) => tracing::info!(network = name, "asks the host's new resolvers"),
                    Err(error) => {
                        let error = error.chain();
                        tracing::warn!(network = name, error, "asks the host's former resolvers");
                    }
                }
            }
            () = ended => {
                let Some(ended) = exit else { continue };
                let name = network.now().view.name.clone();
                pause = if since.elapsed() > WELL { SHORTEST_PAUSE } else { pause };
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let how = ended.reap().unwrap_or_else(|| "it ended".to_owned());
                match network.run(move |state| state.revive(&ended)).await {
                    Ok(false) => {}
                    Ok(true) => tracing::error!(network = name, how, "has a new process"),
                    Err(error) => {
                        let error = error.chain();
                        tracing::error!(network = name, how, error, "does not work");
                    }
                }
            }
        }
    }
}
