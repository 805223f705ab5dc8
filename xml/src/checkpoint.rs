//! `<domaincheckpoint>`: a moment of a domain's disks since which writes are recorded; by libvirt's
//! checkpoint format.

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::document::{self, Bounds, Parsed};
use crate::element::{Element as _, element};
use crate::value::names;
use crate::write::Writer;
use crate::{Diagnostics, DomainDef};

names! {
    /// How writes to a disk are recorded.
    pub enum CheckpointKind { No = "no", Bitmap = "bitmap" }
}

element! {
    #[derive(Default)]
    pub struct CheckpointDef {
        child name: Option<String>,
        child description: Option<String>,
        /// Told, and asked for only where a checkpoint is defined anew.
        child parent: Option<CheckpointParent>,
        /// Seconds since 1970.
        child("creationTime") creation_time: Option<u64>,
        section disks: CheckpointDisks,
        /// As it was then.
        child domain: Option<DomainDef>,
    }
    check CheckpointDef::check;
}

element! {
    pub struct CheckpointParent {
        child name: String,
    }
}

element! {
    #[derive(Default)]
    pub struct CheckpointDisks {
        child("disk") all: Vec<CheckpointDisk>,
    }
}

element! {
    pub struct CheckpointDisk {
        attr name: String,
        attr checkpoint: Option<CheckpointKind>,
        attr bitmap: Option<String>,
        /// Bytes that were written since; told when asked for.
        attr size: Option<u64>,
    }
}

impl CheckpointDef {
    /// Read what a checkpoint is to be, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domaincheckpoint", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "domaincheckpoint", Bounds::OWN)
    }

    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        self.write("domaincheckpoint", &mut out);
        out.finish()
    }

    fn check(&self, at: Cursor<'_>) {
        let wrong = self.name.as_ref().is_some_and(|name| !is_name(name));
        if wrong && let Some(at) = at.child("name") {
            let text = "a checkpoint's name has 1 to 255 bytes, no '/' and no control characters, and \
                        does not begin with '.'";
            at.error(Kind::Invalid, text.to_owned());
        }
    }
}

/// Files are named by it.
fn is_name(name: &str) -> bool {
    let good = |c: char| c != '/' && !c.is_control();
    (1..=255).contains(&name.len()) && name.chars().all(good) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_and_written() {
        let text = "\
<domaincheckpoint>
  <name>first</name>
  <description>before the upgrade</description>
  <parent>
    <name>none</name>
  </parent>
  <creationTime>1525889631</creationTime>
  <disks>
    <disk name='vda' checkpoint='bitmap' bitmap='first'/>
    <disk name='vdb' checkpoint='no'/>
  </disks>
</domaincheckpoint>
";
        let def = CheckpointDef::parse(text).unwrap().value;
        assert_eq!(def.to_xml(), text);
        assert_eq!(CheckpointDef::parse("<domaincheckpoint/>").unwrap().value, Default::default());
    }

    #[test]
    fn a_name_that_is_no_files_name_is_refused() {
        for name in ["../x", ".x", "a/b", ""] {
            let text = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
            assert!(CheckpointDef::parse(&text).is_err(), "{name:?}");
        }
    }
}
