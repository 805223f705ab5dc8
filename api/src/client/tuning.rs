//! How domains are tuned.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, path};
use crate::types;

impl Client {
    pub async fn tuning(&self, domain: &str, affects: types::Affects) -> Result<types::Tuning> {
        self.get(&path(&domain_path(domain, "/tuning"), &affects)).await
    }

    /// That the next start makes, or does not.
    pub async fn change_io_thread(
        &self,
        domain: &str,
        id: u32,
        there: bool,
        affects: types::Affects,
    ) -> Result<()> {
        let method = if there { Method::PUT } else { Method::DELETE };
        let path = path(&domain_path(domain, &format!("/iothreads/{id}")), &affects);
        self.call(method, &path, Payload::Nothing).await.map(drop)
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
