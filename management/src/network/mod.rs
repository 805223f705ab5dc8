//! Virtual networks: a bridge of the host, the rules of who reaches whom through it, and a process
//! that gives its guests addresses and names.
//!
//! Each network has a worker ([`state`]) that does one thing at a time. What an active network
//! needs is written down in its run directory before anything of it is made, and every step that
//! makes it can be done again: a daemon that starts completes what it finds there ([`registry`]).
//! The rules of all networks are one table, replaced as a whole ([`firewall`]). The process
//! ([`service`]) outlives the daemon as a guest's does.

mod firewall;
mod foreign;
mod guard;
mod leases;
mod plan;
mod registry;
mod resolvers;
mod service;
pub(crate) mod state;
mod user;
mod views;

use std::fmt;

use uuid::Uuid;

pub use views::{LeaseView, NetworkPortView, NetworkView};

pub(crate) use registry::{Found, Network, Networks};

/// As leases have it: since 1970.
pub(crate) fn seconds_now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

/// A network as a caller names it: a UUID, else a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkRef(pub String);

impl fmt::Display for NetworkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl From<&str> for NetworkRef {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Uuid> for NetworkRef {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.to_string())
    }
}
