//! Moving in from another libvirt.

use hyper::Method;

use super::{Client, Result, json};
use crate::types;

impl Client {
    /// What would become of these definitions.
    pub async fn plan_import(&self, import: &types::Import) -> Result<types::ImportPlan> {
        self.answer(self.call(Method::POST, "/v1/import/plan", json(import)).await?)
    }

    /// Take over what can be.
    pub async fn apply_import(&self, import: &types::Import) -> Result<types::Job> {
        self.answer(self.call(Method::POST, "/v1/import/apply", json(import)).await?)
    }
}
