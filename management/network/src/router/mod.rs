//! Router advertisements (RFC 4861 §6.2): guests learn the prefix, the route and the resolver of IPv6.

mod advertisement;
mod schedule;
mod service;
mod solicitation;

use serde::{Deserialize, Serialize};

pub(crate) use advertisement::advertisement;
pub(crate) use service::{Socket, serve};
pub(crate) use solicitation::is_valid as is_solicitation;

/// Messages since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub solicitations: u64,
    pub advertisements: u64,
    /// Malformed, or from beyond the link.
    pub ignored: u64,
}
