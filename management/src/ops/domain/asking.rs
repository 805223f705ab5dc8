//! Asking a guest to end or to begin anew: through its agent, or by its power button.

use serde_json::json;

use crate::agent::{self, Agent, Ask};
use crate::domain::DomainRef;
use crate::domain::handle::{Act, Handle};
use crate::error::{Code, Error};
use crate::manager::Context;

/// Through whom a guest is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskMode {
    /// Its agent, which does it.
    Agent,
    /// The power button, for which something in the guest must listen.
    Acpi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Shutdown,
    Reboot,
}

/// Try the modes in libvirt's order, the agent first, until one of them worked.
pub(super) async fn ask_guest(
    cx: &Context,
    domain: &DomainRef,
    mut modes: Vec<AskMode>,
    wish: Wish,
) -> Result<(), Error> {
    let handle = cx.find(domain)?;
    if modes.is_empty() {
        modes.push(AskMode::Acpi);
        if agent::is_connected(&handle.view()) {
            modes.push(AskMode::Agent);
        }
    }
    modes.sort_unstable();
    modes.dedup();
    let last = modes.pop().unwrap_or(AskMode::Acpi);
    for mode in modes {
        match ask_through(cx, &handle, mode, wish).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let domain = handle.view().name;
                tracing::warn!(domain, error = %error.chain(), "the power button is pressed instead");
            }
        }
    }
    ask_through(cx, &handle, last, wish).await
}

async fn ask_through(
    cx: &Context,
    handle: &Handle,
    mode: AskMode,
    wish: Wish,
) -> Result<(), Error> {
    let act = |act| handle.act(act, cx.deadline());
    match (mode, wish) {
        (AskMode::Acpi, Wish::Shutdown) => act(Act::Shutdown).await,
        (AskMode::Acpi, Wish::Reboot) => act(Act::Reboot).await,
        (AskMode::Agent, _) => {
            act(Act::PrepareToAsk).await?;
            let mode = if wish == Wish::Reboot { "reboot" } else { "powerdown" };
            let mut agent = Agent::meet(handle).await?;
            agent.tell(Ask::new("guest-shutdown").with(json!({ "mode": mode }))).await?;
            if wish == Wish::Reboot {
                return Ok(());
            }
            match act(Act::AskedToShutdown).await {
                // It was quick.
                Err(error) if error.code == Code::NotFound => Ok(()),
                asked => asked,
            }
        }
    }
}
