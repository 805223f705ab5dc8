//! The QEMU guest agent: a program in the guest that answers questions and does favours, one JSON
//! line each, over a channel of virtio-console.
//!
//! ```text
//! operation ─ Agent::meet ─ queue (one at a time for a domain) ─ control socket of the VMM: the
//!   channel, for nobody else meanwhile ─ Session: synchronise ─ ask ─ ask … ─ hang up
//! ```
//! Nothing of this touches a domain's actor: an agent that is stuck costs those who ask it their
//! time limit, and nobody else anything. What comes from there is a guest's: bounded in size and
//! time, read into types, and cleaned before people see it.

mod clock;
mod connection;
pub(crate) mod disks;
mod error;
mod queue;
mod recovery;
pub(crate) mod replies;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use clock::{set_after_restore, set_time};
pub(crate) use connection::{Agent, CHANNEL, has_channel, is_connected};
pub(crate) use error::AgentError;
pub use queue::AgentTimeout;
pub(crate) use queue::Queue;
pub(crate) use recovery::{freeze_until_thawed, thaw, thaw_after_death};
pub(crate) use session::{Ask, Session};
