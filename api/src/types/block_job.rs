//! Block jobs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A block job to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartBlockJob {
    #[serde(flatten)]
    pub work: BlockWork,
    /// Bytes in a second; 0: as many as can be.
    #[serde(default)]
    pub bandwidth_bytes: u64,
}

/// What it does. Images are named by their paths, or by their numbers in the live definition (`vda[3]`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum BlockWork {
    /// What lies between the guest's image and `base`, or all below it, goes into that.
    Pull {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
        /// The image names `base` as the images between do, relative to themselves.
        #[serde(default)]
        relative: bool,
    },
    /// What `top` and those below it have goes into `base`.
    Commit {
        /// Absent: the lowest; with `shallow` the one below `top`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
        /// Absent: the image that the guest uses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        top: Option<String>,
        #[serde(default)]
        shallow: bool,
        /// `top` is the image that the guest uses: the job becomes ready, and waits for a pivot.
        #[serde(default)]
        active: bool,
        /// Images that are no part of the disk afterwards are removed.
        #[serde(default)]
        delete: bool,
        /// The image above `top` names `base` as those between do, relative to themselves.
        #[serde(default)]
        relative: bool,
    },
    /// All goes into a copy; the job becomes ready, and waits for a pivot.
    Copy {
        /// Absolute, on the daemon's host.
        #[schema(example = "/var/lib/manor/images/copy.qcow2")]
        path: String,
        /// `raw` or `qcow2`; absent: that of the disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        format: Option<String>,
        /// Only what the guest's image has: the copy lies on what that lies on.
        #[serde(default)]
        shallow: bool,
        /// The file is there, of the right size.
        #[serde(default)]
        reuse: bool,
    },
    /// The same, to where a `<disk>` says: a file, or an NBD server, which has as many bytes.
    CopyTo {
        /// libvirt's XML; it needs no target.
        #[schema(
            example = "<disk type='network'><source protocol='nbd' name='copy'><host name='store1'/></source></disk>"
        )]
        disk: String,
        #[serde(default)]
        shallow: bool,
        /// What is there is used; always so of a server.
        #[serde(default)]
        reuse: bool,
    },
}

/// How fast a block job may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockJobLimit {
    /// In a second; 0: as many as can be.
    pub bandwidth_bytes: u64,
}

/// A block job that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockJob {
    #[schema(example = "vda")]
    pub disk: String,
    pub kind: BlockJobKind,
    /// Both sides are the same, and stay so: it waits for its end.
    pub ready: bool,
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// In a second; 0: as many as can be.
    pub bandwidth_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockJobKind {
    Pull,
    Commit,
    ActiveCommit,
    Copy,
}
