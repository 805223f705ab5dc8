//! Cores of running domains.

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Access, Subject};
use crate::domain::actor::blocking;
use crate::domain::dump::Dump;
use crate::domain::handle::Act;
use crate::domain::{DomainRef, DumpMode};
use crate::error::{Code, Error};
use crate::jobs::Job;
use crate::manager::{Context, Operation};

/// As long as memory takes to its disk.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Write an ELF core of a running domain's memory and registers (virDomainCoreDumpWithFormat).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpDomain {
    pub domain: DomainRef,
    /// Absolute; nothing is there yet.
    pub file: PathBuf,
    pub mode: DumpMode,
}

impl Operation for DumpDomain {
    type Output = Job;
    const NAME: &'static str = "domain.dump";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Job, Error> {
        let handle = cx.find(&self.domain)?;
        let view = handle.view();
        if view.live.is_none() {
            let text = format!("domain {:?} is not running", view.name);
            return Err(Error::new(Code::InvalidState, text));
        }
        let dump = Dump { file: self.file, mode: self.mode };
        let (jobs, name) = (cx.node.jobs.clone(), view.name);
        blocking(move || {
            jobs.start("domain-dump", name, 0, move |progress| async move {
                handle.act(Act::Dump(dump, progress), LONGEST).await
            })
        })
        .await
    }
}
