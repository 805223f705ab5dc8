//! A place in the document while it is being read.
//!
//! A reader states once which names its element may hold ([`Cursor::expect`]); whatever else stands there is reported,
//! so that nothing a user wrote can be dropped in silence.

use std::borrow::Cow;

use crate::diagnostic::Kind;
use crate::report::{Log, Report, cut, quote};
use crate::tree::{Node, Text};
use crate::value::{Expected, Value};

/// What an element may hold; written by the `element!` macro from the fields of its type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    Attribute(&'static str),
    Child { name: &'static str, many: bool },
    Text,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    node: Node<'a>,
    log: &'a Log,
    /// The attribute that chose the variant being read; its owner has dealt with it.
    choice: Option<&'static str>,
}

/// What to do about names of libvirt that are not simply removed.
const INSTEAD: [(&str, &str); 2] = [
    (
        "auth",
        ": servers are asked without a user and a password here; let this host in by its certificate (tls='yes') or \
         its address",
    ),
    (
        "encryption",
        ": images are neither encrypted nor decrypted here; open this one on the host (cryptsetup open) and name its \
         device, or let the guest decrypt it",
    ),
];

impl<'a> Cursor<'a> {
    pub(crate) fn new(node: Node<'a>, log: &'a Log) -> Self {
        Self { node, log, choice: None }
    }

    pub(crate) fn chosen_by(self, attribute: &'static str) -> Self {
        Self { choice: Some(attribute), ..self }
    }

    pub(crate) fn node(&self) -> Node<'a> {
        self.node
    }

    /// The same log at another element.
    pub(crate) fn of(&self, node: Node<'a>) -> Self {
        Self::new(node, self.log)
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.node.attribute(name)
    }

    pub(crate) fn children(self, name: &'static str) -> impl Iterator<Item = Cursor<'a>> {
        self.node
            .elements()
            .filter(move |node| plain_name(*node) == Some(name))
            .map(move |node| Cursor::new(node, self.log))
    }

    pub(crate) fn child(self, name: &'static str) -> Option<Cursor<'a>> {
        self.children(name).next()
    }

    /// The element's own text, also where comments cut it in pieces.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        self.node.text()
    }

    /// The element's text as a value.
    pub(crate) fn text_value<V: Value>(&self) -> Option<V> {
        let text = self.text();
        self.value(if V::TRIMMED { trim(&text) } else { &text }, None)
    }

    /// Report everything that stands here without a slot, and what stands here twice.
    /// `refused` holds names of libvirt that our types do not have (`@name` for attributes).
    pub(crate) fn expect(&self, slots: &[Slot], refused: &[&'static str]) {
        self.expect_attributes(slots, refused);
        self.expect_children(slots, refused);
        if !slots.iter().any(|slot| matches!(slot, Slot::Text)) {
            self.expect_no_text();
        }
    }

    pub(crate) fn expect_no_text(&self) {
        if let Some(Text { start, text }) =
            self.node.texts().find(|told| !trim(&told.text).is_empty())
        {
            let layout = text.len() - text.trim_start_matches(WHITE).len();
            let report = self.here().at(start + layout);
            let message =
                format!("<{}> holds no text, but has {}", self.name(), quote(trim(&text)));
            report.report(Kind::Invalid, message);
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
            let name = attribute.name;
            let report = self.here().attribute(name, Some(attribute.start));
            if let Some(namespace) = attribute.namespace {
                let message =
                    format!("an attribute of namespace {} has no meaning here", quote(namespace));
                report.report(Kind::Unknown, message);
            } else if refused.iter().any(|refused| refused.strip_prefix('@') == Some(name)) {
                let name = quote(name);
                let message = format!(
                    "libvirt's {name} of <{}> is not provided by Manor yet; remove it",
                    self.name()
                );
                report.report(Kind::Unsupported, message);
            } else if self.choice != Some(name) && !known().any(|known| known == name) {
                self.unknown_attribute(name, report, slots);
            }
        }
    }

    fn unknown_attribute(&self, name: &str, mut report: Report<'_>, slots: &[Slot]) {
        let known = slots.iter().filter_map(|slot| match slot {
            Slot::Attribute(name) => Some(*name),
            _ => None,
        });
        report.suggest(name, known);
        let is_child =
            |slot: &Slot| matches!(slot, Slot::Child { name: child, .. } if *child == name);
        report.expected = slots.iter().any(is_child).then(|| format!("an element <{name}>"));
        report.report(Kind::Unknown, format!("<{}> has no attribute {}", self.name(), quote(name)));
    }

    fn expect_children(&self, slots: &[Slot], refused: &[&'static str]) {
        let known = || {
            slots.iter().filter_map(|slot| match slot {
                Slot::Child { name, many } => Some((*name, *many)),
                _ => None,
            })
        };
        let mut seen: Vec<&str> = Vec::new();
        for node in self.node.elements() {
            let child = Cursor::new(node, self.log);
            let name = node.name();
            let plain = node.is_plain();
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
                    report.suggest(name, known().map(|(k, _)| k));
                    report.suggestion = report.suggestion.map(|name| format!("<{name}>"));
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
        let name = self.name();
        let remedy = INSTEAD.iter().find(|(refused, _)| *refused == name);
        let remedy = remedy.map_or("; remove it", |(_, instead)| instead);
        let message = format!("libvirt's <{name}> is not provided by Manor yet{remedy}");
        self.error(Kind::Unsupported, message);
    }

    fn foreign(&self) {
        let namespace = self.node.namespace().unwrap_or_default();
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
        match V::parse(text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.bad_value(text, attribute, expected);
                None
            }
        }
    }

    /// Report why an attribute or text is no value.
    pub(crate) fn bad_value(&self, text: &str, attribute: Option<&str>, expected: Expected) {
        if attribute.is_none() && trim(text).is_empty() {
            return self.missing_text();
        }
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
                report.one_of(text, names);
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
    }

    /// Something is wrong with the document, here or elsewhere.
    pub(crate) fn is_refused(&self) -> bool {
        self.log.has_errors()
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
        self.here().warn(kind, message);
    }

    pub(crate) fn here(&self) -> Report<'a> {
        Report::new(self.log, self.node)
    }

    pub(crate) fn at_attribute(&self, name: &str) -> Report<'a> {
        let attribute = self.node.attributes().find(|a| a.name == name);
        self.here().attribute(name, attribute.map(|a| a.start))
    }

    pub(crate) fn name(&self) -> &'a str {
        self.node.name()
    }
}

const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Without XML's white space around it.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(WHITE)
}

/// The element's name if it is in no namespace, as all of libvirt's own are.
pub(crate) fn plain_name(node: Node<'_>) -> Option<&str> {
    node.is_plain().then(|| node.name())
}
