//! Elements kept as they were written.

use roxmltree::{Error, Node};

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::document::{self, Bounds};
use crate::element::Element;
use crate::write::{self, Writer};

/// The source text of one element. Prefixes declared around it are declared on it, so it can stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verbatim(String);

impl Verbatim {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of an element that was read, or written, here.
    pub(crate) fn from_text(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn of(node: Node<'_, '_>) -> Self {
        let mut text = node.document().input_text()[node.range()].to_owned();
        while let Err(Error::UnknownNamespace(prefix, _)) = document::tree(&text, Bounds::OWN) {
            let Some(uri) = node.lookup_namespace_uri(Some(&prefix)) else { break };
            let name_end =
                text[1..].find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>'));
            text.insert_str(name_end.map_or(text.len(), |end| end + 1), &declaration(&prefix, uri));
        }
        Self(text)
    }
}

fn declaration(prefix: &str, uri: &str) -> String {
    let mut text = format!(" xmlns:{prefix}='");
    write::escape(uri, true, &mut text);
    text.push('\'');
    text
}

/// A device or setting that Manor does not provide and no guest needs: kept for dumpxml, and the caller is told.
impl Element for Verbatim {
    fn read(at: Cursor<'_>) -> Option<Self> {
        let node = at.node();
        let foreign = |inner: Node<'_, '_>| {
            inner.tag_name().namespace().is_some()
                || inner.attributes().any(|a| a.namespace().is_some())
        };
        if let Some(inner) = node.descendants().find(|inner| foreign(*inner)) {
            at.of(inner)
                .error(Kind::Unknown, format!("nothing inside <{}> has a namespace", at.name()));
            return None;
        }
        let name = at.name();
        let message =
            format!("libvirt's <{name}> is kept in the definition, but Manor does not provide it");
        at.warn(Kind::Unsupported, message);
        Some(Self::of(node))
    }

    fn write(&self, _name: &'static str, out: &mut Writer) {
        out.verbatim(&self.0);
    }
}
