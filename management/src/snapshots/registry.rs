//! The snapshots of all domains: read by everyone, changed by each domain's own actor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::error::Error;
use crate::store::{Contents, Store, StoredSnapshots, Vfs};

pub(crate) struct Snapshots {
    store: Store<StoredSnapshots>,
    dir: PathBuf,
    table: Mutex<HashMap<Uuid, Arc<StoredSnapshots>>>,
}

impl Snapshots {
    /// With what could not be read, and what does not work now.
    pub(crate) fn open(vfs: Arc<dyn Vfs>, state: &Path) -> (Self, Contents<StoredSnapshots>) {
        let (store, mut contents) = Store::<StoredSnapshots>::open(vfs, state);
        let found = std::mem::take(&mut contents.objects);
        let table = found.into_iter().map(|set| (set.uuid, Arc::new(set))).collect();
        let dir = state.join("snapshot-files");
        (Self { store, dir, table: Mutex::new(table) }, contents)
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<StoredSnapshots>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of a domain; an empty set if it has none.
    pub(crate) fn of(&self, domain: Uuid) -> Arc<StoredSnapshots> {
        let known = self.table().get(&domain).cloned();
        known.unwrap_or_else(|| Arc::new(StoredSnapshots::new(domain)))
    }

    pub(crate) fn all(&self) -> Vec<Arc<StoredSnapshots>> {
        self.table().values().cloned().collect()
    }

    /// Store what a domain's snapshots are from now on. An empty set leaves nothing.
    pub(crate) fn put(&self, mut set: StoredSnapshots) -> Result<(), Error> {
        if set.snapshots.is_empty() && set.work.is_none() && set.made.is_empty() {
            return self.forget(set.uuid);
        }
        set.generation = set.generation.saturating_add(1);
        self.store.put(&set)?;
        self.table().insert(set.uuid, Arc::new(set));
        Ok(())
    }

    /// None there is no error.
    pub(crate) fn forget(&self, domain: Uuid) -> Result<(), Error> {
        let mut table = self.table();
        if table.contains_key(&domain) {
            self.store.remove(domain)?;
            table.remove(&domain);
        }
        Ok(())
    }

    /// Where the files lie that the daemon keeps for a domain's snapshots.
    pub(crate) fn files(&self, domain: Uuid) -> PathBuf {
        self.dir.join(domain.to_string())
    }

    /// Forget sets of domains that are gone: a daemon died while it forgot a domain.
    pub(crate) fn sweep(&self, known: impl Fn(Uuid) -> bool) {
        for set in self.all().into_iter().filter(|set| !known(set.uuid)) {
            tracing::info!(domain = %set.uuid, "forgetting snapshots that no domain has");
            if let Err(error) = self.forget(set.uuid) {
                tracing::warn!(error = %error.chain(), "they stay");
            }
        }
    }
}
