//! A place in the document while it is being read.
//!
//! A reader states once which names its element may hold ([`Cursor::expect`]); whatever else stands there is reported,
//! so that nothing a user wrote can be dropped in silence.

use std::cell::RefCell;

use roxmltree::Node;

use crate::diagnostic::{Diagnostic, Kind, Position, Severity};
use crate::suggest;
use crate::value::{Expected, Value};

/// More than a person reads; a hostile document could otherwise make a report larger than itself.
const MOST_DIAGNOSTICS: usize = 100;
/// Names and values in messages are cut here.
const LONGEST_QUOTE: usize = 80;

/// Collects what is wrong, so that all of it is told at once.
#[derive(Debug, Default)]
pub(crate) struct Log(RefCell<Vec<Diagnostic>>);

impl Log {
    pub(crate) fn into_inner(self) -> Vec<Diagnostic> {
        let mut all = self.0.into_inner();
        all.sort_by_key(|diagnostic| diagnostic.position);
        all
    }
}

/// What an element may hold; written by the `element!` macro from the fields of its type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    Attribute(&'static str),
    Child { name: &'static str, many: bool },
    Text,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    node: Node<'a, 'a>,
    log: &'a Log,
    /// The attribute that chose the variant being read; its owner has dealt with it.
    choice: Option<&'static str>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(node: Node<'a, 'a>, log: &'a Log) -> Self {
        Self { node, log, choice: None }
    }

    pub(crate) fn chosen_by(self, attribute: &'static str) -> Self {
        Self { choice: Some(attribute), ..self }
    }

    pub(crate) fn node(&self) -> Node<'a, 'a> {
        self.node
    }

    /// The same log at another element.
    pub(crate) fn of(&self, node: Node<'a, 'a>) -> Self {
        Self::new(node, self.log)
    }

    pub(crate) fn line(&self) -> u32 {
        self.position_at(self.node.range().start).line
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.node
            .attributes()
            .find(|a| a.namespace().is_none() && a.name() == name)
            .map(|a| a.value())
    }

    pub(crate) fn children(self, name: &'static str) -> impl Iterator<Item = Cursor<'a>> {
        elements(self.node)
            .filter(move |node| plain_name(*node) == Some(name))
            .map(move |node| Cursor::new(node, self.log))
    }

    pub(crate) fn child(self, name: &'static str) -> Option<Cursor<'a>> {
        self.children(name).next()
    }

    /// The element's own text, also where comments cut it in pieces; surrounding white space does not count.
    pub(crate) fn text(&self) -> String {
        let whole: String =
            self.node.children().filter(Node::is_text).filter_map(|n| n.text()).collect();
        whole.trim_matches([' ', '\t', '\r', '\n']).to_owned()
    }

    /// Report everything that stands here without a slot, and what stands here twice.
    /// `refused` holds names of libvirt that our types do not have (`@name` for attributes).
    pub(crate) fn expect(&self, slots: &[Slot], refused: &[&'static str]) {
        self.expect_attributes(slots, refused);
        self.expect_children(slots, refused);
        if !slots.iter().any(|slot| matches!(slot, Slot::Text)) && !self.text().is_empty() {
            let text = self.text();
            self.error(
                Kind::Invalid,
                format!("<{}> holds no text, but has {}", self.name(), quote(&text)),
            );
        }
    }

    fn expect_attributes(&self, slots: &[Slot], refused: &[&'static str]) {
        let known = || {
            slots.iter().filter_map(|slot| match slot {
                Slot::Attribute(name) => Some(*name),
                _ => None,
            })
        };
        for attribute in self.node.attributes() {
            let name = attribute.name();
            if attribute.namespace().is_none()
                && (self.choice == Some(name) || known().any(|k| k == name))
            {
                continue;
            }
            if attribute.namespace().is_none()
                && refused.iter().any(|r| r.strip_prefix('@') == Some(name))
            {
                let message = format!(
                    "libvirt's {} of <{}> is not provided by Manor yet; remove it",
                    quote(name),
                    self.name()
                );
                self.at_attribute(name).report(Kind::Unsupported, message);
                continue;
            }
            let mut report = self.at_attribute(name);
            report.position = self.position_at(attribute.range().start);
            report.suggestion = suggest::nearest(name, known()).map(str::to_owned);
            let elsewhere = slots
                .iter()
                .any(|slot| matches!(slot, Slot::Child { name: child, .. } if *child == name));
            report.expected = elsewhere.then(|| format!("an element <{name}>"));
            report.report(
                Kind::Unknown,
                format!("<{}> has no attribute {}", self.name(), quote(name)),
            );
        }
    }

    fn expect_children(&self, slots: &[Slot], refused: &[&'static str]) {
        let known = || {
            slots.iter().filter_map(|slot| match slot {
                Slot::Child { name, many } => Some((*name, *many)),
                _ => None,
            })
        };
        let mut seen: Vec<&str> = Vec::new();
        for node in elements(self.node) {
            let child = Cursor::new(node, self.log);
            let name = node.tag_name().name();
            let plain = plain_name(node).is_some();
            match known().find(|(k, _)| plain && *k == name) {
                Some((_, true)) => {}
                Some((_, false)) if !seen.contains(&name) => seen.push(name),
                Some(_) => child.error(
                    Kind::Invalid,
                    format!("<{name}> may stand only once in <{}>", self.name()),
                ),
                None if plain && refused.contains(&name) => child.refuse(),
                None if !plain => child.foreign(),
                None => {
                    let mut report = child.here();
                    report.suggestion =
                        suggest::nearest(name, known().map(|(k, _)| k)).map(|k| format!("<{k}>"));
                    let attribute =
                        slots.iter().any(|s| matches!(s, Slot::Attribute(a) if *a == name));
                    report.expected = attribute.then(|| format!("an attribute {name}='…'"));
                    let message = if known().next().is_none() {
                        format!("<{}> holds no elements, but has <{}>", self.name(), cut(name))
                    } else {
                        format!("<{}> has no element <{}>", self.name(), cut(name))
                    };
                    report.report(Kind::Unknown, message);
                }
            }
        }
    }

    /// A name of libvirt that our types do not hold.
    fn refuse(&self) {
        self.error(
            Kind::Unsupported,
            format!("libvirt's <{}> is not provided by Manor yet; remove it", self.name()),
        );
    }

    fn foreign(&self) {
        let namespace = self.node.tag_name().namespace().unwrap_or_default();
        let name = cut(self.name());
        if namespace.starts_with("http://libvirt.org/schemas/domain/") {
            let hypervisor = cut(namespace.rsplit('/').nth(1).unwrap_or_default());
            let message = format!(
                "<{name}> passes options to {hypervisor}, which Manor does not run; remove it"
            );
            self.error(Kind::Unsupported, message);
        } else {
            let message = format!("<{name}> of namespace {} has no meaning here", quote(namespace));
            let mut report = self.here();
            report.expected = Some("such elements inside <metadata>".to_owned());
            report.report(Kind::Unknown, message);
        }
    }

    /// Read an attribute or text as `V`, or report why not.
    pub(crate) fn value<V: Value>(&self, text: &str, attribute: Option<&str>) -> Option<V> {
        let expected = match V::parse(text) {
            Ok(value) => return Some(value),
            Err(expected) => expected,
        };
        let mut report = match attribute {
            Some(name) => self.at_attribute(name),
            None => self.here(),
        };
        let what = match attribute {
            Some(name) => format!("{name}={}", quote(text)),
            None => format!("{} in <{}>", quote(text), self.name()),
        };
        let (kind, message) = match expected {
            Expected::Names(names) => {
                report.suggestion =
                    suggest::nearest(text, names.iter().copied()).map(str::to_owned);
                report.expected = Some(names.join(", "));
                (Kind::Invalid, format!("{what} is not a value libvirt knows"))
            }
            Expected::Form(form) => {
                report.expected = Some(form.to_owned());
                (Kind::Invalid, format!("{what} is not valid"))
            }
            Expected::Range(range) => {
                report.expected = Some(range);
                (Kind::Limit, format!("{what} is out of range"))
            }
        };
        report.report(kind, message);
        None
    }

    pub(crate) fn missing_attribute(&self, name: &str) {
        self.error(Kind::Missing, format!("<{}> needs an attribute {name}='…'", self.name()));
    }

    pub(crate) fn missing_child(&self, name: &str) {
        self.error(Kind::Missing, format!("<{}> needs an element <{name}>", self.name()));
    }

    pub(crate) fn missing_text(&self) {
        self.error(Kind::Missing, format!("<{}> is empty", self.name()));
    }

    pub(crate) fn error(&self, kind: Kind, message: String) {
        self.here().report(kind, message);
    }

    pub(crate) fn attribute_error(&self, name: &str, kind: Kind, message: String) {
        self.at_attribute(name).report(kind, message);
    }

    pub(crate) fn warn(&self, kind: Kind, message: String) {
        let mut report = self.here();
        report.severity = Severity::Warning;
        report.report(kind, message);
    }

    pub(crate) fn here(&self) -> Report<'a> {
        Report {
            log: self.log,
            severity: Severity::Error,
            position: self.position_at(self.node.range().start),
            node: self.node,
            attribute: None,
            expected: None,
            suggestion: None,
        }
    }

    pub(crate) fn at_attribute(&self, name: &str) -> Report<'a> {
        let mut report = self.here();
        if let Some(attribute) = self.node.attributes().find(|a| a.name() == name) {
            report.position = self.position_at(attribute.range().start);
        }
        report.attribute = Some(cut(name));
        report
    }

    fn position_at(&self, offset: usize) -> Position {
        // Finding a line is linear in the document; a full log takes no more reports anyway.
        if self.log.0.borrow().len() >= MOST_DIAGNOSTICS {
            return Position { line: 0, column: 0 };
        }
        let at = self.node.document().text_pos_at(offset);
        Position { line: at.row, column: at.col }
    }

    pub(crate) fn name(&self) -> &'a str {
        self.node.tag_name().name()
    }
}

/// A diagnostic that is being put together.
pub(crate) struct Report<'a> {
    log: &'a Log,
    severity: Severity,
    position: Position,
    node: Node<'a, 'a>,
    attribute: Option<String>,
    pub(crate) expected: Option<String>,
    pub(crate) suggestion: Option<String>,
}

