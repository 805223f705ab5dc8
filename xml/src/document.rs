//! From bytes to a tree, or to words about why there is none.

use roxmltree::{Document, Error, Node, ParsingOptions};

use crate::cursor::{Cursor, elements};
use crate::diagnostic::{Diagnostic, Diagnostics, Kind, Position, Severity};
use crate::element::Element;
use crate::report::{Log, cut, quote};
use crate::scan;

/// A value, what the user should know about it, and the text it came from.
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    pub value: T,
    pub warnings: Vec<Diagnostic>,
    pub source: Source,
}

impl<T> Parsed<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Parsed<U> {
        Parsed { value: change(self.value), warnings: self.warnings, source: self.source }
    }
}

/// The text of a definition, for whoever finds out later that a part of it cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(String);

impl Source {
    /// The place of `/domain/devices/disk[2]/target/@bus`, or of the nearest thing around it that was written:
    /// what is refused may be a default.
    pub fn position(&self, path: &str) -> Position {
        let start = Position { line: 1, column: 1 };
        let Ok(document) = tree(&self.0, Bounds::OWN) else { return start };
        let mut steps = path.split('/').filter(|step| !step.is_empty());
        let mut node = document.root_element();
        if steps.next() != Some(node.tag_name().name()) {
            return start;
        }
        for step in steps {
            if let Some(name) = step.strip_prefix('@') {
                if let Some(attribute) = node.attributes().find(|a| a.name() == name) {
                    return at(&document, attribute.range().start);
                }
                break;
            }
            match child(node, step) {
                Some(inner) => node = inner,
                None => break,
            }
        }
        at(&document, node.range().start)
    }

    /// An error at `path`, placed in the text.
    pub fn error(&self, kind: Kind, path: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(kind, self.position(path), path.to_owned(), message.into())
    }

    /// A warning at `path`, placed in the text.
    pub fn warning(&self, kind: Kind, path: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.error(kind, path, message) }
    }
}

/// `disk[2]`, counted from one; `disk` is the first.
fn child<'a>(node: Node<'a, 'a>, step: &str) -> Option<Node<'a, 'a>> {
    let (name, index) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
        Some((name, index)) => (name, index.parse::<usize>().ok()?),
        None => (step, 1),
    };
    elements(node).filter(|child| child.tag_name().name() == name).nth(index.checked_sub(1)?)
}

fn at(document: &Document<'_>, offset: usize) -> Position {
    let place = document.text_pos_at(offset);
    Position { line: place.row, column: place.col }
}

/// How much a document may hold. Depth, attributes and namespaces have bounds of their own, in `scan`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    bytes: usize,
    nodes: u32,
}

impl Bounds {
    /// For what people and programs send.
    pub(crate) const OUTSIDE: Self = Self { bytes: 1 << 20, nodes: 50_000 };
    /// For what was accepted and written here: layout, escapes and defaults multiply both.
    pub(crate) const OWN: Self = Self { bytes: 16 << 20, nodes: 16 * 50_000 };
}

/// Bounded before anything is built of it, and UTF-8.
pub(crate) fn decode(bytes: &[u8], bounds: Bounds) -> Result<&str, Diagnostics> {
    let start = Position { line: 1, column: 1 };
    let refuse = |kind, position, message: String| {
        Err(Diagnostic::error(kind, position, String::new(), message).into())
    };
    if bytes.len() > bounds.bytes {
        let message = format!("the document has {} bytes, more than {}", bytes.len(), bounds.bytes);
        return refuse(Kind::Limit, start, message);
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'<', 0, ..] | [0, b'<', ..] = bytes {
        let message = "the document is UTF-16; save it as UTF-8".to_owned();
        return refuse(Kind::Malformed, start, message);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let message = format!("byte {byte:#04x} here is not UTF-8; save the document as UTF-8");
            refuse(Kind::Malformed, scan::position(good, good.len()), message)
        }
    }
}

/// Read the document as a `T`, whose element is called `root`.
pub(crate) fn parse<T: Element>(
    text: &str,
    root: &'static str,
    bounds: Bounds,
) -> Result<Parsed<T>, Diagnostics> {
    let text = decode(text.as_bytes(), bounds)?;
    scan::check(text)?;
    let document = tree(text, bounds).map_err(|error| explain(text, bounds, &error))?;
    let log = Log::default();
    let cursor = Cursor::new(document.root_element(), &log);
    let value = if crate::cursor::plain_name(cursor.node()) == Some(root) {
        T::read(cursor)
    } else {
        wrong_root(cursor, root);
        None
    };
    let diagnostics = log.into_diagnostics();
    match value {
        Some(value) if diagnostics.iter().all(|d| d.severity == Severity::Warning) => {
            Ok(Parsed { value, warnings: diagnostics, source: Source(text.to_owned()) })
        }
        _ => Err(Diagnostics(diagnostics)),
    }
}

