//! An element of a document: a number, and what the text says there.

use std::borrow::Cow;
use std::ops::Range;

use super::lexis::{self, WHITE};
use super::{Document, Entry, FOREIGN, NO_PARENT};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    document: &'a Document<'a>,
    number: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) value: &'a str,
    /// Where its name begins.
    pub(crate) start: usize,
}

/// A run of text that nothing interrupts.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) start: usize,
    pub(crate) text: Cow<'a, str>,
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.document, other.document) && self.number == other.number
    }
}

impl<'a> Node<'a> {
    pub(super) fn new(document: &'a Document<'a>, number: u32) -> Self {
        Self { document, number }
    }

    pub(crate) fn document(&self) -> &'a Document<'a> {
        self.document
    }

    fn entry(&self) -> &'a Entry {
        &self.document.elements[self.number as usize]
    }

    /// From its start tag to its end tag.
    pub(crate) fn range(&self) -> Range<usize> {
        self.entry().start as usize..self.entry().end as usize
    }

    /// As it stands in the tag.
    pub(crate) fn qualified_name(&self) -> &'a str {
        lexis::name(self.document.text.get(self.entry().start as usize + 1..).unwrap_or_default())
    }

    pub(crate) fn name(&self) -> &'a str {
        lexis::divided(self.qualified_name()).1
    }

    pub(crate) fn prefix(&self) -> &'a str {
        lexis::divided(self.qualified_name()).0
    }

    /// That its name is in.
    pub(crate) fn namespace(&self) -> Option<&'a str> {
        if self.is_plain() { None } else { self.lookup_namespace(self.prefix()) }
    }

    /// Its name is in no namespace.
    pub(crate) fn is_plain(&self) -> bool {
        self.entry().parent & FOREIGN == 0
    }

    /// What a prefix stands for here.
    pub(crate) fn lookup_namespace(&self, prefix: &str) -> Option<&'a str> {
        self.document.namespace(self.number, prefix)
    }

    /// What prefixes stand for here; none, too, if that is something. One may come twice.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let node = *self;
        let prefixes = self.ancestors().flat_map(Node::declared);
        prefixes.filter_map(move |prefix| Some((prefix, node.lookup_namespace(prefix)?)))
    }

    /// Whether the prefix has its meaning from an element around `outer`, which this one is inside of.
    pub(crate) fn has_prefix_from_without(&self, outer: Self, prefix: &str) -> bool {
        let inside = self.ancestors().take_while(|node| node.number >= outer.number);
        prefix != lexis::XML && !inside.flat_map(Node::declared).any(|it| it == prefix)
    }

    /// Prefixes that its tag declares.
    fn declared(self) -> impl Iterator<Item = &'a str> {
        let all = &self.document.declarations;
        let first = all.partition_point(|declared| declared.element < self.number);
        let own = all[first..].iter().take_while(move |it| it.element == self.number);
        own.map(|declared| declared.prefix)
    }

    /// All but declarations of namespaces.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let (document, number) = (self.document, self.number);
        self.tag().filter(|written| !written.declares()).map(move |written| {
            let namespace = match written.prefix {
                "" => None,
                prefix => document.namespace(number, prefix),
            };
            let Written { prefix, name, start, .. } = written;
            Attribute { prefix, name, namespace, value: document.value(&written.value), start }
        })
    }

    /// The value of one without a namespace.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        let found = self.tag().find(|it| it.prefix.is_empty() && it.name == name)?;
        (!found.declares()).then(|| self.document.value(&found.value))
    }

    /// The elements in it.
    pub(crate) fn elements(&self) -> impl Iterator<Item = Self> + use<'a> {
        let (document, end) = (self.document, self.entry().next);
        let first = (self.number + 1 < end).then(|| Self::new(document, self.number + 1));
        std::iter::successors(first, move |node| {
            let next = node.entry().next;
            (next < end).then(|| Self::new(document, next))
        })
    }

    /// Itself, and all elements inside.
    pub(crate) fn descendants(&self) -> impl Iterator<Item = Self> + use<'a> {
        let document = self.document;
        (self.number..self.entry().next).map(move |number| Self::new(document, number))
    }

    /// Itself, and all elements around it.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Self> + use<'a> {
        std::iter::successors(Some(*self), Self::parent)
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let parent = self.entry().parent & !FOREIGN;
        (parent != NO_PARENT).then(|| Self::new(self.document, parent))
    }

    /// Text that is its own, not of elements in it.
    pub(crate) fn texts(&self) -> impl Iterator<Item = Text<'a>> + use<'a> {
        let (text, mut at, end) = (self.document.text, self.content(), self.entry().end as usize);
        let mut inside = self.elements();
        std::iter::from_fn(move || {
            loop {
                let rest = text.get(at..end)?;
                let start = at;
                if let Some(section) = rest.strip_prefix("<![CDATA[") {
                    let length = section.find("]]>")?;
                    at += "<![CDATA[".len() + length + "]]>".len();
                    let section = &section[..length];
                    let is_written = !section.contains('\r');
                    // No reference is one in here.
                    let text = if is_written { section.into() } else { lines(section).into() };
                    return Some(Text { start, text });
                }
                at += match rest {
                    _ if rest.starts_with("<!--") => rest.find("-->")? + "-->".len(),
                    _ if rest.starts_with("<?") => rest.find("?>")? + "?>".len(),
                    // The end tag; after an empty element's own there is nothing.
                    _ if rest.is_empty() || rest.starts_with("</") => return None,
                    _ if rest.starts_with('<') => (inside.next()?.range().end).checked_sub(at)?,
                    _ => {
                        let length = rest.find('<').unwrap_or(rest.len());
                        at += length;
                        let run = &rest[..length];
                        let is_written = !run.contains(['&', '\r']);
                        let text = if is_written { run.into() } else { lexis::text(run).collect() };
                        return Some(Text { start, text });
                    }
                };
            }
        })
    }

    /// All text that is its own, also where comments cut it in pieces.
    pub(crate) fn text(&self) -> Cow<'a, str> {
        let mut texts = self.texts();
        let Some(first) = texts.next() else { return Cow::Borrowed("") };
        texts.fold(first.text, |mut text, more| {
            text.to_mut().push_str(&more.text);
            text
        })
    }

    fn tag(&self) -> Tag<'a> {
        let at = self.entry().start as usize + 1 + self.qualified_name().len();
        Tag { text: self.document.text, at }
    }

    /// Between its start tag and its end tag, as it is written.
    pub(crate) fn content_range(&self) -> Range<usize> {
        let (start, end) = (self.content(), self.entry().end as usize);
        let inside = self.document.text.get(start..end).unwrap_or_default();
        start..start + inside.rfind("</").unwrap_or(0)
    }

    /// Where its start tag ends.
    fn content(&self) -> usize {
        let mut tag = self.tag();
        while tag.next().is_some() {}
        let rest = self.document.text.get(tag.at..).unwrap_or_default();
        tag.at + rest.find('>').map_or(rest.len(), |end| end + 1)
    }
}

