//! The audit log, tokens and users.

use hyper::Method;

use super::{Client, Payload, Result, json, percent};
use crate::types;

impl Client {
    /// The last records, or the first after the one of id `after`, which are waited for.
    pub async fn audit(
        &self,
        after: Option<u64>,
        limit: u32,
        wait_ms: u64,
    ) -> Result<Vec<types::AuditRecord>> {
        let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
        let path = format!("/v1/audit?limit={limit}&wait_ms={wait_ms}{after}");
        let log: types::AuditLog = self.get(&path).await?;
        Ok(log.records)
    }

    pub async fn create_token(&self, wanted: &types::CreateToken) -> Result<types::NewToken> {
        self.answer(self.call(Method::POST, "/v1/tokens", json(wanted)).await?)
    }

    pub async fn tokens(&self) -> Result<Vec<types::Token>> {
        let list: types::TokenList = self.get("/v1/tokens").await?;
        Ok(list.tokens)
    }

    /// By name or id.
    pub async fn revoke_token(&self, token: &str) -> Result<()> {
        let path = format!("/v1/tokens/{}", percent(token));
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }

    /// Make a user of libvirt's protocol, or change all of one.
    pub async fn set_user(&self, name: &str, wanted: &types::SetUser) -> Result<()> {
        let path = format!("/v1/users/{}", percent(name));
        self.call(Method::PUT, &path, json(wanted)).await.map(drop)
    }

    pub async fn users(&self) -> Result<Vec<types::User>> {
        let list: types::UserList = self.get("/v1/users").await?;
        Ok(list.users)
    }

    pub async fn remove_user(&self, name: &str) -> Result<()> {
        let path = format!("/v1/users/{}", percent(name));
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }
}
