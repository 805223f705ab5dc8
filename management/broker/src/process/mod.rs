//! The broker as a process of its own: the daemon asks it through a socket, and needs no privilege for
//! what is done.
//!
//! ```text
//!   daemon ── door (a pair of sockets from before there were two) ──► manor run-broker
//!      Remote: for each act that runs at a time, one channel,             │
//!      a socket that went through the door                                ▼
//!        request and files ─────────────────────────────────────►  a thread: Local::perform
//!        ◄───────────────────────────────────── granted and files, or why not
//! ```
//! It lives as long as its daemon holds the door, and acts for nobody else. It ends at once when that
//! closes, as the daemon's own threads would: each act stands being cut off anywhere. Before the next
//! broker does anything, it has the lock of the one before, so no two are ever at work.

mod answer;
pub(crate) mod cause;
mod children;
mod frame;
mod remote;
mod serve;
#[cfg(test)]
mod tests;

pub use remote::{Remote, Start};
pub use serve::serve;
