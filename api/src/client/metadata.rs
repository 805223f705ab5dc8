//! What people and programs note about domains.

use hyper::Method;
use serde::Serialize;

use super::{Client, Result, domain_path, json, path};
use crate::types;

#[derive(Serialize)]
struct Query<'q> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'q str>,
    live: bool,
    config: bool,
}

impl Client {
    /// `uri`: whose element is wanted.
    pub async fn metadata(
        &self,
        domain: &str,
        uri: Option<&str>,
        affects: types::Affects,
    ) -> Result<types::Metadata> {
        let query = Query { uri, live: affects.live, config: affects.config };
        self.get(&path(&domain_path(domain, "/metadata"), &query)).await
    }

    /// What `change` does not speak of stays.
    pub async fn change_metadata(
        &self,
        domain: &str,
        change: &types::MetadataChange,
        affects: types::Affects,
    ) -> Result<()> {
        let path = path(&domain_path(domain, "/metadata"), &affects);
        self.call(Method::PATCH, &path, json(change)).await.map(drop)
    }
}
