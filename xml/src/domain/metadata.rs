//! `<metadata>`: other programs' notes, kept word for word.

use crate::cursor::{Cursor, elements};
use crate::diagnostic::Kind;
use crate::element::Element;
use crate::verbatim::Verbatim;
use crate::write::Writer;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(pub Vec<Verbatim>);

impl Element for Metadata {
    fn read(at: Cursor<'_>) -> Option<Self> {
        for attribute in at.node().attributes() {
            let message =
                format!("<metadata> has no attribute {}", crate::report::quote(attribute.name()));
            at.attribute_error(attribute.name(), Kind::Unknown, message);
        }
        at.expect_no_text();
        Some(Self(elements(at.node()).map(Verbatim::of).collect()))
    }

    fn write(&self, name: &'static str, out: &mut Writer) {
        out.tag(name)
            .children(|out| self.0.iter().for_each(|element| out.verbatim(element.as_str())));
    }
}
