//! From bytes to a tree, or to words about why there is none.

use crate::cursor::Cursor;
use crate::diagnostic::{Diagnostic, Diagnostics, Kind, Position, Severity};
use crate::element::Element;
use crate::report::{Log, cut, quote};
use crate::scan;
use crate::tree::{self, Document, Error, Fault, Node};

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
        if steps.next() != Some(node.name()) {
            return start;
        }
        for step in steps {
            if let Some(name) = step.strip_prefix('@') {
                if let Some(attribute) = node.attributes().find(|a| a.name == name) {
                    return at(&document, attribute.start);
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
fn child<'a>(node: Node<'a>, step: &str) -> Option<Node<'a>> {
    let (name, index) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
        Some((name, index)) => (name, index.parse::<usize>().ok()?),
        None => (step, 1),
    };
    node.elements().filter(|child| child.name() == name).nth(index.checked_sub(1)?)
}

fn at(document: &Document<'_>, offset: usize) -> Position {
    scan::position(document.input_text(), offset)
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
    let document = tree(text, bounds).map_err(|error| explain(text, &error))?;
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
    Some(crate::cursor::plain_name(document.root_element())?.to_owned())
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
        let namespace = cursor.node().namespace().unwrap_or_default();
        report.expected = Some("no namespace".to_owned());
        report.report(Kind::Unknown, format!("<{root}> is in the namespace {}", quote(namespace)));
    } else {
        report.expected = Some(format!("<{root}>"));
        report.report(Kind::Unknown, format!("the document is a <{}>", cut(cursor.name())));
    }
}

pub(crate) fn tree(text: &str, bounds: Bounds) -> Result<Document<'_>, Error> {
    tree::parse(text, bounds.nodes)
}

/// The parser's complaint, and its place.
pub(crate) fn explain(text: &str, error: &Error) -> Diagnostic {
    let kind = match error.fault {
        Fault::TooManyNodes(_) => Kind::Limit,
        _ => Kind::Malformed,
    };
    let place = scan::position(text, error.at);
    Diagnostic::error(kind, place, String::new(), error.fault.to_string())
}
