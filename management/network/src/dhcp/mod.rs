//! DHCP for IPv4 (RFC 2131): one authoritative server for one link.
//!
//! ```text
//!            ┌──────────── choice (which address) ◀─┐
//! packet ─▶ server ─▶ table (who holds what) ─▶ lease file
//!            └──────────▶ answer ─▶ reply
//! ```
//! Nothing in here reads a clock or a socket; `service` does both.

mod answer;
mod choice;
pub(crate) mod options;
mod packet;
mod server;
pub(crate) mod service;
mod table;
#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;

pub(crate) use packet::FIXED;
pub use server::{Counters, Link, Server};

/// Longest client identifier that tells clients apart, bytes: a DUID of 128 with its type, and what
/// RFC 4361 puts before it. Longer ones are sent back as they must be and otherwise ignored.
pub(crate) const MAX_CLIENT_ID: usize = 140;

/// A message to send from port 67.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub to: SocketAddrV4,
    pub bytes: Vec<u8>,
}