/// Each line's end as one character.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The attributes of a tag that is known to be well-formed.
struct Tag<'a> {
    text: &'a str,
    at: usize,
}

struct Written<'a> {
    start: usize,
    prefix: &'a str,
    name: &'a str,
    value: Range<usize>,
}

impl Written<'_> {
    fn declares(&self) -> bool {
        declares(self.prefix, self.name)
    }
}

/// Whether an attribute of that name declares a namespace.
pub(super) fn declares(prefix: &str, name: &str) -> bool {
    prefix == lexis::XMLNS || (prefix.is_empty() && name == lexis::XMLNS)
}

impl<'a> Iterator for Tag<'a> {
    type Item = Written<'a>;

    fn next(&mut self) -> Option<Written<'a>> {
        let rest = self.text.get(self.at..)?.trim_start_matches(WHITE);
        let name = lexis::name(rest);
        if name.is_empty() {
            return None;
        }
        let start = self.text.len() - rest.len();
        let after = rest[name.len()..].trim_start_matches(WHITE).strip_prefix('=')?;
        let quoted = after.trim_start_matches(WHITE);
        let quote = quoted.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let value = self.text.len() - quoted.len() + 1;
        let end = value + quoted[1..].find(quote)?;
        self.at = end + 1;
        let (prefix, name) = lexis::divided(name);
        Some(Written { start, prefix, name, value: value..end })
    }
}
