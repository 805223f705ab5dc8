//! libvirt's wire protocol, for virsh and everything else that is built on libvirt's client.
//!
//! ```text
//! socket ─ server (limits, who calls) ─ connection (packets in, packets out)
//!   ─ table (number → procedure) ─ procedures (arguments → Operation → answer)
//!                                 └ streams, events: what comes beside answers
//! ```
//!
//! [`protocol`] knows the wire and nothing of Manor, [`procedures`] know Manor's operations and
//! nothing of sockets. What is allowed is decided where it is for every front end, in
//! `Manager::call`.

mod admission;
mod connection;
mod events;
mod failure;
mod keepalive;
mod procedures;
mod protocol;
pub mod server;
mod session;
mod stream;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod torture;
mod wire;

#[doc(hidden)]
pub use protocol::torture::torture;
pub use table::compatibility;
pub(crate) use torture::{calls, hear_out, serve_one};
