//! What is being done to the snapshots of a domain: enough to finish it, or to undo it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Switch;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// The snapshot stands in the set, and is none yet.
    Create(CreateWork),
    Revert(RevertWork),
    Delete(DeleteWork),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreateWork {
    pub name: String,
    /// Forgotten as soon as it is made (`--no-metadata`).
    pub forget: bool,
    /// The guest waits, and is to run when this is over.
    pub resume: bool,
    /// Of the definition that names the overlays.
    pub generation: u64,
    /// The VMM may have been told to go on in the overlays.
    pub swapping: bool,
    pub switches: Vec<Switch>,
    /// Images that hold it inside.
    pub internal: Vec<PathBuf>,
    /// Everything that goes if nothing comes of this.
    pub files: Vec<PathBuf>,
    /// Overlays, and how long they were when nothing had been written to them.
    pub blank: Vec<(PathBuf, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevertWork {
    pub to: String,
    /// Of the definition that the domain has then.
    pub generation: u64,
    pub files: Vec<PathBuf>,
    /// Where the domain's disks were before.
    pub before: Vec<PathBuf>,
    /// The firmware's variables are made anew at the next start, and not put back.
    pub reset_variables: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeleteWork {
    pub name: String,
    pub merges: Vec<Merge>,
    /// Images that hold it inside.
    pub internal: Vec<PathBuf>,
    /// What nobody needs then.
    pub files: Vec<PathBuf>,
}

/// An overlay that becomes one with the image below it, which takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Merge {
    pub disk: String,
    pub from: PathBuf,
    pub into: PathBuf,
    /// Of `into`, by its name.
    pub format: String,
    /// Images that lie on `from`, and on `into` afterwards.
    pub above: Vec<PathBuf>,
    /// Nothing may go from `from` into `into` any more: a guest writes there, or may.
    #[serde(default)]
    pub done: bool,
}
