//! Operations on jobs.

use std::time::Duration;

use uuid::Uuid;

use crate::auth::{Access, Subject};
use crate::error::Error;
use crate::jobs::Job;
use crate::manager::{Context, Operation};

/// Jobs that run, and the latest of those that have ended; the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListJobs;

impl Operation for ListJobs {
    type Output = Vec<Job>;
    const NAME: &'static str = "job.list";
    const ACCESS: Access = Access::Read;

    async fn run(self, cx: &Context) -> Result<Vec<Job>, Error> {
        Ok(cx.node.jobs.all())
    }
}

/// One job as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetJob {
    pub job: Uuid,
    /// Or as it is when it has ended, if that is within this time.
    pub wait: Duration,
}

impl Operation for GetJob {
    type Output = Job;
    const NAME: &'static str = "job.get";
    const ACCESS: Access = Access::Read;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("job", self.job.to_string().into())
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        match tokio::time::timeout(self.wait, cx.node.jobs.ended(self.job)).await {
            Ok(ended) => ended,
            Err(_) => cx.node.jobs.get(self.job),
        }
    }
}

/// Ask a job to stop; what it had half made is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortJob {
    pub job: Uuid,
}

impl Operation for AbortJob {
    type Output = ();
    const NAME: &'static str = "job.abort";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Other("job", self.job.to_string().into())
    }

    async fn run(self, cx: &Context) -> Result<(), Error> {
        cx.node.jobs.cancel(self.job)
    }
}
