//! Pools and volumes: places for disk images, and the images in them.
//!
//! Each pool has a worker ([`pool`]) that does one thing at a time and publishes what it knows, so
//! that a list waits for no file system. A volume comes to be under a name of the daemon's own and
//! is renamed when it is whole; what is left of such names when a pool becomes active was begun by
//! a daemon that died, and is removed. Long work is a job ([`crate::jobs`]) beside the worker.
//!
//! What others do in a directory is noticed by the time that it was last changed: one look at that for
//! each list, and a look at all of it only when it is another.

pub(crate) mod capabilities;
mod chain;
pub(crate) mod content;
mod create;
mod graph;
pub(crate) mod group;
mod headers;
mod mount;
mod pool;
mod registry;
mod resize;
mod scan;
mod transfer;
mod views;
pub(crate) mod wipe;
pub(crate) mod work;

use std::fmt;

use uuid::Uuid;

pub use graph::{ImageUse, User};
pub use transfer::{Download, Piece, Upload};
pub use views::{PoolView, VolumeView};
pub use wipe::WipeAlgorithm;

pub(crate) use content::Share;
pub(crate) use create::{NewVolume, make};
pub(crate) use graph::Graph;
pub(crate) use headers::{Below, Remembered};
pub(crate) use pool::{Pool, State};
pub(crate) use registry::{Found, Pools};
pub(crate) use resize::{Resize, resize, resize_device};
pub(crate) use scan::inspect;

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

/// What a copy of a domain, a save or a core is called until it is whole ([`crate::saved::beside`]).
fn is_partial(name: &str) -> bool {
    let rest = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(UNFINISHED.1));
    let id = rest.and_then(|rest| rest.rsplit_once('.')).map(|(_, id)| id);
    id.is_some_and(|id| Uuid::try_parse(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_not_whole_are_known_and_no_others() {
        let id = Uuid::new_v4();
        assert!(is_unfinished(&unfinished_name()) && !is_partial(&unfinished_name()));
        let beside = crate::saved::beside("/srv/web.img".as_ref(), id);
        let beside = beside.file_name().unwrap().to_str().unwrap();
        assert!(is_partial(beside) && !is_unfinished(beside), "{beside}");
        for name in ["web.partial", ".web.1.partial", ".partial", &format!("web.{id}.partial")] {
            assert!(!is_partial(name) && !is_unfinished(name), "{name}");
        }
    }
}
