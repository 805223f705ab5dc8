//! DNS for one network (RFC 1035): answers for the names of guests and of the configuration, and
//! asks others about the rest.
//!
//! ```text
//! UDP, TCP ─▶ query ─▶ resolve ─┬─▶ answer ────────────▶ client
//!                      zone     └─▶ forward ─▶ upstream ─▶ client
//!                      leases
//! ```

mod answer;
mod exchange;
mod forward;
mod gate;
mod query;
mod resolve;
mod reverse;
mod service;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod zone;

use std::io;
use std::net::{TcpListener, UdpSocket};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub(crate) use exchange::reply;
pub(crate) use forward::Upstreams;
pub(crate) use resolve::Leases;
pub(crate) use zone::Zone;

use crate::state::Shared;
use gate::Gate;

/// Largest query, bytes. A question with EDNS options takes a few hundred.
const MAX_QUERY: usize = 4096;
/// Queries that wait for an upstream at once, of all clients and of one.
const WAITING: usize = 256;
const WAITING_EACH: usize = 64;
/// Connections at once, of all clients and of one.
const CONNECTIONS: usize = 16;
const CONNECTIONS_EACH: usize = 4;

/// Queries since the start, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub queries: u64,
    /// Answered from what is known here, be it that the name does not exist.
    pub answered: u64,
    pub forwarded: u64,
    /// No upstream answered, or too many queries were waiting.
    pub failed: u64,
    /// From outside the network, malformed, or of a kind that is not served.
    pub refused: u64,
}

/// Serve on all sockets until one of them fails for good.
pub(crate) async fn serve(
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    shared: Shared,
) -> io::Result<()> {
    let waiting = Gate::new(WAITING, WAITING_EACH);
    let connections = Gate::new(CONNECTIONS, CONNECTIONS_EACH);
    let mut services = JoinSet::new();
    for socket in udp {
        services.spawn(udp::serve(socket, shared.clone(), waiting.clone()));
    }
    for listener in tcp {
        let gates = (connections.clone(), waiting.clone());
        services.spawn(tcp::serve(listener, shared.clone(), gates));
    }
    match services.join_next().await {
        Some(ended) => ended.map_err(io::Error::other)?,
        None => std::future::pending().await,
    }
}
