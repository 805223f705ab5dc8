//! All snapshots of a domain, as they are stored. libvirt has no such document.

use super::SnapshotDef;
use crate::diagnostic::Diagnostics;
use crate::document::{self, Bounds};
use crate::element::{Element, element};
use crate::write::Writer;

element! {
    #[derive(Default)]
    pub struct SnapshotSet {
        child("domainsnapshot") snapshots: Vec<SnapshotDef>,
    }
}

impl SnapshotSet {
    /// What [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Self, Diagnostics> {
        document::parse(text, "domainsnapshots", Bounds::OWN).map(|parsed| parsed.value)
    }

    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        Element::write(self, "domainsnapshots", &mut out);
        out.finish()
    }
}
