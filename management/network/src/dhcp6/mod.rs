//! DHCP for IPv6 (RFC 8415): one server for one link, stateful where the network has addresses to
//! give, else of everything but addresses.
//!
//! ```text
//! packet ─▶ message ─▶ server ─▶ table (who holds what) ─▶ lease file
//!                        └─────▶ answer ─▶ reply
//! ```
//! Nothing in here reads a clock or a socket; `service` does both. Relays, temporary addresses and
//! prefixes are left out: the link is one bridge of one host.

mod answer;
mod message;
mod plan;
mod server;
pub(crate) mod service;
mod table;
#[cfg(test)]
mod tests;

pub use server::{Counters, Link, Server};

/// Bytes of an identifier (DUID) with its type (RFC 8415 §11.1).
pub(crate) const DUID: std::ops::RangeInclusive<usize> = 3..=130;
