//! File systems that a daemon was about to freeze when it died: the next one thaws them.

use std::time::Duration;

use crate::agent::{Agent, Ask};
use crate::domain::channels::Frozen;
use crate::domain::handle::{Act, Handle};
use crate::error::Error;

/// Between attempts, and how many: an agent may be gone for a while, and come back frozen.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 30;
/// For the guest to write what piled up meanwhile.
const THAW: Duration = Duration::from_secs(60);
/// For the record of it to be written.
const RECORD: Duration = Duration::from_secs(10);

/// Thaw what nobody knows to be frozen. What was frozen by somebody's wish stays so.
pub(crate) async fn thaw_after_death(handle: Handle) {
    let mut pause = PAUSE;
    for _ in 0..ATTEMPTS {
        let view = handle.view();
        let frozen = view.live.as_ref().and_then(|live| live.record.frozen);
        if frozen != Some(Frozen::Asked) {
            return;
        }
        match thaw(&handle).await {
            Ok(count) => {
                tracing::warn!(
                    domain = view.name,
                    count,
                    "thawed file systems: an earlier daemon died while it froze them"
                );
                return;
            }
            Err(error) => tracing::warn!(
                domain = view.name,
                error = %error.chain(),
                "file systems of this guest may be frozen, and cannot be thawed yet"
            ),
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Have the agent thaw all file systems, and write down that they are.
pub(crate) async fn thaw(handle: &Handle) -> Result<u64, Error> {
    let mut agent = Agent::meet(handle).await?;
    let count = agent.ask(Ask::new("guest-fsfreeze-thaw").within(THAW)).await?;
    drop(agent);
    handle.act(Act::SetFrozen(None), RECORD).await?;
    Ok(count)
}
