//! File systems of a guest, held still and let go through its agent.

use std::time::Duration;

use serde_json::json;

use crate::agent::replies::{MOST_ROWS, Trimmed, word};
use crate::agent::{Agent, Ask, thaw};
use crate::auth::{Access, Subject};
use crate::domain::channels::Frozen;
use crate::domain::handle::{Act, Handle};
use crate::domain::{DomainRef, TrimmedFilesystem};
use crate::error::{Code, Error};
use crate::manager::{Context, Operation};

/// For a guest to write all it has in memory.
const FREEZE: Duration = Duration::from_secs(90);
/// For a guest to tell its disks of every free block.
const TRIM: Duration = Duration::from_secs(120);

/// Have a guest write out and hold still its file systems (virDomainFSFreeze). How many are frozen.
///
/// They stay so until [`ThawFilesystems`], the guest's next reset or its end, whatever becomes of
/// this daemon; one that dies while they are being frozen leaves a note for the next, which thaws
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeFilesystems {
    pub domain: DomainRef,
    /// Only these; all if empty.
    pub mountpoints: Vec<String>,
}

impl Operation for FreezeFilesystems {
    type Output = u64;
    const NAME: &'static str = "domain.freeze-filesystems";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<u64, Error> {
        let (handle, deadline) = (cx.find(&self.domain)?, cx.deadline());
        // It goes on when the caller has gone: then too somebody must note how it went.
        let work = tokio::spawn(async move { freeze(&handle, self.mountpoints, deadline).await });
        work.await.unwrap_or_else(|error| {
            Err(Error::new(Code::Internal, "a task of the daemon failed").with_source(error))
        })
    }
}

async fn freeze(
    handle: &Handle,
    mountpoints: Vec<String>,
    deadline: Duration,
) -> Result<u64, Error> {
    let note = |frozen| handle.act(Act::SetFrozen(frozen), deadline);
    let mut agent = Agent::meet(handle).await?;
    let view = handle.view();
    if view.live.as_ref().is_some_and(|live| live.record.frozen.is_some()) {
        let text = format!(
            "file systems of domain {:?} are frozen already; thaw them with domfsthaw",
            view.name
        );
        return Err(Error::new(Code::InvalidState, text));
    }
    note(Some(Frozen::Asked)).await?;
    let ask = if mountpoints.is_empty() {
        Ask::new("guest-fsfreeze-freeze")
    } else {
        Ask::new("guest-fsfreeze-freeze-list").with(json!({ "mountpoints": mountpoints }))
    };
    match agent.try_ask(ask.within(FREEZE)).await {
        Ok(0) => {
            note(None).await?;
            Ok(0)
        }
        Ok(count) => {
            note(Some(Frozen::Held)).await?;
            Ok(count)
        }
        Err(error) => {
            drop(agent);
            // Some may hold, and the caller thinks that none does.
            let undone =
                if error.is_refusal() { note(None).await } else { thaw(handle).await.map(drop) };
            if let Err(error) = undone {
                tracing::error!(
                    domain = view.name,
                    error = %error.chain(),
                    "file systems of this guest may have stayed frozen"
                );
            }
            Err(error.of(&view.name))
        }
    }
}

/// Let go what [`FreezeFilesystems`] holds (virDomainFSThaw). How many are thawed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThawFilesystems {
    pub domain: DomainRef,
}

impl Operation for ThawFilesystems {
    type Output = u64;
    const NAME: &'static str = "domain.thaw-filesystems";
    const ACCESS: Access = Access::Write;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<u64, Error> {
        thaw(&cx.find(&self.domain)?).await
    }
}

/// Have a guest tell its disks which blocks it does not use (virDomainFSTrim).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrimFilesystems {
    pub domain: DomainRef,
    /// Bytes: free ranges that are shorter are left alone.
    pub minimum: u64,
}

impl Operation for TrimFilesystems {
    type Output = Vec<TrimmedFilesystem>;
    const NAME: &'static str = "domain.trim-filesystems";
    const ACCESS: Access = Access::Control;

    fn subject(&self) -> Subject<'_> {
        Subject::Domain(&self.domain)
    }

    async fn run(self, cx: &Context) -> Result<Vec<TrimmedFilesystem>, Error> {
        let mut agent = Agent::meet(&cx.find(&self.domain)?).await?;
        let ask = Ask::new("guest-fstrim").with(json!({ "minimum": self.minimum }));
        let trimmed: Trimmed = agent.ask(ask.within(TRIM)).await?;
        let paths = trimmed.paths.into_iter().take(MOST_ROWS);
        let row = |row: crate::agent::replies::TrimmedPath| TrimmedFilesystem {
            path: word(&row.path),
            trimmed: row.trimmed,
            error: row.error.map(|error| word(&error)),
        };
        Ok(paths.map(row).collect())
    }
}
