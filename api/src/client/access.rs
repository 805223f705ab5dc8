//! The audit log.

use super::{Client, Result};
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
}
