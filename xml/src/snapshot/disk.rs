//! What becomes of each disk of a domain in a snapshot.

use std::path::PathBuf;

use std::collections::HashSet;

use crate::cursor::Cursor;
use crate::device::disk::{DiskFormat, DiskType, SnapshotMode};
use crate::diagnostic::Kind;
use crate::element::element;

element! {
    #[derive(Default)]
    pub struct SnapshotDisks {
        child("disk") disks: Vec<SnapshotDisk>,
    }
    check SnapshotDisks::check;
}

element! {
    pub struct SnapshotDisk {
        /// Target, or path of the image.
        attr name: String,
        attr snapshot: Option<SnapshotMode>,
        attr("type") kind: Option<DiskType>,
        child driver: Option<SnapshotDriver>,
        /// Of an external one: where the disk goes on.
        child source: Option<SnapshotDiskSource>,
    }
    refuse ["snapshotDeleteInProgress"];
    check SnapshotDisk::check;
}

element! {
    #[derive(Copy, Default)]
    pub struct SnapshotDriver {
        attr("type") format: Option<DiskFormat>,
    }
    refuse ["metadata_cache"];
}

element! {
    #[derive(Default)]
    pub struct SnapshotDiskSource {
        attr file: Option<PathBuf>,
        attr dev: Option<PathBuf>,
    }
    refuse ["@protocol", "@name", "@index", "@startupPolicy", "host", "seclabel", "encryption", "auth"];
}

impl SnapshotDisk {
    /// A source without a word makes it an external one, as libvirt has it.
    #[must_use]
    pub fn mode(&self) -> Option<SnapshotMode> {
        let implied = self.source.as_ref().map(|_| SnapshotMode::External);
        self.snapshot.or(implied)
    }

    fn check(&self, at: Cursor<'_>) {
        if self.name.is_empty() {
            let message = "a disk is named by its target or its image".to_owned();
            at.attribute_error("name", Kind::Invalid, message);
        }
        if let Some(kind) = self.kind
            && !matches!(kind, DiskType::File | DiskType::Block)
        {
            let mut report = at.at_attribute("type");
            report.expected = Some("type='file' or 'block'".to_owned());
            let message = format!("an overlay is a file or a block device, not of type='{kind}'");
            report.report(Kind::Unsupported, message);
        }
        let Some(source) = at.child("source") else { return };
        if let Some(mode) = self.mode()
            && mode != SnapshotMode::External
        {
            let message = format!("a disk snapshot of the kind {mode} has no source of its own");
            source.error(Kind::Invalid, message);
        }
        let block = self.kind == Some(DiskType::Block);
        let (own, other) = if block { ("dev", "file") } else { ("file", "dev") };
        if source.attribute(other).is_some() {
            let kind = self.kind.unwrap_or(DiskType::File);
            let message = format!("an overlay of type='{kind}' has no source {other}='…'");
            source.attribute_error(other, Kind::Invalid, message);
        } else if source.attribute(own).is_none() {
            source.missing_attribute(own);
        } else if source.attribute(own).is_some_and(|path| !path.starts_with('/')) {
            let message = "the path of an overlay begins with '/'".to_owned();
            source.attribute_error(own, Kind::Invalid, message);
        }
    }
}

impl SnapshotDisks {
    fn check(&self, at: Cursor<'_>) {
        let mut seen = HashSet::new();
        for disk in at.children("disk") {
            let Some(name) = disk.attribute("name") else { continue };
            if !seen.insert(name) {
                let message = format!("disk {name:?} stands here twice");
                disk.attribute_error("name", Kind::Invalid, message);
            }
        }
    }
}
