//! `<pool>`: a place for disk images, by libvirt's storage pool format.

use std::path::PathBuf;

use uuid::Uuid;

use super::{Bytes, Permissions};
use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::domain::Name;
use crate::element::element;
use crate::value::names;

names! {
    /// The kinds of pools libvirt knows. A definition that parsed is of one that Manor has.
    pub enum PoolType {
        Dir = "dir", Fs = "fs", NetFs = "netfs", Logical = "logical", Disk = "disk", Iscsi = "iscsi",
        IscsiDirect = "iscsi-direct", Scsi = "scsi", Mpath = "mpath", Rbd = "rbd", Sheepdog = "sheepdog",
        Gluster = "gluster", Zfs = "zfs", Vstorage = "vstorage",
    }
}

element! {
    pub struct PoolDef {
        attr("type") kind: PoolType,
        child name: Name,
        child uuid: Option<Uuid>,
        /// What there is; no part of a definition, and ignored in one. So with the next two.
        child capacity: Option<Bytes>,
        child allocation: Option<Bytes>,
        child available: Option<Bytes>,
        child source: Option<PoolSource>,
        child target: Option<PoolTarget>,
    }
    refuse ["features", "refresh"];
    check PoolDef::check;
}

element! {
    /// A directory pool has none; the element is written all the same.
    #[derive(Default)]
    pub struct PoolSource {
        child name: Option<String>,
    }
    refuse [
        "host", "device", "dir", "adapter", "format", "protocol", "vendor", "product", "initiator", "auth",
    ];
}

element! {
    pub struct PoolTarget {
        child path: PathBuf,
        child permissions: Option<Permissions>,
    }
    refuse ["encryption"];
}

impl PoolDef {
    fn check(&self, at: Cursor<'_>) {
        if self.kind != PoolType::Dir {
            let mut report = at.at_attribute("type");
            report.expected = Some("type='dir'".to_owned());
            let message =
                format!("Manor has pools in directories, and none of type='{}'", self.kind);
            return report.report(Kind::Unsupported, message);
        }
        match &self.target {
            None => at.missing_child("target"),
            Some(target) if !target.path.is_absolute() => {
                if let Some(path) = at.child("target").and_then(|target| target.child("path")) {
                    path.error(Kind::Invalid, "a pool's path begins with '/'".to_owned());
                }
            }
            Some(_) => {}
        }
    }

    /// Where its volumes lie.
    pub fn path(&self) -> &std::path::Path {
        self.target.as_ref().map_or(std::path::Path::new(""), |target| &target.path)
    }

    /// What a definition leaves open.
    pub fn fill_defaults(&mut self, uuid: impl FnOnce() -> Uuid) {
        self.uuid.get_or_insert_with(uuid);
        self.source.get_or_insert_default();
        (self.capacity, self.allocation, self.available) = (None, None, None);
    }
}
