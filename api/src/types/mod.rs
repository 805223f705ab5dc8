//! The JSON of the HTTP API: what goes over the wire, and nothing of how it is made.
//!
//! Units stand in the names (`memory_bytes`, `cpu_time_ns`). Members may be added; a client ignores
//! those it does not know. Sizes that XML and `virsh` show in KiB are bytes here.

mod device;
mod display;
mod domain;
mod event;
mod node;
mod problem;
mod stats;

pub use device::{Affects, Disk, Interface, Link, LinkState, Memory, StatsPeriod};
pub use display::SendKeys;
pub use domain::{
    Autostart, Defined, Domain, DomainList, DomainState, DomainSummary, ListQuery, Nvram, Rename,
    Start, StateName,
};
pub use event::Event;
pub use node::{Node, Quarantined};
pub use problem::{Mistake, Problem, TYPE_PREFIX};
pub use stats::{BalloonStats, BlockStats, DomainStats, InterfaceStats, StatsList, VcpuStats};

/// Serialised problems, for `Content-Type`.
pub const PROBLEM_JSON: &str = "application/problem+json";
pub const XML: &str = "application/xml";
