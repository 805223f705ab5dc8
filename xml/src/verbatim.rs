//! Elements kept as they were written.

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::Element;
use crate::tree::Node;
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

    pub(crate) fn of(node: Node<'_>) -> Self {
        let text = node.document().input_text().get(node.range()).unwrap_or_default();
        let mut declarations = String::new();
        for prefix in foreign_prefixes(node).into_iter().rev() {
            let uri = node.lookup_namespace(prefix).unwrap_or_default();
            declarations.push_str(&declaration(prefix, uri));
        }
        let (start, rest) = text.split_at(text.len().min(1 + node.qualified_name().len()));
        Self([start, &declarations, rest].concat())
    }
}

/// Those that are used in an element and declared around it, in the order in which they come.
fn foreign_prefixes<'a>(node: Node<'a>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for inner in node.descendants() {
        let mut need = |prefix: &'a str| {
            if !prefix.is_empty()
                && !found.contains(&prefix)
                && inner.has_prefix_from_without(node, prefix)
            {
                found.push(prefix);
            }
        };
        inner.attributes().for_each(|attribute| need(attribute.prefix));
        need(inner.prefix());
    }
    found
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
        let foreign = |inner: Node<'_>| {
            !inner.is_plain() || inner.attributes().any(|a| a.namespace.is_some())
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
