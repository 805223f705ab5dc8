//! What callers see of pools and volumes.

use std::path::PathBuf;

use image::Format;
use uuid::Uuid;
use xml::device::disk::DiskFormat;
use xml::storage::volume::{
    Compat, Timestamps, VolumeBacking, VolumeDef, VolumeFeatures, VolumeSource, VolumeTarget,
    VolumeType,
};
use xml::storage::{Bytes, Mode, Owner, Permissions};

/// A pool as its worker published it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    pub name: String,
    pub uuid: Uuid,
    /// `dir` …
    pub kind: String,
    pub path: PathBuf,
    pub active: bool,
    pub persistent: bool,
    pub autostart: bool,
    /// Bytes; zero while it is inactive, as all that follows.
    pub capacity: u64,
    pub allocation: u64,
    pub available: u64,
    pub volumes: usize,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    pub name: String,
    /// Of its pool.
    pub pool: String,
    pub path: PathBuf,
    pub format: Format,
    /// Bytes, as a guest sees them.
    pub capacity: u64,
    /// Bytes that the host has really given to it.
    pub allocation: u64,
    /// Size of its file.
    pub physical: u64,
    /// The image below it, as its header has it, and that image's format.
    pub backing: Option<(PathBuf, Option<String>)>,
    /// Why it cannot be used, if so.
    pub damaged: Option<String>,
    /// What only some formats have.
    pub cluster_size: Option<u64>,
    pub compat: Option<String>,
    pub lazy_refcounts: bool,
    pub extended_l2: bool,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// Last access, change of content, change of anything: seconds, nanoseconds.
    pub times: [(i64, u32); 3],
}

impl VolumeView {
    /// As libvirt describes it.
    #[must_use]
    pub fn to_xml(&self) -> Option<String> {
        let time = |at: usize| self.times.get(at).map(|(s, ns)| format!("{s}.{ns:09}"));
        let features = (self.lazy_refcounts || self.extended_l2).then_some(VolumeFeatures {
            lazy_refcounts: self.lazy_refcounts,
            extended_l2: self.extended_l2,
        });
        let target = VolumeTarget {
            path: Some(self.path.clone()),
            format: crate::translate::formats::to_xml(self.format),
            permissions: Some(Permissions {
                mode: Some(Mode(self.mode)),
                owner: Some(Owner(Some(self.owner))),
                group: Some(Owner(Some(self.group))),
                label: None,
            }),
            timestamps: Some(Timestamps {
                atime: time(0),
                mtime: time(1),
                ctime: time(2),
                btime: None,
            }),
            compat: match self.compat.as_deref() {
                Some("0.10") => Some(Compat::V2),
                Some("1.1") => Some(Compat::V3),
                _ => None,
            },
            cluster_size: self.cluster_size.map(Bytes),
            nocow: false,
            features,
        };
        let backing_store = self.backing.as_ref().map(|(path, format)| VolumeBacking {
            path: Some(path.clone()),
            format: format.as_ref().and_then(|name| named(name)),
            permissions: None,
            timestamps: None,
        });
        let def = VolumeDef {
            kind: Some(if self.path.starts_with("/dev") {
                VolumeType::Block
            } else {
                VolumeType::File
            }),
            name: self.name.parse().ok()?,
            key: Some(self.path.display().to_string()),
            source: Some(VolumeSource {}),
            capacity: Some(Bytes(self.capacity)),
            allocation: Some(Bytes(self.allocation)),
            physical: Some(Bytes(self.physical)),
            target,
            backing_store,
        };
        Some(def.to_xml())
    }
}

fn named(format: &str) -> Option<DiskFormat> {
    crate::translate::formats::to_xml(format.parse().ok()?)
}
