//! Writes XML as libvirt prints it: two spaces, single quotes, one element per line.
//!
//! quick-xml makes the document; the start tags' contents are put together here, because it would
//! quote attributes with double quotes.

use std::io;

use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

/// The document under construction.
pub(crate) struct Writer {
    document: quick_xml::Writer<Vec<u8>>,
    /// An element whose first child is still to come: without one it is written as empty.
    pending: Option<StartTag>,
    /// The attribute that chose a variant; it goes first into the next start tag.
    choice: Option<(&'static str, String)>,
}

/// The inside of a start tag: its name, and the attributes behind it.
struct StartTag {
    name: &'static str,
    content: String,
}

/// A start tag that still takes attributes.
pub(crate) struct Tag<'w> {
    writer: &'w mut Writer,
    tag: StartTag,
}

impl Default for Writer {
    fn default() -> Self {
        let document = quick_xml::Writer::new_with_indent(Vec::new(), b' ', 2);
        Self { document, pending: None, choice: None }
    }
}

impl Writer {
    pub(crate) fn tag(&mut self, name: &'static str) -> Tag<'_> {
        self.open();
        let choice = self.choice.take();
        let mut tag = Tag { writer: self, tag: StartTag { name, content: name.to_owned() } };
        if let Some((name, value)) = choice {
            tag.attribute(name, &value);
        }
        tag
    }

    pub(crate) fn choose(&mut self, name: &'static str, value: &str) {
        self.choice = Some((name, value.to_owned()));
    }

    /// Elements taken over as they were written.
    pub(crate) fn verbatim(&mut self, xml: &str) {
        self.open();
        in_memory(self.document.write_indent());
        self.document.get_mut().extend_from_slice(xml.as_bytes());
    }

    pub(crate) fn finish(self) -> String {
        let mut text = self.document.into_inner();
        text.push(b'\n');
        String::from_utf8(text).expect("only strings were written")
    }

    /// Something comes inside the pending element, so it is not empty.
    fn open(&mut self) {
        if let Some(StartTag { name, content }) = self.pending.take() {
            self.put(Event::Start(BytesStart::from_content(content, name.len())));
        }
    }

    fn put(&mut self, event: Event<'_>) {
        in_memory(self.document.write_event(event));
    }
}

fn in_memory(result: io::Result<()>) {
    result.expect("writing into a vector cannot fail");
}

impl Tag<'_> {
    pub(crate) fn attribute(&mut self, name: &str, value: &str) {
        let content = &mut self.tag.content;
        content.push(' ');
        content.push_str(name);
        content.push_str("='");
        escape(value, true, content);
        content.push('\'');
    }

    /// `<name …/>`
    pub(crate) fn empty(self) {
        let Self { writer, tag: StartTag { name, content } } = self;
        writer.put(Event::Empty(BytesStart::from_content(content, name.len())));
    }

    /// `<name …>text</name>`
    pub(crate) fn text(self, text: &str) {
        let Self { writer, tag: StartTag { name, content } } = self;
        let mut escaped = String::with_capacity(text.len());
        escape(text, false, &mut escaped);
        writer.put(Event::Start(BytesStart::from_content(content, name.len())));
        writer.put(Event::Text(BytesText::from_escaped(escaped)));
        writer.put(Event::End(BytesEnd::new(name)));
    }

    /// `<name …>` and what `children` writes below it; `<name …/>` when that is nothing.
    pub(crate) fn children(self, children: impl FnOnce(&mut Writer)) {
        let Self { writer, tag } = self;
        let name = tag.name;
        writer.pending = Some(tag);
        children(writer);
        match writer.pending.take() {
            Some(tag) => Tag { writer, tag }.empty(),
            None => writer.put(Event::End(BytesEnd::new(name))),
        }
    }
}

/// In attributes line breaks and tabs become references, because reading would turn them into spaces.
/// What XML cannot hold at all is left out, as libvirt does.
pub(crate) fn escape(value: &str, attribute: bool, out: &mut String) {
    for c in value.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '\t' if attribute => out.push_str("&#9;"),
            '\n' if attribute => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => out.push(c),
        }
    }
}
