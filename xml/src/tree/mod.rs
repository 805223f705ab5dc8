//! A document as a tree, in 16 bytes an element: strangers send documents, and `<a/>` has four.
//!
//! An element is where it begins and ends in the text, and its place among the others. What else it has
//! (its name, attributes, text) is read from the text when it is asked for, which [`parse`] has found to be
//! well-formed as a whole.

mod fault;
mod lexis;
mod node;
mod parse;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub(crate) use fault::{Error, Fault};
pub(crate) use node::{Node, Text};
pub(crate) use parse::parse;

#[derive(Debug)]
pub(crate) struct Document<'t> {
    text: &'t str,
    /// In the order in which they begin; the first is the root.
    elements: Vec<Entry>,
    /// In that order, too.
    declarations: Vec<Declaration<'t>>,
    rewritten: Rewritten,
}

/// Offsets into the text, and numbers of elements: documents have 16 MiB at most.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    /// The number of the first element that is not inside this one; [`OPEN`] until its end is seen.
    next: u32,
    /// The number of the element around it, [`NO_PARENT`] for the root; and [`FOREIGN`].
    parent: u32,
}

const OPEN: u32 = u32::MAX;
const NO_PARENT: u32 = FOREIGN - 1;
/// A bit of [`Entry::parent`]: its name is in a namespace.
const FOREIGN: u32 = 1 << 31;

/// `xmlns:prefix='uri'`, or `xmlns='uri'` without a prefix.
#[derive(Debug)]
struct Declaration<'t> {
    element: u32,
    prefix: &'t str,
    uri: Range<usize>,
}

/// Values of attributes that are not what is written, because of a reference or a line's end.
#[derive(Debug, Default)]
struct Rewritten {
    text: String,
    /// Where each begins in the document, and where it ends in `text`; it begins there where the one before it ends.
    values: Vec<(u32, u32)>,
}

impl Rewritten {
    fn push(&mut self, at: u32, value: impl Iterator<Item = char>) {
        self.text.extend(value);
        self.values.push((at, u32::try_from(self.text.len()).unwrap_or(u32::MAX)));
    }

    fn at(&self, at: usize) -> Option<&str> {
        let number = self.values.binary_search_by_key(&at, |(at, _)| *at as usize).ok()?;
        let before = number.checked_sub(1).and_then(|before| self.values.get(before));
        let start = before.map_or(0, |(_, end)| *end as usize);
        self.text.get(start..self.values[number].1 as usize)
    }
}

impl<'t> Document<'t> {
    pub(crate) fn root_element(&self) -> Node<'_> {
        Node::new(self, 0)
    }

    pub(crate) fn input_text(&self) -> &str {
        self.text
    }

    /// The value of an attribute that stands there between its quotes.
    fn value(&self, range: &Range<usize>) -> &str {
        let written = self.text.get(range.clone()).unwrap_or_default();
        if written.bytes().any(lexis::is_rewritten_in_values) {
            self.rewritten.at(range.start).unwrap_or(written)
        } else {
            written
        }
    }

    /// What a prefix stands for inside an element. Without one that is nothing unless somebody declared it.
    fn namespace(&self, element: u32, prefix: &str) -> Option<&str> {
        if prefix == lexis::XML {
            return Some(lexis::XML_URI);
        }
        let is_inside = |declared: &&Declaration<'t>| {
            let around = &self.elements[declared.element as usize];
            declared.prefix == prefix && declared.element <= element && element < around.next
        };
        let innermost = self.declarations.iter().rev().find(is_inside)?;
        let uri = self.value(&innermost.uri);
        // `xmlns=''` ends what one further out declared.
        (!prefix.is_empty() || !uri.is_empty()).then_some(uri)
    }
}
