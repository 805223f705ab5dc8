//! Pools and volumes: places for disk images, and the images in them.
//!
//! Each pool has a worker ([`pool`]) that does one thing at a time and publishes what it knows, so
//! that a list waits for no file system. A volume comes to be under a name of the daemon's own and
//! is renamed when it is whole; what is left of such names when a pool becomes active was begun by
//! a daemon that died, and is removed. Long work is a job ([`crate::jobs`]) beside the worker.

mod chain;
pub(crate) mod content;
mod create;
mod group;
mod mount;
mod pool;
mod registry;
mod resize;
mod scan;
mod transfer;
mod views;

use std::fmt;

use uuid::Uuid;

pub use transfer::{Download, Upload};
pub use views::{PoolView, VolumeView};

pub(crate) use content::Share;
pub(crate) use create::{NewVolume, make};
pub(crate) use pool::{Pool, State};
pub(crate) use registry::{Found, Pools};
pub(crate) use resize::{Resize, resize, resize_device};

/// A pool as a caller names it: a UUID, else a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolRef(pub String);

impl fmt::Display for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl From<&str> for PoolRef {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Uuid> for PoolRef {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.to_string())
    }
}

/// A volume of a pool, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VolumeRef {
    pub pool: PoolRef,
    pub volume: String,
}

impl VolumeRef {
    pub fn new(pool: impl Into<PoolRef>, volume: impl Into<String>) -> Self {
        Self { pool: pool.into(), volume: volume.into() }
    }
}

/// Names under which volumes are made: hidden, and of no user's choice.
const UNFINISHED: (&str, &str) = (".manor-", ".partial");

fn unfinished_name() -> String {
    format!("{}{}{}", UNFINISHED.0, Uuid::new_v4(), UNFINISHED.1)
}

fn is_unfinished(name: &str) -> bool {
    let id = name.strip_prefix(UNFINISHED.0).and_then(|rest| rest.strip_suffix(UNFINISHED.1));
    id.is_some_and(|id| Uuid::try_parse(id).is_ok())
}
