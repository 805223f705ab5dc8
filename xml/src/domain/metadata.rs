//! `<metadata>`: other programs' notes, kept word for word.

use std::fmt;

use crate::cursor::Cursor;
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds};
use crate::element::Element;
use crate::namespace;
use crate::report::quote;
use crate::scan;
use crate::tree::Node;
use crate::verbatim::Verbatim;
use crate::write::Writer;

/// Everything in one definition, which has to be read again from outside.
const MOST_BYTES: usize = 512 << 10;

/// Why an element is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadMetadata {
    /// The element is none.
    Malformed(Diagnostics),
    /// A prefix is a name, and not one that begins with `xml`.
    Prefix(String),
    /// The element uses the prefix for something else.
    Taken(String),
    TooMuch,
}

impl fmt::Display for BadMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(problems) => write!(f, "the element cannot be read: {problems}"),
            Self::Prefix(key) => {
                write!(f, "{} is no prefix: write a name such as app (--key)", quote(key))
            }
            Self::Taken(key) => write!(
                f,
                "the element uses the prefix {} for another namespace; choose another (--key)",
                quote(key)
            ),
            Self::TooMuch => write!(f, "<metadata> of one domain has up to {MOST_BYTES} bytes"),
        }
    }
}

impl std::error::Error for BadMetadata {}

/// The whole element as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Verbatim);

impl Metadata {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The element of a namespace, as its program wrote it: without the namespace.
    pub fn element(&self, uri: &str) -> Option<String> {
        let document = document::tree(self.as_str(), Bounds::OWN).ok()?;
        let found = of_namespace(document.root_element(), uri)?;
        Some(namespace::without(found, uri))
    }

    /// Put `element` in the place of the one that `uri` has, which gets the namespace under the prefix `key`.
    pub fn with_element(
        old: Option<&Self>,
        uri: &str,
        key: &str,
        element: &str,
    ) -> Result<Self, BadMetadata> {
        if !namespace::is_prefix(key) {
            return Err(BadMetadata::Prefix(key.to_owned()));
        }
        let element = document::decode(element.as_bytes(), Bounds::OUTSIDE)
            .map_err(BadMetadata::Malformed)?;
        scan::check(element).map_err(|error| BadMetadata::Malformed(error.into()))?;
        let read = document::tree(element, Bounds::OUTSIDE)
            .map_err(|error| BadMetadata::Malformed(document::explain(element, &error).into()))?;
        if namespace::is_taken(read.root_element(), key, uri) {
            return Err(BadMetadata::Taken(key.to_owned()));
        }
        let new = namespace::within(read.root_element(), key, uri);
        let text = match old {
            None => format!("<metadata>\n    {new}\n  </metadata>"),
            Some(old) => old.edited(uri, Some(&new)),
        };
        if text.len() > MOST_BYTES {
            return Err(BadMetadata::TooMuch);
        }
        // Its namespaces count together.
        scan::check(&text).map_err(|error| BadMetadata::Malformed(error.into()))?;
        Ok(Self(Verbatim::from_text(text)))
    }

    /// What is left without the element of `uri`; nothing, if that was all.
    pub fn without_element(&self, uri: &str) -> Option<Self> {
        let text = self.edited(uri, None);
        let left = document::tree(&text, Bounds::OWN).ok()?;
        let is_any = left.root_element().elements().next().is_some();
        is_any.then(|| Self(Verbatim::from_text(text.clone())))
    }

    /// With another element of `uri`, or none, and everything else as it was written.
    fn edited(&self, uri: &str, new: Option<&str>) -> String {
        let text = self.as_str();
        let Ok(document) = document::tree(text, Bounds::OWN) else { return text.to_owned() };
        let root = document.root_element();
        if let Some(found) = of_namespace(root, uri) {
            let range = found.range();
            let before = &text[..range.start];
            let (before, new) = match new {
                Some(new) => (before, new),
                None => (before.trim_end(), ""),
            };
            return format!("{before}{new}{}", &text[range.end..]);
        }
        let Some(new) = new else { return text.to_owned() };
        match text.rfind("</") {
            Some(end) if !root.content_range().is_empty() || text.ends_with("</metadata>") => {
                format!("{}\n    {new}\n  {}", text[..end].trim_end(), &text[end..])
            }
            // <metadata/>
            _ => {
                let start = text.trim_end_matches("/>").trim_end();
                format!("{start}>\n    {new}\n  </metadata>")
            }
        }
    }
}

