//! Snapshots of domains.

use hyper::Method;

use super::{Client, Payload, Result, domain_path, json, percent};
use crate::types;

fn path(domain: &str, snapshot: &str, rest: &str) -> String {
    domain_path(domain, &format!("/snapshots/{}{rest}", percent(snapshot)))
}

impl Client {
    pub async fn snapshots(&self, domain: &str) -> Result<Vec<types::Snapshot>> {
        let list: types::SnapshotList = self.get(&domain_path(domain, "/snapshots")).await?;
        Ok(list.snapshots)
    }

    pub async fn create_snapshot(
        &self,
        domain: &str,
        how: &types::CreateSnapshot,
    ) -> Result<types::SnapshotJob> {
        let path = domain_path(domain, "/snapshots");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn redefine_snapshot(
        &self,
        domain: &str,
        what: &types::RedefineSnapshot,
    ) -> Result<types::SnapshotName> {
        let path = domain_path(domain, "/snapshots");
        self.answer(self.call(Method::PUT, &path, json(what)).await?)
    }

    pub async fn current_snapshot(&self, domain: &str) -> Result<types::Snapshot> {
        self.get(&domain_path(domain, "/current-snapshot")).await
    }

    pub async fn snapshot(&self, domain: &str, snapshot: &str) -> Result<types::Snapshot> {
        self.get(&path(domain, snapshot, "")).await
    }

    pub async fn snapshot_xml(&self, domain: &str, snapshot: &str, secure: bool) -> Result<String> {
        self.text(&path(domain, snapshot, &format!("/xml?secure={secure}"))).await
    }

    pub async fn revert_to_snapshot(
        &self,
        domain: &str,
        snapshot: &str,
        how: &types::Revert,
    ) -> Result<types::Job> {
        let path = path(domain, snapshot, "/revert");
        self.answer(self.call(Method::POST, &path, json(how)).await?)
    }

    pub async fn delete_snapshot(
        &self,
        domain: &str,
        snapshot: &str,
        reach: types::SnapshotReach,
        metadata: bool,
    ) -> Result<types::Job> {
        let reach = match reach {
            types::SnapshotReach::One => "one",
            types::SnapshotReach::WithDescendants => "with-descendants",
            types::SnapshotReach::DescendantsOnly => "descendants-only",
        };
        let path = path(domain, snapshot, &format!("?reach={reach}&metadata={metadata}"));
        self.answer(self.call(Method::DELETE, &path, Payload::Nothing).await?)
    }
}
