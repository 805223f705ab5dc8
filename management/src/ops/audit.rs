//! Who did what.

use std::time::Duration;

use crate::audit::Record;
use crate::auth::Access;
use crate::domain::actor::blocking;
use crate::error::Error;
use crate::manager::{Context, Operation};

/// Lines of the audit log in their order: those after an id, or the last ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetAudit {
    pub after: Option<u64>,
    pub limit: usize,
    /// So long a line after `after` is waited for, if there is none yet.
    pub wait: Duration,
}

impl Operation for GetAudit {
    type Output = Vec<Record>;
    const NAME: &'static str = "audit.get";
    const ACCESS: Access = Access::Admin;

    /// Waiting for more leaves no line, or it would never wait.
    fn is_audited(&self) -> bool {
        self.wait.is_zero()
    }

    async fn run(self, cx: &Context) -> Result<Vec<Record>, Error> {
        if let Some(after) = self.after {
            let _ = tokio::time::timeout(self.wait, cx.audit.line_after(after)).await;
        }
        let (audit, Self { after, limit, .. }) = (cx.audit.clone(), self);
        blocking(move || audit.read(after, limit)).await
    }
}