fn of_namespace<'a>(root: Node<'a>, uri: &str) -> Option<Node<'a>> {
    root.elements().find(|child| child.namespace() == Some(uri))
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

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "urn:example:app";

    fn metadata(text: &str) -> Metadata {
        Metadata(Verbatim::from_text(text.to_owned()))
    }

    fn with(old: &Metadata, element: &str) -> Metadata {
        Metadata::with_element(Some(old), URI, "app", element).unwrap()
    }

    #[test]
    fn an_element_comes_back_as_its_program_wrote_it() {
        let written = "<owner id='7'>Ann &amp; Bob<since/></owner>";
        let kept = Metadata::with_element(None, URI, "app", written).unwrap();
        assert_eq!(
            kept.as_str(),
            "<metadata>\n    <app:owner xmlns:app='urn:example:app' id='7'>Ann &amp; Bob\
             <app:since/></app:owner>\n  </metadata>"
        );
        assert_eq!(kept.element(URI).as_deref(), Some(written));
        assert_eq!(kept.element("urn:other"), None);
    }

    #[test]
    fn elements_of_others_stay_as_they_are() {
        let other = "<o:x xmlns:o='urn:o'  a = \"1\"/>";
        let old = metadata(&format!("<metadata>\n    {other}\n  </metadata>"));
        let two = with(&old, "<a/>");
        assert!(two.as_str().contains(other), "{}", two.as_str());
        let changed = with(&two, "<b/>");
        assert_eq!(changed.element(URI).as_deref(), Some("<b/>"));
        assert_eq!(changed.as_str().matches("<app:").count(), 1, "in the place of the first");
        assert_eq!(changed.without_element(URI), Some(old.clone()));
        assert_eq!(old.without_element("urn:o"), None);
        assert_eq!(old.without_element(URI), Some(old));
    }

    #[test]
    fn an_empty_one_is_filled() {
        for empty in ["<metadata/>", "<metadata></metadata>", "<metadata>\n</metadata>"] {
            assert_eq!(
                with(&metadata(empty), "<a/>").as_str(),
                "<metadata>\n    <app:a xmlns:app='urn:example:app'/>\n  </metadata>"
            );
        }
    }

    #[test]
    fn other_namespaces_inside_an_element_are_kept() {
        let inside = "<a xmlns:b='urn:b' b:c='1'><b:d/><e xmlns='urn:e'><f/></e></a>";
        let kept = Metadata::with_element(None, URI, "app", inside).unwrap();
        assert_eq!(kept.element(URI).as_deref(), Some(inside));
        let declared_outside = metadata(
            "<metadata xmlns:app='urn:example:app' xmlns:b='urn:b'><app:a b:c='1'/></metadata>",
        );
        let found = declared_outside.element(URI);
        assert_eq!(found.as_deref(), Some("<a xmlns:b='urn:b' b:c='1'/>"));
        let by_default = metadata("<metadata><a xmlns='urn:example:app'><b/></a></metadata>");
        assert_eq!(by_default.element(URI).as_deref(), Some("<a><b/></a>"));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let set = |key: &str, element: &str| Metadata::with_element(None, URI, key, element);
        for key in ["", "1a", "a b", "a:b", "xmlfoo", "<"] {
            assert!(matches!(set(key, "<a/>"), Err(BadMetadata::Prefix(_))), "{key}");
        }
        for element in ["", "text", "<a>", "<a/><b/>", "<!DOCTYPE a><a/>", "<b:a/>"] {
            assert!(matches!(set("app", element), Err(BadMetadata::Malformed(_))), "{element}");
        }
        let taken = set("app", "<a><b xmlns:app='urn:o'/></a>");
        assert!(matches!(taken, Err(BadMetadata::Taken(_))));
        let long = format!("<a>{}</a>", "x".repeat(MOST_BYTES));
        assert_eq!(set("app", &long), Err(BadMetadata::TooMuch));
    }
}
