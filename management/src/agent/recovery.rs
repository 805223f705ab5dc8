//! File systems that a daemon was about to freeze when it died: the next one thaws them.

use std::time::Duration;

use crate::agent::{Agent, Ask};
use crate::domain::channels::Frozen;
use crate::domain::handle::{Act, Handle};
use crate::error::{Code, Error};

/// Between attempts, and how many: an agent may be gone for a while, and come back frozen.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 30;
/// For a guest to write all it has in memory.
const FREEZE: Duration = Duration::from_secs(90);
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

/// Have the agent hold all file systems still, for somebody who thaws them in a moment: until then it
/// stays written down that whoever finds them so, thaws them.
pub(crate) async fn freeze_until_thawed(handle: &Handle) -> Result<(), Error> {
    let mut agent = Agent::meet(handle).await?;
    let view = handle.view();
    if view.live.as_ref().is_some_and(|live| live.record.frozen.is_some()) {
        let text = format!("file systems of domain {:?} are frozen already", view.name);
        return Err(Error::new(Code::InvalidState, text));
    }
    handle.act(Act::SetFrozen(Some(Frozen::Asked)), RECORD).await?;
    let asked = agent.try_ask::<u64>(Ask::new("guest-fsfreeze-freeze").within(FREEZE)).await;
    drop(agent);
    let Err(error) = asked else { return Ok(()) };
    // Some may hold.
    let undone = match error.is_refusal() {
        true => handle.act(Act::SetFrozen(None), RECORD).await,
        false => thaw(handle).await.map(drop),
    };
    if let Err(error) = undone {
        let error = error.chain();
        tracing::error!(domain = view.name, error, "file systems may have stayed frozen");
    }
    Err(error.of(&view.name))
}

/// Have the agent thaw all file systems, and write down that they are.
pub(crate) async fn thaw(handle: &Handle) -> Result<u64, Error> {
    let mut agent = Agent::meet_patiently(handle).await?;
    let count = agent.ask(Ask::new("guest-fsfreeze-thaw").within(THAW)).await?;
    drop(agent);
    handle.act(Act::SetFrozen(None), RECORD).await?;
    Ok(count)
}
