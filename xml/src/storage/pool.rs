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

impl PoolType {
    /// Of what a pool of this kind lies on, the usual one first; empty: it has none.
    pub fn source_formats(self) -> &'static [&'static str] {
        match self {
            Self::Fs => &FILE_SYSTEMS,
            Self::NetFs => &["auto", "nfs"],
            Self::Logical => &["lvm2", "unknown"],
            _ => &[],
        }
    }
}

/// libvirt's names of file systems on devices, as far as Linux mounts them.
const FILE_SYSTEMS: [&str; 13] = [
    "auto", "ext2", "ext3", "ext4", "xfs", "btrfs", "vfat", "iso9660", "udf", "ufs", "hfs+",
    "gfs2", "ocfs2",
];

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
        /// Of a network file system.
        child host: Option<PoolHost>,
        /// What the pool lies on; the physical volumes of a volume group.
        child("device") devices: Vec<PoolPath>,
        /// Of a network file system, on its host.
        child dir: Option<PoolPath>,
        /// Of a volume group.
        child name: Option<String>,
        child format: Option<PoolFormat>,
    }
    refuse ["adapter", "protocol", "vendor", "product", "initiator", "auth"];
}

element! {
    pub struct PoolHost {
        attr name: String,
    }
    refuse ["@port"];
}

element! {
    pub struct PoolPath {
        attr path: PathBuf,
    }
    refuse ["@part_separator", "freeExtent"];
}

element! {
    /// `auto` is the same as none.
    pub struct PoolFormat {
        attr("type") kind: String,
    }
}

element! {
    pub struct PoolTarget {
        child path: PathBuf,
        child permissions: Option<Permissions>,
    }
    refuse ["encryption"];
}

/// LVM's own rule.
fn is_group_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    let fits = !name.is_empty() && name.len() <= 127 && name.chars().all(good);
    fits && !name.starts_with('-') && !matches!(name, "." | "..")
}

impl PoolDef {
    fn check(&self, at: Cursor<'_>) {
        let instead = match self.kind {
            PoolType::Dir | PoolType::Fs | PoolType::NetFs | PoolType::Logical => None,
            PoolType::Disk => Some("give guests partitions as disks of type='block'"),
            PoolType::Iscsi | PoolType::IscsiDirect | PoolType::Scsi | PoolType::Mpath => {
                Some("have the host attach them, and give them to guests as disks of type='block'")
            }
            PoolType::Zfs => Some("use a pool of type='dir' in a data set"),
            PoolType::Rbd | PoolType::Sheepdog | PoolType::Gluster | PoolType::Vstorage => Some(
                "mount it, and use a pool of type='dir' there, or have an NBD server export it",
            ),
        };
        if let Some(instead) = instead {
            let mut report = at.at_attribute("type");
            report.expected = Some("type='dir', 'fs', 'netfs' or 'logical'".to_owned());
            let message = format!("Manor has no pools of type='{}'; {instead}", self.kind);
            return report.report(Kind::Unsupported, message);
        }
        self.check_source(at);
        match &self.target {
            // The device files of a volume group are where they are.
            None if self.kind == PoolType::Logical => {}
            None => at.missing_child("target"),
            Some(target) if !target.path.is_absolute() => {
                if let Some(path) = at.child("target").and_then(|target| target.child("path")) {
                    path.error(Kind::Invalid, "a pool's path begins with '/'".to_owned());
                }
            }
            Some(_) => {}
        }
    }

    /// Each kind of pool has its own parts of a source.
    fn check_source(&self, at: Cursor<'_>) {
        let nothing = PoolSource::default();
        let source = self.source.as_ref().unwrap_or(&nothing);
        let lacks = |what: &str| {
            let place = at.child("source").unwrap_or(at);
            place.error(Kind::Missing, format!("a pool of type='{}' needs {what}", self.kind));
        };
        let absolute = |path: &PoolPath, name: &'static str| {
            if !path.path.is_absolute() {
                let place = at.child("source").and_then(|source| source.child(name));
                let message = "a path of a pool's source begins with '/'".to_owned();
                place.unwrap_or(at).error(Kind::Invalid, message);
            }
        };
        let mut allowed: &[&str] = &[];
        match self.kind {
            PoolType::Fs => {
                allowed = &["device", "format"];
                if source.devices.len() != 1 {
                    lacks("one <device path='…'/>");
                }
            }
            PoolType::NetFs => {
                allowed = &["host", "dir", "format"];
                if source.host.is_none() {
                    lacks("a <host name='…'/>");
                }
                if source.dir.is_none() {
                    lacks("a <dir path='…'/>");
                }
            }
            PoolType::Logical => {
                allowed = &["name", "device", "format"];
                if self.group().is_some_and(|group| !is_group_name(group)) {
                    let place = at.child("source").and_then(|source| source.child("name"));
                    let message = "a volume group's name has letters, digits and '+_.-', at most 127, and \
                                   begins with no '-'";
                    place.unwrap_or(at).error(Kind::Invalid, message.to_owned());
                }
            }
            _ => {}
        }
        source.devices.iter().for_each(|device| absolute(device, "device"));
        source.dir.iter().for_each(|dir| absolute(dir, "dir"));
        for name in ["host", "device", "dir", "name", "format"] {
            // libvirt writes a name into sources that have none.
            if name == "name" || allowed.contains(&name) {
                continue;
            }
            if let Some(part) = at.child("source").and_then(|source| source.child(name)) {
                let message = format!("a pool of type='{}' has no source <{name}>", self.kind);
                part.error(Kind::Invalid, message);
            }
        }
        self.check_format(source, at);
    }

    fn check_format(&self, source: &PoolSource, at: Cursor<'_>) {
        let known = self.kind.source_formats();
        if known.is_empty() {
            return;
        }
        if let Some(format) = source.format.as_ref().filter(|it| !known.contains(&&*it.kind)) {
            let place = at.child("source").and_then(|source| source.child("format"));
            let message = format!(
                "no pool is of the format {:?}; there are {}",
                format.kind,
                known.join(", ")
            );
            place.unwrap_or(at).error(Kind::Unsupported, message);
        }
    }

    /// Where its volumes lie.
    pub fn path(&self) -> &std::path::Path {
        self.target.as_ref().map_or(std::path::Path::new(""), |target| &target.path)
    }

    /// The volume group of a logical pool: that of its own name where its source names none.
    pub fn group(&self) -> Option<&str> {
        let named = self.source.as_ref().and_then(|source| source.name.as_deref());
        (self.kind == PoolType::Logical).then(|| named.unwrap_or(&self.name))
    }

    /// What a definition leaves open.
    pub fn fill_defaults(&mut self, uuid: impl FnOnce() -> Uuid) {
        self.uuid.get_or_insert_with(uuid);
        self.source.get_or_insert_default();
        if let Some(group) = self.group().map(str::to_owned) {
            let path = std::path::Path::new("/dev").join(&group);
            self.source.get_or_insert_default().name = Some(group);
            self.target = Some(PoolTarget { path, permissions: None });
        }
        (self.capacity, self.allocation, self.available) = (None, None, None);
    }
}
