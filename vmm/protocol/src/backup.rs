//! Dirty bitmaps and backups of disks in use, as they are asked for on the control socket.

use serde::{Deserialize, Serialize};

use crate::config::{Fd, ImageFormat};

/// One change of a disk's dirty bitmaps. Those of one request are carried out together, while
/// nothing is in flight, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BitmapChange {
    /// A new one, in which writes are recorded from now on.
    Add {
        disk: String,
        bitmap: String,
        /// Bytes that a bit is about; a power of two.
        granularity: u64,
        /// Kept in the image, which must be qcow2, when the disk is closed.
        persistent: bool,
    },
    /// None there is no error.
    Remove { disk: String, bitmap: String },
    /// Record writes from now on, or no more.
    Enable { disk: String, bitmap: String, enabled: bool },
    /// What `from` has marked is marked in `into`, too.
    Merge { disk: String, into: String, from: String },
}

impl BitmapChange {
    #[must_use]
    pub fn disk(&self) -> &str {
        let (Self::Add { disk, .. }
        | Self::Remove { disk, .. }
        | Self::Enable { disk, .. }
        | Self::Merge { disk, .. }) = self;
        disk
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BitmapStatus {
    pub disk: String,
    pub name: String,
    pub granularity: u64,
    pub enabled: bool,
    pub persistent: bool,
    /// Nobody knows what was written before: its last writer died.
    pub inconsistent: bool,
    /// Bytes of blocks that are marked.
    pub dirty: u64,
}

/// Begin a backup. Descriptors are places of the files passed beside the message (SCM_RIGHTS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupBegin {
    pub disks: Vec<BackupDisk>,
    /// Where clients of the moment's NBD exports connect; none: it is copied to the disks' targets.
    pub listener: Option<Fd>,
    /// Carried out at the very moment.
    pub bitmaps: Vec<BitmapChange>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDisk {
    pub id: String,
    /// An empty file for what the guest overwrites meanwhile.
    pub scratch: Fd,
    /// Only what is marked in one of these; none: everything.
    pub since: Vec<String>,
    /// The name of the NBD export.
    pub export: String,
    /// By which clients see what was marked: `qemu:dirty-bitmap:NAME`.
    pub exported_bitmap: Option<String>,
    pub target: Option<BackupTarget>,
}

/// An empty file, which becomes an image; an image that reads as zeros; or of an incremental backup as its own backing image does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTarget {
    pub format: ImageFormat,
    pub file: Fd,
}

/// A backup that was begun, and not ended by request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// Bytes that were copied, and all; of one that is served none.
    pub done: u64,
    pub total: u64,
    pub phase: BackupPhase,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupPhase {
    Running,
    Done,
    Failed(String),
}
