//! Diagnostics on their way from the place they concern to the log.

use std::cell::RefCell;

use crate::diagnostic::{Diagnostic, Kind, Severity};
use crate::scan;
use crate::suggest;
use crate::tree::Node;

/// Errors, and as many warnings: more than a person reads, and finding each one's line costs a pass over the text.
const MOST: usize = 100;
/// Names that are listed in full although one of them was probably meant.
const LONGEST_LIST: usize = 16;
/// Names and values in messages are cut here.
const LONGEST_QUOTE: usize = 80;

/// Collects what is wrong, so that all of it is told at once.
#[derive(Debug, Default)]
pub(crate) struct Log(RefCell<Entries>);

#[derive(Debug, Default)]
struct Entries {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// Errors that came after the log was full.
    dropped: usize,
}

impl Log {
    fn is_full(&self) -> bool {
        self.0.borrow().errors.len() >= MOST
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.0.borrow().errors.is_empty()
    }

    /// Everything reported, in document order.
    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let Entries { errors, warnings, dropped } = self.0.into_inner();
        let mut all = [errors, warnings].concat();
        all.sort_by_key(|diagnostic| diagnostic.position);
        if dropped > 0
            && let Some(position) = all.last().map(|last| last.position)
        {
            let message = format!("there are {dropped} more errors");
            all.push(Diagnostic::error(Kind::Limit, position, String::new(), message));
        }
        all
    }
}

/// A diagnostic that is being put together.
#[must_use]
pub(crate) struct Report<'a> {
    log: &'a Log,
    node: Node<'a>,
    attribute: Option<String>,
    offset: usize,
    pub(crate) expected: Option<String>,
    pub(crate) suggestion: Option<String>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(log: &'a Log, node: Node<'a>) -> Self {
        Self {
            log,
            node,
            attribute: None,
            offset: node.range().start,
            expected: None,
            suggestion: None,
        }
    }

    /// About an attribute, which stands at `offset` unless it is missing.
    pub(crate) fn attribute(self, name: &str, offset: Option<usize>) -> Self {
        Self { attribute: Some(cut(name)), offset: offset.unwrap_or(self.offset), ..self }
    }

    /// About a place inside the element.
    pub(crate) fn at(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// The writer probably meant one of `names`.
    pub(crate) fn suggest<'n>(&mut self, word: &str, names: impl IntoIterator<Item = &'n str>) {
        // Distances cost more than all the rest, and a full log prints nothing of them.
        if !self.log.is_full() {
            self.suggestion = suggest::nearest(word, names).map(str::to_owned);
        }
    }

    /// The value should have been one of `names`.
    pub(crate) fn one_of(&mut self, word: &str, names: &[&str]) {
        self.suggest(word, names.iter().copied());
        // A long list says less than the one name that was meant.
        if names.len() <= LONGEST_LIST || self.suggestion.is_none() {
            self.expected = Some(names.join(", "));
        }
    }

    /// The line of another place; free once nothing will be printed any more.
    pub(crate) fn line_at(&self, offset: usize) -> u32 {
        if self.log.is_full() {
            0
        } else {
            scan::position(self.node.document().input_text(), offset).line
        }
    }

    pub(crate) fn report(self, kind: Kind, message: String) {
        let mut log = self.log.0.borrow_mut();
        if log.errors.len() < MOST {
            log.errors.push(self.finish(Severity::Error, kind, message));
        } else {
            log.dropped += 1;
        }
    }

    pub(crate) fn warn(self, kind: Kind, message: String) {
        let mut log = self.log.0.borrow_mut();
        if log.warnings.len() < MOST {
            log.warnings.push(self.finish(Severity::Warning, kind, message));
        }
    }

    fn finish(self, severity: Severity, kind: Kind, message: String) -> Diagnostic {
        let mut path = path_of(self.node);
        if let Some(attribute) = &self.attribute {
            path.push_str("/@");
            path.push_str(attribute);
        }
        let position = scan::position(self.node.document().input_text(), self.offset);
        Diagnostic {
            severity,
            kind,
            position,
            path,
            message,
            expected: self.expected,
            suggestion: self.suggestion,
        }
    }
}

/// `/domain/devices/disk[2]`; the index counts siblings of that name and is left out for an only one.
fn path_of(node: Node<'_>) -> String {
    let mut steps: Vec<String> = node
        .ancestors()
        .map(|node| {
            let siblings = || node.parent().into_iter().flat_map(|parent| parent.elements());
            let same = |other: &Node<'_>| {
                other.name() == node.name() && other.namespace() == node.namespace()
            };
            let before = siblings().take_while(|other| *other != node).filter(same).count();
            let alone = before == 0 && siblings().filter(same).nth(1).is_none();
            let name = cut(node.name());
            if alone { format!("/{name}") } else { format!("/{name}[{}]", before + 1) }
        })
        .collect();
    steps.reverse();
    steps.concat()
}

pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", cut(text))
}
