//! `<volume>`: one image of a pool, by libvirt's storage volume format.

use std::path::PathBuf;

use super::{Bytes, Permissions};
use crate::cursor::Cursor;
use crate::device::disk::DiskFormat;
use crate::diagnostic::Kind;
use crate::domain::Name;
use crate::element::element;
use crate::value::names;
use crate::verbatim::Verbatim;

names! {
    /// What a volume is; told, never asked for.
    pub enum VolumeType {
        File = "file", Block = "block", Dir = "dir", Network = "network", NetDir = "netdir", Ploop = "ploop",
    }
    /// Versions of qcow2, by the QEMU that could read them first.
    pub enum Compat { V2 = "0.10", V3 = "1.1" }
}

element! {
    pub struct VolumeDef {
        attr("type") kind: Option<VolumeType>,
        child name: Name,
        /// Told, never asked for.
        child key: Option<String>,
        child source: Option<VolumeSource>,
        child capacity: Option<Bytes>,
        child allocation: Option<Bytes>,
        child physical: Option<Bytes>,
        section target: VolumeTarget,
        child("backingStore") backing_store: Option<VolumeBacking>,
    }
    check VolumeDef::check;
}

element! {
    /// Empty for volumes of directories.
    #[derive(Default)]
    pub struct VolumeSource {}
    refuse ["device"];
}

element! {
    #[derive(Default)]
    pub struct VolumeTarget {
        /// The pool decides; told, never asked for.
        child path: Option<PathBuf>,
        leaf("format" "type") format: Option<DiskFormat>,
        child permissions: Option<Permissions>,
        child timestamps: Option<Timestamps>,
        child compat: Option<Compat>,
        child("clusterSize") cluster_size: Option<Bytes>,
        child nocow: bool,
        child features: Option<VolumeFeatures>,
    }
    refuse ["encryption"];
}

element! {
    /// Seconds since 1970, with nanoseconds.
    #[derive(Default)]
    pub struct Timestamps {
        child atime: Option<String>,
        child mtime: Option<String>,
        child ctime: Option<String>,
        child btime: Option<String>,
    }
}

element! {
    #[derive(Default)]
    pub struct VolumeFeatures {
        child("lazy_refcounts") lazy_refcounts: bool,
        child("extended_l2") extended_l2: bool,
    }
}

element! {
    /// The image beneath.
    pub struct VolumeBacking {
        child path: Option<PathBuf>,
        leaf("format" "type") format: Option<DiskFormat>,
        child permissions: Option<Permissions>,
        child timestamps: Option<Verbatim>,
    }
}

impl VolumeDef {
    fn check(&self, at: Cursor<'_>) {
        let (Some(capacity), Some(allocation)) = (self.capacity, self.allocation) else { return };
        if allocation > capacity
            && self.kind.is_none()
            && let Some(at) = at.child("allocation")
        {
            at.error(Kind::Invalid, "<allocation> is more than <capacity>".to_owned());
        }
    }
}
