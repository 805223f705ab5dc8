//! Block jobs.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, percent};
use crate::types;

fn place(domain: &str, disk: &str) -> String {
    domain_path(domain, &format!("/disks/{}/block-job", percent(disk)))
}

impl Client {
    pub async fn block_jobs(&self, domain: &str) -> Result<Vec<types::BlockJob>> {
        self.get(&domain_path(domain, "/block-jobs")).await
    }

    pub async fn start_block_job(
        &self,
        domain: &str,
        disk: &str,
        job: &types::StartBlockJob,
    ) -> Result<types::Job> {
        self.answer(self.call(Method::POST, &place(domain, disk), json(job)).await?)
    }

    pub async fn end_block_job(&self, domain: &str, disk: &str, pivot: bool) -> Result<()> {
        let path = format!("{}?pivot={pivot}", place(domain, disk));
        self.call(Method::DELETE, &path, Payload::Nothing).await.map(drop)
    }

    pub async fn limit_block_job(&self, domain: &str, disk: &str, bytes: u64) -> Result<()> {
        let limit = types::BlockJobLimit { bandwidth_bytes: bytes };
        self.call(Method::PUT, &place(domain, disk), json(&limit)).await.map(drop)
    }
}
