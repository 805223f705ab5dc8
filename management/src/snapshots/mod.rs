//! Snapshots: what a domain was at a moment, and how it comes back to that.
//!
//! An external snapshot leaves a disk's image as it is and lets the guest go on in an overlay above
//! it. So the image that a snapshot's own definition names holds what the disk held then, and the
//! `<disks>` of the snapshot say where the disk went on:
//!
//! ```text
//! web.qcow2 ◀─ web.s1 ◀─ web.s2        s1 holds web.qcow2, s2 holds web.s1, the domain is in web.s2
//!     ▲
//!     └─ web.1764378000                a fresh overlay, after a revert to s1
//! ```
//! Each change is written down in the set of the domain's snapshots ([`Work`]) before anything is
//! done; the generation of the domain's stored definition says whether it was decided.

mod align;
mod graph;
pub(crate) mod internal;
mod merge;
mod overlay;
mod registry;
mod tree;
mod work;

pub(crate) use align::{Aligned, Request, align, place};
pub(crate) use graph::{Graph, Steps, User};
pub(crate) use merge::merge;
pub(crate) use overlay::{Overlay, Switch, next_name, put as put_image, switch};
pub(crate) use registry::Snapshots;
pub(crate) use work::{CreateWork, DeleteWork, Merge, RevertWork, Work};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use xml::SnapshotDef;
use xml::snapshot::SnapshotState;

use crate::saved::Mark;

/// More would be somebody's mistake, and all of them lie in one file.
pub(crate) const MOST: usize = 500;

/// One snapshot as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    pub def: SnapshotDef,
    pub kept: Kept,
}

/// What is known of a snapshot beside libvirt's words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    /// Version of what the guest saw.
    pub platform: u16,
    /// Its memory, in a file of the daemon's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<PathBuf>,
    /// A copy of the firmware's variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables: Option<PathBuf>,
    /// What the images that it holds were like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

impl Snapshot {
    pub(crate) fn name(&self) -> &str {
        self.def.name()
    }

    /// The file that holds its memory, if it has that.
    pub(crate) fn memory(&self) -> Option<&PathBuf> {
        let external = self.def.memory.as_ref().and_then(|memory| memory.file.as_ref());
        self.kept.memory.as_ref().or(external)
    }

    pub(crate) fn state(&self) -> SnapshotState {
        self.def.state.unwrap_or(SnapshotState::ShutOff)
    }
}
