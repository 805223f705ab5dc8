//! `<domainsnapshot>`: what a domain was at a moment, by libvirt's snapshot format.

mod disk;
mod set;

pub use disk::{SnapshotDisk, SnapshotDiskSource, SnapshotDisks, SnapshotDriver};
pub use set::SnapshotSet;

use std::path::PathBuf;

use crate::cursor::Cursor;
use crate::device::disk::SnapshotMode;
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds, Parsed};
use crate::domain::{DomainDef, Name};
use crate::element::{Element, element};
use crate::value::names;
use crate::write::Writer;

names! {
    /// What the domain did at that moment.
    pub enum SnapshotState {
        NoState = "nostate", Running = "running", Blocked = "blocked", Paused = "paused", Shutdown = "shutdown",
        ShutOff = "shutoff", Crashed = "crashed", PmSuspended = "pmsuspended",
        /// Of its disks alone, whatever it did.
        DiskSnapshot = "disk-snapshot",
    }
    pub enum MemorySnapshot { No = "no", Internal = "internal", External = "external" }
}

element! {
    /// Fields are in the order in which libvirt prints them.
    #[derive(Default)]
    pub struct SnapshotDef {
        child name: Option<Name>,
        child description: Option<String>,
        child state: Option<SnapshotState>,
        child parent: Option<SnapshotParent>,
        /// Seconds since 1970.
        child("creationTime") creation_time: Option<i64>,
        child memory: Option<SnapshotMemory>,
        child disks: Option<SnapshotDisks>,
        /// As it was, and as it would have started anew.
        child domain: Option<DomainDef>,
        child("inactiveDomain") inactive_domain: Option<DomainDef>,
        /// Notes of QEMU's driver, which mean nothing here.
        child cookie: Option<Cookie>,
        /// Which one is current is not the snapshot's own affair.
        child active: Option<u32>,
    }
    refuse ["revertDisks"];
    check SnapshotDef::check;
}

element! {
    pub struct SnapshotParent {
        child name: Name,
    }
}

element! {
    pub struct SnapshotMemory {
        attr snapshot: Option<MemorySnapshot>,
        attr file: Option<PathBuf>,
    }
    check SnapshotMemory::check;
}

/// Read over, and not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie;

impl Element for Cookie {
    fn read(_at: Cursor<'_>) -> Option<Self> {
        Some(Self)
    }
    fn write(&self, _name: &'static str, _out: &mut Writer) {}
}

impl SnapshotMemory {
    /// A file without a word is an external one, as libvirt has it.
    #[must_use]
    pub fn mode(&self) -> MemorySnapshot {
        let usual =
            if self.file.is_some() { MemorySnapshot::External } else { MemorySnapshot::Internal };
        self.snapshot.unwrap_or(usual)
    }

    fn check(&self, at: Cursor<'_>) {
        match (self.mode(), &self.file) {
            (MemorySnapshot::External, None) => at.missing_attribute("file"),
            (MemorySnapshot::External, Some(file)) if !file.is_absolute() => {
                let message = "the file of a memory snapshot begins with '/'".to_owned();
                at.attribute_error("file", Kind::Invalid, message);
            }
            (mode @ (MemorySnapshot::No | MemorySnapshot::Internal), Some(_)) => {
                let message = format!("a memory snapshot of the kind {mode} has no file");
                at.attribute_error("file", Kind::Invalid, message);
            }
            _ => {}
        }
    }
}

impl SnapshotDef {
    /// Read a snapshot, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domainsnapshot", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domainsnapshot", Bounds::OWN)
    }

    /// The snapshot as libvirt prints it.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        Element::write(self, "domainsnapshot", &mut out);
        out.finish()
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_ref().map(|parent| &*parent.name)
    }

    pub fn set_parent(&mut self, parent: Option<Name>) {
        self.parent = parent.map(|name| SnapshotParent { name });
    }

    /// How its memory was kept; none if nothing is said.
    #[must_use]
    pub fn memory(&self) -> Option<MemorySnapshot> {
        self.memory.as_ref().map(SnapshotMemory::mode)
    }

    #[must_use]
    pub fn disks(&self) -> &[SnapshotDisk] {
        self.disks.as_ref().map(|disks| disks.disks.as_slice()).unwrap_or_default()
    }

    /// Some part of it lies in files of its own.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.memory() == Some(MemorySnapshot::External)
            || self.disks().iter().any(|disk| disk.mode() == Some(SnapshotMode::External))
    }

    fn check(&self, at: Cursor<'_>) {
        if let (Some(name), Some(parent)) = (&self.name, self.parent())
            && **name == *parent
            && let Some(at) = at.child("parent")
        {
            at.error(Kind::Invalid, format!("snapshot {parent:?} cannot be its own parent"));
        }
        if self.domain.is_none()
            && self.inactive_domain.is_some()
            && let Some(at) = at.child("inactiveDomain")
        {
            at.error(Kind::Invalid, "<inactiveDomain> comes with a <domain>".to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
