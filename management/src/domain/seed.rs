//! A domain's cloud-init seed: there before the first definition that names it, gone after the last.

use super::actor::{Actor, blocking};
use crate::cloud_init::Seed;
use crate::error::Error;
use crate::translate;

impl Actor {
    pub(super) async fn put_seed(&self, seed: Option<Seed>) -> Result<(), Error> {
        let Some(seed) = seed else { return Ok(()) };
        let (node, uuid) = (self.node.clone(), self.uuid);
        blocking(move || node.seeds.put(uuid, &seed)).await
    }

    /// Remove the seed unless the stored or the live definition names it.
    pub(super) async fn tidy_seed(&self) {
        if !self.node.seeds.has(self.uuid) {
            return;
        }
        let path = self.node.seeds.path(self.uuid);
        let stored = self.definition.as_ref().map(|definition| &definition.def);
        let live = self.run.as_ref().map(|run| &run.live.def);
        if stored.into_iter().chain(live).any(|def| translate::names_file(def, &path)) {
            return;
        }
        let (node, uuid) = (self.node.clone(), self.uuid);
        if let Err(error) = blocking(move || node.seeds.remove(uuid)).await {
            // The next daemon tries again.
            tracing::error!(domain = self.name, error = %error.chain(), "a seed stays");
        }
    }
}
