//! How domains are tuned.

use hyper::Method;

use super::{Client, Result, domain_path, json, path};
use crate::types;

impl Client {
    pub async fn tuning(&self, domain: &str, affects: types::Affects) -> Result<types::Tuning> {
        self.get(&path(&domain_path(domain, "/tuning"), &affects)).await
    }

    /// What `change` does not speak of stays.
    pub async fn tune(
        &self,
        domain: &str,
        change: &types::Tuning,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/tuning"), &affects);
        self.call(Method::PATCH, &path, json(change)).await.map(drop)
    }
}
