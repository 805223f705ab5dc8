//! All pools by UUID and name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::Broker;
use futures_util::future::join_all;
use uuid::Uuid;
use xml::PoolDef;

use super::headers::Headers;
use super::pool::{Pool, Shared, State};
use super::{PoolRef, PoolView, VolumeView};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::journal::Journal;
use crate::store::{Contents, Store, StoredPool, Vfs};
use crate::translate::invalid;

pub(crate) struct Pools {
    shared: Arc<Shared>,
    table: Mutex<HashMap<Uuid, Arc<Pool>>>,
    headers: Headers,
}

/// What was found at the start of the daemon.
pub(crate) struct Found {
    store: Store<StoredPool>,
    stored: Vec<StoredPool>,
    /// Pools that a former daemon had active, by the definitions they had then.
    active: HashMap<Uuid, PoolDef>,
    headers: Headers,
    pub(crate) quarantined: Vec<(String, String)>,
    pub(crate) degraded: Vec<String>,
}

impl Found {
    pub(crate) fn read(vfs: Arc<dyn Vfs>, config: &Config) -> Self {
        let (store, contents) = Store::open(vfs.clone(), &config.state_dir);
        let Contents { objects: stored, quarantined, degraded } = contents;
        let mut active = HashMap::new();
        let records = std::fs::read_dir(config.run_dir.join("pools"));
        for path in records.into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "xml") {
                // Of a start that was cut short: its pool is not active, or has a record beside it.
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let uuid = stem.and_then(|stem| stem.parse().ok());
            let text = std::fs::read_to_string(&path).ok();
            let def = text.and_then(|text| PoolDef::parse_stored(&text).ok());
            if let (Some(uuid), Some(def)) = (uuid, def) {
                active.insert(uuid, def.value);
            }
        }
        let headers = Headers::open(vfs, &config.state_dir);
        Self { store, stored, active, headers, quarantined, degraded }
    }
}

impl Pools {
    /// Take up what was found; pools that were active are looked at before this returns.
    pub(crate) async fn open(
        found: Found,
        config: &Config,
        broker: Arc<dyn Broker>,
        journal: Arc<Journal>,
    ) -> Self {
        let Found { store, stored, mut active, headers, .. } = found;
        let run_dir = config.run_dir.join("pools");
        let shared = Arc::new(Shared { broker, store, journal, run_dir });
        let pools = Self { shared, table: Mutex::default(), headers };
        let mut activations = Vec::new();
        for stored in stored {
            let uuid = stored.uuid;
            let was_active = active.remove(&uuid);
            let def = match &was_active {
                Some(def) => Ok(def.clone()),
                None => PoolDef::parse_stored(&stored.xml).map(|def| def.value),
            };
            match def {
                Ok(def) => {
                    let pool = pools.insert(uuid, Some(stored), def);
                    activations.extend(was_active.map(|_| pool));
                }
                // It stays where it is: another version of this program may read it.
                Err(error) => {
                    let error = invalid(error).chain();
                    tracing::error!(%uuid, error, "a pool's definition makes no sense");
                }
            }
        }
        for (uuid, def) in active {
            activations.push(pools.insert(uuid, None, def));
        }
        join_all(activations.iter().map(|pool| async {
            if let Err(error) = pool.run(State::activate).await {
                let name = pool.view().name;
                tracing::error!(pool = name, error = %error.chain(), "is not active any more");
            }
        }))
        .await;
        pools
    }

    /// Start what is marked so, once for each boot of the host.
    pub(crate) async fn autostart(&self) {
        for pool in self.all() {
            let view = pool.view();
            if !view.autostart || view.active {
                continue;
            }
            match pool.run(|state| state.start(false)).await {
                Ok(()) => tracing::info!(pool = view.name, "started with the host"),
                Err(error) => {
                    tracing::error!(pool = view.name, error = %error.chain(), "not started");
                }
            }
        }
    }

    fn insert(&self, uuid: Uuid, stored: Option<StoredPool>, def: PoolDef) -> Arc<Pool> {
        let pool = Pool::spawn(State::new(self.shared.clone(), uuid, stored, def));
        self.table().insert(uuid, pool.clone());
        pool
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Pool>>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, pool| !pool.now().gone);
        table
    }

    /// By name.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        let mut all: Vec<_> = self.table().values().cloned().collect();
        all.sort_by_cached_key(|pool| pool.view().name);
        all
    }

    pub(crate) fn find(&self, pool: &PoolRef) -> Result<Arc<Pool>, Error> {
        let table = self.table();
        let by_uuid = Uuid::try_parse(&pool.0).ok().and_then(|uuid| table.get(&uuid));
        let found = by_uuid.or_else(|| table.values().find(|known| known.view().name == pool.0));
        found
            .cloned()
            .ok_or_else(|| Error::new(Code::NotFound, format!("there is no pool {:?}", pool.0)))
    }

    /// Whether a pool can be defined so.
    ///
    /// # Errors
    /// Those of [`Self::claim`].
    pub(crate) fn may_define(&self, def: &PoolDef) -> Result<(), Error> {
        free_for(def, def.uuid.unwrap_or_default(), &self.table())
    }

    /// The pool of this definition's UUID, or a new one that has nothing yet.
    pub(crate) fn claim(&self, def: &PoolDef) -> Result<Arc<Pool>, Error> {
        let uuid = def.uuid.ok_or_else(|| Error::new(Code::Internal, "a pool has no UUID"))?;
        let mut table = self.table();
        free_for(def, uuid, &table)?;
        let fresh = || Pool::spawn(State::new(self.shared.clone(), uuid, None, def.clone()));
        Ok(table.entry(uuid).or_insert_with(fresh).clone())
    }

    pub(crate) fn views(&self) -> Vec<PoolView> {
        self.all().iter().map(|pool| pool.view()).collect()
    }

    /// The active pool whose directory this is.
    pub(crate) fn of_dir(&self, dir: &Path) -> Option<Arc<Pool>> {
        let is = |view: PoolView| view.active && view.path == dir;
        self.table().values().find(|pool| is(pool.view())).cloned()
    }

    /// The volume at a path, as it was last seen.
    pub(crate) fn volume_at(&self, path: &Path) -> Option<VolumeView> {
        let pool = self.of_dir(path.parent()?)?;
        let name = path.file_name()?.to_str()?;
        pool.now().volumes.get(name).map(|known| known.view.clone())
    }

    /// What lies below images that are no volumes.
    pub(crate) fn headers(&self) -> &Headers {
        &self.headers
    }

    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        self.shared.broker.clone()
    }
}

/// Whether a pool of this name, UUID and directory can be beside these.
fn free_for(def: &PoolDef, uuid: Uuid, others: &HashMap<Uuid, Arc<Pool>>) -> Result<(), Error> {
    for (other, pool) in others {
        let view = pool.view();
        let taken = match (*other == uuid, view.name == *def.name, view.path == def.path()) {
            (true, true, _) | (false, false, false) => continue,
            (true, false, _) => format!("UUID {uuid} is that of pool {:?}", view.name),
            (false, true, _) => format!(
                "there is a pool {:?} already, with UUID {other}; give that <uuid> to change it, \
                 or choose another <name>",
                view.name
            ),
            (false, false, true) => {
                format!("{} is the directory of pool {:?}", view.path.display(), view.name)
            }
        };
        return Err(Error::new(Code::Exists, taken));
    }
    Ok(())
}

impl Pool {
    /// By name, as they were last seen.
    pub(crate) fn volumes(&self) -> Vec<VolumeView> {
        self.now().volumes.values().map(|known| known.view.clone()).collect()
    }
}
