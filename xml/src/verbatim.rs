//! Elements kept as they were written.

use roxmltree::Node;

use crate::cursor::Cursor;
use crate::diagnostic::Kind;
use crate::element::Element;
use crate::write::Writer;

/// The source text of one element. Prefixes declared around it are declared on it, so it can stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verbatim(String);

impl Verbatim {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(node: Node<'_, '_>) -> Self {
        let mut text = node.document().input_text()[node.range()].to_owned();
        let Some(parent) = node.parent() else { return Self(text) };
        for outer in parent.namespaces().filter(|outer| outer.uri() != roxmltree::NS_XML_URI) {
            let declared_here = node.lookup_namespace_uri(outer.name()) != Some(outer.uri());
            let used = node.descendants().any(|inner| {
                inner.tag_name().namespace() == Some(outer.uri())
                    || inner.attributes().any(|a| a.namespace() == Some(outer.uri()))
            });
            let repeated = node.document().input_text()[node.range()]
                .split('>')
                .next()
                .is_some_and(|tag| tag.contains(&declaration_name(outer.name())));
            if declared_here || !used || repeated {
                continue;
            }
            let end = text[1..]
                .find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>')
                .map_or(1, |at| at + 1);
            let mut declaration = format!(" {}\"", declaration_name(outer.name()));
            for c in outer.uri().chars() {
                match c {
                    '&' => declaration.push_str("&amp;"),
                    '<' => declaration.push_str("&lt;"),
                    '"' => declaration.push_str("&quot;"),
                    _ => declaration.push(c),
                }
            }
            declaration.push('"');
            text.insert_str(end, &declaration);
        }
        Self(text)
    }
}

fn declaration_name(prefix: Option<&str>) -> String {
    match prefix {
        Some(prefix) => format!("xmlns:{prefix}="),
        None => "xmlns=".to_owned(),
    }
}

/// A device or setting that Manor does not provide and no guest needs: kept for dumpxml, and the caller is told.
impl Element for Verbatim {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.warn(
            Kind::Unsupported,
            format!(
                "libvirt's <{}> is kept in the definition, but Manor does not provide it",
                at.name()
            ),
        );
        Some(Self::of(at.node()))
    }

    fn write(&self, _name: &'static str, out: &mut Writer) {
        out.verbatim(&self.0);
    }
}
