//! [`Description`]: what an image's header says, read before anything it names is opened.

use serde::{Deserialize, Serialize};

use crate::format::Format;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    pub format: Format,
    /// Bytes, as a guest sees them.
    pub size: u64,
    /// Bytes that are allocated at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<Reference>,
    /// The raw file that holds the data instead of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file: Option<String>,
    /// Files that hold the data, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extents: Vec<String>,
    /// The method, if its data is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotInfo>,
    /// Of qcow2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bitmaps: Vec<crate::qcow2::BitmapInfo>,
    /// What only this format has, by qemu-img's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<(String, String)>,
    /// Not closed properly: reference counts may be stale.
    #[serde(default)]
    pub dirty: bool,
    /// Someone found a contradiction in it; it can only be read until it is repaired.
    #[serde(default)]
    pub corrupt: bool,
    /// Why it can only be read, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
}

/// Another image, as an image names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Relative to the image that names it, if it is no absolute path. Whoever made the image chose
    /// it.
    pub name: String,
    /// As the image declares it.
    pub format: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    pub id: String,
    pub name: String,
    /// Of the disk then, bytes.
    pub size: u64,
    /// Saved machine state, bytes.
    pub vm_state_size: u64,
    /// Seconds since 1970.
    pub date: u32,
    /// Nanoseconds the guest had run.
    pub vm_clock: u64,
    /// Instructions the guest had executed, where QEMU counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icount: Option<u64>,
}

/// What a process that looks into an image says, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inspected {
    Image(Box<Description>),
    Refused(String),
}

impl Description {
    /// There may be many, which matter to nobody who opens the disk as it is now.
    #[must_use]
    pub fn without_snapshots(mut self) -> Self {
        self.snapshots.clear();
        self
    }

    pub(crate) fn new(format: Format, size: u64) -> Self {
        Self {
            format,
            size,
            cluster_size: None,
            backing: None,
            data_file: None,
            extents: Vec::new(),
            encryption: None,
            snapshots: Vec::new(),
            bitmaps: Vec::new(),
            details: Vec::new(),
            dirty: false,
            corrupt: false,
            read_only: None,
        }
    }
}