/// What the document is, if it is one.
pub(crate) fn root_name(text: &str, bounds: Bounds) -> Option<String> {
    let text = decode(text.as_bytes(), bounds).ok()?;
    scan::check(text).ok()?;
    let document = tree(text, bounds).ok()?;
    crate::cursor::plain_name(document.root_element()).map(str::to_owned)
}

/// An error about the document as a whole.
pub(crate) fn root_error(text: &str, bounds: Bounds, kind: Kind, message: String) -> Diagnostics {
    let start = Position { line: 1, column: 1 };
    let root = root_name(text, bounds);
    let path = root.map(|name| format!("/{}", cut(&name))).unwrap_or_default();
    Diagnostic::error(kind, start, path, message).into()
}

fn wrong_root(cursor: Cursor<'_>, root: &str) {
    let mut report = cursor.here();
    if cursor.name() == root {
        let namespace = cursor.node().tag_name().namespace().unwrap_or_default();
        report.expected = Some("no namespace".to_owned());
        report.report(Kind::Unknown, format!("<{root}> is in the namespace {}", quote(namespace)));
    } else {
        report.expected = Some(format!("<{root}>"));
        report.report(Kind::Unknown, format!("the document is a <{}>", cut(cursor.name())));
    }
}

pub(crate) fn tree(text: &str, bounds: Bounds) -> Result<Document<'_>, Error> {
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: bounds.nodes, ..ParsingOptions::default() };
    Document::parse_with_options(text, options)
}

/// The parser's complaint in words for people who do not read the XML specification.
pub(crate) fn explain(text: &str, bounds: Bounds, error: &Error) -> Diagnostic {
    let (kind, message) = match error {
        Error::DtdDetected => {
            (Kind::Malformed, "document types and entities are not accepted".to_owned())
        }
        Error::NodesLimitReached => {
            (Kind::Limit, format!("the document has more than {} nodes", bounds.nodes))
        }
        Error::NoRootNode => (Kind::Malformed, "the document is empty".to_owned()),
        Error::UnknownNamespace(prefix, _) => {
            let message = format!("the prefix {} has no xmlns:… declaration", quote(prefix));
            (Kind::Malformed, message)
        }
        Error::UnknownEntityReference(name, _) => {
            let message = format!(
                "the entity {} is not defined; XML has only &lt; &gt; &amp; &apos; &quot;",
                quote(name)
            );
            (Kind::Malformed, message)
        }
        Error::MalformedEntityReference(_) => {
            (Kind::Malformed, "'&' in text or a value is written &amp;".to_owned())
        }
        Error::DuplicatedAttribute(name, _) => {
            (Kind::Malformed, format!("the attribute {} stands twice", quote(name)))
        }
        Error::UnexpectedDeclaration(_) => {
            let message = "<?xml …?> may only be the very first thing of the document, not even after a space";
            (Kind::Malformed, message.to_owned())
        }
        Error::NonXmlChar(c, _) => (
            Kind::Malformed,
            format!("the character U+{:04X} cannot be in an XML document", u32::from(*c)),
        ),
        Error::InvalidChar2("a quote", ..) => {
            (Kind::Malformed, "an attribute's value needs quotes".to_owned())
        }
        Error::InvalidChar(b'=', ..) => {
            (Kind::Malformed, "an attribute needs a value: name='…'".to_owned())
        }
        Error::UnknownToken(_) => {
            (Kind::Malformed, "only one element and comments may be here".to_owned())
        }
        other => {
            let words = other.to_string();
            // The position is told separately.
            (Kind::Malformed, words.split(" at ").next().unwrap_or_default().to_owned())
        }
    };
    let place = match error {
        Error::NodesLimitReached | Error::NoRootNode | Error::UnclosedRootNode => {
            scan::position(text, text.len())
        }
        _ => Position { line: error.pos().row, column: error.pos().col },
    };
    Diagnostic::error(kind, place, String::new(), message)
}
