//! The clock of a guest that went on from a saved state stands where it stood then: its agent sets it.

use std::time::Duration;

use serde_json::json;

use crate::agent::replies::Nothing;
use crate::agent::{Agent, Ask, is_connected};
use crate::domain::handle::{Handle, View};
use crate::error::Error;

/// For the agent to be heard of, and how often that is looked for.
const CONNECTED: Duration = Duration::from_secs(10);
const LOOKED_EACH: Duration = Duration::from_millis(100);
/// Windows starts a service for it.
const SET: Duration = Duration::from_secs(30);

/// Nanoseconds since the Unix epoch; none: what the clock of the guest's hardware says, which goes on
/// while the guest does not.
pub(crate) async fn set_time(handle: &Handle, time: Option<i64>) -> Result<(), Error> {
    let mut ask = Ask::new("guest-set-time").within(SET);
    if let Some(time) = time {
        ask = ask.with(json!({ "time": time }));
    }
    let mut agent = Agent::meet(handle).await?;
    let Nothing {} = agent.ask(ask).await?;
    Ok(())
}

/// The same for a guest that has just gone on, if it has an agent that does it.
pub(crate) async fn set_after_restore(handle: Handle) {
    let view = handle.view();
    let started = start_of(&view);
    let connected = async {
        while !is_connected(&handle.view()) {
            tokio::time::sleep(LOOKED_EACH).await;
        }
    };
    if tokio::time::timeout(CONNECTED, connected).await.is_err()
        || start_of(&handle.view()) != started
    {
        tracing::debug!(domain = view.name, "no agent sets the clock of the guest that goes on");
        return;
    }
    match set_time(&handle, None).await {
        Ok(()) => tracing::info!(domain = view.name, "its agent has set the clock of the guest"),
        Err(error) => tracing::warn!(
            domain = view.name,
            error = %error.chain(),
            "the clock of the guest stands where it was saved (domtime --sync sets it)"
        ),
    }
}

/// One guest, and not the next of the same domain.
fn start_of(view: &View) -> Option<uuid::Uuid> {
    view.live.as_ref().map(|live| live.record.start_token)
}
