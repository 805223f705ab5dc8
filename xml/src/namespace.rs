//! Elements of other programs, which have a namespace: taken out of it for the program that asks by its URI, and put
//! into it under the prefix that the program chose.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::tree::Node;
use crate::write::escape;

const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// What becomes of names on their way out.
#[derive(Clone, Copy)]
enum Change<'c> {
    /// Names of this namespace lose it.
    Strip { uri: &'c str },
    /// Elements without one come into this.
    Add { prefix: &'c str, uri: &'c str },
}

/// Prefix (none: the default) to URI.
type Scope = BTreeMap<Option<String>, String>;

/// The element as a document of its own, its names without the namespace `uri`.
pub(crate) fn without(node: Node<'_>, uri: &str) -> String {
    written(node, Change::Strip { uri })
}

/// The element as a document of its own, with everything that has no namespace in the one that `prefix` stands for.
pub(crate) fn within(node: Node<'_>, prefix: &str, uri: &str) -> String {
    written(node, Change::Add { prefix, uri })
}

/// Whether the document uses `prefix` for something else.
pub(crate) fn is_taken(node: Node<'_>, prefix: &str, uri: &str) -> bool {
    let other = |node: Node<'_>| {
        node.namespaces().any(|(name, stands_for)| name == prefix && stands_for != uri)
    };
    node.descendants().any(other)
}

/// A name that can stand before a colon.
pub(crate) fn is_prefix(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    let rest = chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    first && rest && name.len() <= 64 && !name.to_ascii_lowercase().starts_with("xml")
}

fn written(node: Node<'_>, change: Change<'_>) -> String {
    let mut out = String::new();
    element(node, &Scope::new(), change, &mut out);
    out
}

/// As deep as the document, which is bounded.
fn element(node: Node<'_>, around: &Scope, change: Change<'_>, out: &mut String) {
    let mut scope: Scope = node
        .namespaces()
        .filter(|(_, stands_for)| *stands_for != XML)
        .filter(|(_, stands_for)| !matches!(change, Change::Strip { uri } if *stands_for == uri))
        .map(|(prefix, uri)| ((!prefix.is_empty()).then(|| prefix.to_owned()), uri.to_owned()))
        .collect();
    if let Change::Add { prefix, uri } = change {
        scope.insert(Some(prefix.to_owned()), uri.to_owned());
    }
    let name = qualified(node, &scope, change);
    // Without a namespace, and inside one that says nothing of prefixes.
    if !name.contains(':') && node.lookup_namespace("").is_none() && around.contains_key(&None) {
        scope.insert(None, String::new());
    }
    out.push('<');
    out.push_str(&name);
    for (prefix, uri) in scope.iter().filter(|(prefix, uri)| around.get(*prefix) != Some(uri)) {
        let name = prefix.as_ref().map_or_else(|| "xmlns".to_owned(), |p| format!("xmlns:{p}"));
        attribute(&name, uri, out);
    }
    for found in node.attributes() {
        let prefix = found.namespace.and_then(|uri| prefix_of(&scope, uri));
        let name = prefix.map_or_else(|| found.name.to_owned(), |p| format!("{p}:{}", found.name));
        attribute(&name, found.value, out);
    }
    let content = node.content_range();
    if content.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    let written = |range: Range<usize>| node.document().input_text().get(range).unwrap_or_default();
    let mut at = content.start;
    for child in node.elements() {
        // Text and comments, which have no names.
        out.push_str(written(at..child.range().start));
        element(child, &scope, change, out);
        at = child.range().end;
    }
    out.push_str(written(at..content.end));
    out.push_str("</");
    out.push_str(&name);
    out.push('>');
}

fn qualified(node: Node<'_>, scope: &Scope, change: Change<'_>) -> String {
    let prefix = match (node.namespace(), change) {
        (None, Change::Add { prefix, .. }) => Some(prefix),
        // The default needs no prefix where the element is in it.
        (Some(uri), _) if node.lookup_namespace("") == Some(uri) => None,
        (Some(uri), _) => prefix_of(scope, uri),
        (None, Change::Strip { .. }) => None,
    };
    prefix.map_or_else(|| node.name().to_owned(), |prefix| format!("{prefix}:{}", node.name()))
}

fn prefix_of<'s>(scope: &'s Scope, uri: &str) -> Option<&'s str> {
    if uri == XML {
        return Some("xml");
    }
    scope.iter().find(|(_, known)| *known == uri).and_then(|(prefix, _)| prefix.as_deref())
}

fn attribute(name: &str, value: &str, out: &mut String) {
    out.push(' ');
    out.push_str(name);
    out.push_str("='");
    escape(value, true, out);
    out.push('\'');
}
