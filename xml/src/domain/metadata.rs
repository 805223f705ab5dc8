//! `<metadata>`: other programs' notes, kept word for word.

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::Element;
use crate::report::quote;
use crate::verbatim::Verbatim;
use crate::write::Writer;

/// The whole element as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Verbatim);

impl Metadata {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Element for Metadata {
    fn read(at: Cursor<'_>) -> Option<Self> {
        for attribute in at.node().attributes() {
            let message = format!("<metadata> has no attribute {}", quote(attribute.name));
            at.attribute_error(attribute.name, Kind::Unknown, message);
        }
        at.expect_no_text();
        Some(Self(Verbatim::of(at.node())))
    }

    fn write(&self, _name: &'static str, out: &mut Writer) {
        out.verbatim(self.as_str());
    }
}
