//! Backups and checkpoints.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, percent};
use crate::types;

impl Client {
    pub async fn begin_backup(&self, domain: &str, how: &types::BeginBackup) -> Result<types::Job> {
        let path = domain_path(domain, "/backup");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn backup_xml(&self, domain: &str) -> Result<String> {
        self.text(&domain_path(domain, "/backup")).await
    }

    pub async fn create_checkpoint(
        &self,
        domain: &str,
        how: &types::CreateCheckpoint,
    ) -> Result<types::Checkpoint> {
        let path = domain_path(domain, "/checkpoints");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn checkpoints(&self, domain: &str) -> Result<types::CheckpointList> {
        let path = domain_path(domain, "/checkpoints");
        self.answer(self.call(Method::GET, &path, Payload::Nothing).await?)
    }

    /// `query`: `no_domain=true`, `size=true`.
    pub async fn checkpoint_xml(&self, domain: &str, name: &str, query: &str) -> Result<String> {
        let path = domain_path(domain, "/checkpoints/");
        self.text(&format!("{path}{}?{query}", percent(name))).await
    }

    /// `query`: `children=true`, `children_only=true`, `metadata_only=true`.
    pub async fn delete_checkpoint(&self, domain: &str, name: &str, query: &str) -> Result<()> {
        let path = domain_path(domain, "/checkpoints/");
        let path = format!("{path}{}?{query}", percent(name));
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }
}