impl Report<'_> {
    pub(crate) fn report(self, kind: Kind, message: String) {
        let mut log = self.log.0.borrow_mut();
        if log.len() >= MOST_DIAGNOSTICS {
            return;
        }
        let mut path = path_of(self.node);
        if let Some(attribute) = &self.attribute {
            path.push_str("/@");
            path.push_str(attribute);
        }
        log.push(Diagnostic {
            severity: self.severity,
            kind,
            position: self.position,
            path,
            message,
            expected: self.expected,
            suggestion: self.suggestion,
        });
    }
}

pub(crate) fn elements<'a>(node: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    node.children().filter(Node::is_element)
}

/// The element's name if it is in no namespace, as all of libvirt's own are.
pub(crate) fn plain_name<'a>(node: Node<'a, 'a>) -> Option<&'a str> {
    let tag = node.tag_name();
    tag.namespace().is_none().then(|| tag.name())
}

/// `/domain/devices/disk[2]`; the index counts siblings of that name and is left out for an only one.
fn path_of(node: Node<'_, '_>) -> String {
    let mut steps: Vec<String> = node
        .ancestors()
        .filter(Node::is_element)
        .map(|node| {
            let same =
                |other: &Node<'_, '_>| other.is_element() && other.tag_name() == node.tag_name();
            let before = node.prev_siblings().skip(1).filter(same).count();
            let alone = before == 0 && !node.next_siblings().skip(1).any(|other| same(&other));
            let name = cut(node.tag_name().name());
            if alone { format!("/{name}") } else { format!("/{name}[{}]", before + 1) }
        })
        .collect();
    steps.reverse();
    steps.concat()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", cut(text))
}
