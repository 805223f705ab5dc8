//! Block jobs: data of a disk that moves between its images while the guest uses it.

use serde::{Deserialize, Serialize};

use crate::config::{Layer, Nbd};
use crate::control::SwapLayer;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockJob {
    /// Of the disk.
    pub id: String,
    /// Bytes in a second; 0: as many as can be.
    pub bandwidth: u64,
    pub work: BlockWork,
}

/// Images are counted from the one that the guest uses, which is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockWork {
    /// The guest's image gets what those between it and `base` have, or all below it, which are no
    /// part of the disk afterwards.
    Pull { base: Option<u16>, backing: Option<Backing> },
    /// What images `top` to above `base` have goes into `base`; they are no part of the disk afterwards.
    Commit {
        top: u16,
        base: u16,
        /// `base`, open for writing.
        into: Layer,
        /// The image above `top`, open for writing; none: it is the guest's.
        overlay: Option<Layer>,
        /// What that names as its backing image afterwards.
        backing: Backing,
    },
    /// What the guest's image and those down to above `base` have goes into `base`, which the guest
    /// uses once it is told to pivot.
    ActiveCommit { base: u16, into: Layer },
    /// All that the guest sees goes into a copy, which the guest uses once it is told to pivot.
    Copy {
        target: Vec<SwapLayer>,
        /// Only what the guest's image itself has: the target has the same below it.
        shallow: bool,
        /// The target is new, and reads as zeros or as what is below it.
        blank: bool,
    },
    /// The same, and onto a server, which has as many bytes.
    CopyToServer { server: Nbd },
}

/// What an image says lies below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    pub name: String,
    pub format: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockJobKind {
    Pull,
    Commit,
    ActiveCommit,
    Copy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockJobPhase {
    Running,
    /// Both sides are the same, and stay so until the job is ended.
    Ready,
    /// As it should; by a pivot, where there is one.
    Completed,
    Cancelled,
    /// The disk is as it was.
    Failed {
        error: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockJobStatus {
    /// Of the disk.
    pub id: String,
    pub kind: BlockJobKind,
    pub phase: BlockJobPhase,
    /// Bytes of the disk that were dealt with, and all.
    pub done: u64,
    pub total: u64,
    pub bandwidth: u64,
}

impl BlockWork {
    #[must_use]
    pub fn kind(&self) -> BlockJobKind {
        match self {
            Self::Pull { .. } => BlockJobKind::Pull,
            Self::Commit { .. } => BlockJobKind::Commit,
            Self::ActiveCommit { .. } => BlockJobKind::ActiveCommit,
            Self::Copy { .. } | Self::CopyToServer { .. } => BlockJobKind::Copy,
        }
    }
}

impl BlockJobPhase {
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !matches!(self, Self::Running | Self::Ready)
    }
}
