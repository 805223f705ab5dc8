//! Writes XML as libvirt prints it: two spaces, single quotes, one element per line.

/// The document under construction.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    text: String,
    open: Vec<&'static str>,
    /// The attribute that chose a variant; it goes first into the next start tag.
    choice: Option<(&'static str, String)>,
}

/// A start tag that still takes attributes.
pub(crate) struct Tag<'w> {
    writer: &'w mut Writer,
    name: &'static str,
}

impl Writer {
    pub(crate) fn tag(&mut self, name: &'static str) -> Tag<'_> {
        self.indent();
        self.text.push('<');
        self.text.push_str(name);
        let choice = self.choice.take();
        let mut tag = Tag { writer: self, name };
        if let Some((name, value)) = choice {
            tag.attribute(name, &value);
        }
        tag
    }

    pub(crate) fn choose(&mut self, name: &'static str, value: &str) {
        self.choice = Some((name, value.to_owned()));
    }

    pub(crate) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.indent();
            self.text.push_str("</");
            self.text.push_str(name);
            self.text.push_str(">\n");
        }
    }

    /// Elements taken over as they were written.
    pub(crate) fn verbatim(&mut self, xml: &str) {
        self.indent();
        self.text.push_str(xml);
        self.text.push('\n');
    }

    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }

    fn indent(&mut self) {
        self.text.extend(std::iter::repeat_n("  ", self.open.len()));
    }
}

impl Tag<'_> {
    pub(crate) fn attribute(&mut self, name: &str, value: &str) {
        self.writer.text.push(' ');
        self.writer.text.push_str(name);
        self.writer.text.push_str("='");
        escape(value, true, &mut self.writer.text);
        self.writer.text.push('\'');
    }

    /// `<name …/>`
    pub(crate) fn empty(self) {
        self.writer.text.push_str("/>\n");
    }

    /// `<name …>text</name>`
    pub(crate) fn text(self, text: &str) {
        self.writer.text.push('>');
        escape(text, false, &mut self.writer.text);
        self.writer.text.push_str("</");
        self.writer.text.push_str(self.name);
        self.writer.text.push_str(">\n");
    }

    /// `<name …>` and what `children` writes below it; `<name …/>` when that is nothing.
    pub(crate) fn children(self, children: impl FnOnce(&mut Writer)) {
        let Tag { writer, name } = self;
        writer.text.push_str(">\n");
        let start = writer.text.len();
        writer.open.push(name);
        children(writer);
        if writer.text.len() == start {
            writer.open.pop();
            writer.text.truncate(start - 2);
            writer.text.push_str("/>\n");
        } else {
            writer.close();
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
