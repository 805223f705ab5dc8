//! One pass over the text that finds its elements, or the first place where it is not well-formed
//! (XML 1.0 fifth edition, Namespaces in XML 1.0), without document types.

use super::lexis::{self, Reference};
use super::node::declares;
use super::{Declaration, Document, Entry, Error, FOREIGN, Fault, NO_PARENT, OPEN, Rewritten};

type Result<T> = std::result::Result<T, Error>;

/// `most` counts elements, and pieces of text, comments and instructions as well.
pub(crate) fn parse(text: &str, most: u32) -> Result<Document<'_>> {
    if u32::try_from(text.len()).is_err() {
        return Err(Error { at: 0, fault: Fault::TooManyNodes(most) });
    }
    if let Some((at, c)) = lexis::foreign_character(text) {
        return Err(Error { at, fault: Fault::NotACharacter(c) });
    }
    let document = Document {
        text,
        elements: Vec::with_capacity(elements_in(text).min(most as usize)),
        declarations: Vec::new(),
        rewritten: Rewritten::default(),
    };
    let mut parser = Parser { text, at: 0, document, around: NO_PARENT, nodes: 0, most };
    parser.document()?;
    Ok(parser.document)
}

/// How many there are at most, so that the list of them need not grow: a list that grows is there twice.
fn elements_in(text: &str) -> usize {
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let beyond = |end: &str| rest.find(end).map_or(rest.len(), |at| at + end.len());
        let skipped = match rest.as_bytes() {
            [b'!', b'-', b'-', ..] => beyond("-->"),
            [b'!', ..] => beyond("]]>"),
            [b'?', ..] => beyond("?>"),
            [b'/', ..] => 1,
            _ => {
                count += 1;
                0
            }
        };
        rest = &rest[skipped..];
    }
    count
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    document: Document<'t>,
    /// The innermost element that is open.
    around: u32,
    nodes: u32,
    most: u32,
}

impl<'t> Parser<'t> {
    fn document(&mut self) -> Result<()> {
        self.declaration()?;
        self.between()?;
        if self.rest().starts_with("<!DOCTYPE") {
            return Err(self.fault(Fault::DocumentType));
        }
        if self.rest().starts_with('<') {
            self.start()?;
            while self.around != NO_PARENT {
                self.content()?;
            }
            self.between()?;
        }
        match self.rest() {
            "" if self.document.elements.is_empty() => Err(self.fault(Fault::Empty)),
            "" => Ok(()),
            _ => Err(self.fault(Fault::SecondRoot)),
        }
    }

    /// `<?xml version='1.0' encoding='UTF-8'?>`.
    fn declaration(&mut self) -> Result<()> {
        if !self.take("<?xml ") {
            return Ok(());
        }
        self.space();
        for (name, is_optional) in [("version", false), ("encoding", true), ("standalone", true)] {
            if self.rest().starts_with(name) {
                self.attribute()?;
                if !self.space() && !self.rest().starts_with("?>") {
                    return Err(self.expected("a whitespace"));
                }
            } else if !is_optional {
                return Err(self.expected("'version'"));
            }
        }
        if self.take("?>") { Ok(()) } else { Err(self.expected("'?>'")) }
    }

    /// Comments and instructions outside the root.
    fn between(&mut self) -> Result<()> {
        loop {
            self.space();
            if !self.comment()? && !self.instruction()? {
                return Ok(());
            }
        }
    }

    /// One thing inside an element.
    fn content(&mut self) -> Result<()> {
        let rest = self.rest();
        if rest.is_empty() {
            Err(self.fault(Fault::Unclosed))
        } else if !rest.starts_with('<') {
            self.characters()
        } else if rest.starts_with("</") {
            self.end()
        } else if self.comment()? || self.instruction()? || self.section()? {
            Ok(())
        } else if rest.starts_with("<!") {
            Err(self.fault(Fault::Markup))
        } else {
            self.start()
        }
    }

    fn comment(&mut self) -> Result<bool> {
        let Some(inside) = self.rest().strip_prefix("<!--") else { return Ok(false) };
        let Some(length) = inside.find("-->") else {
            return Err(self.ends("'-->'"));
        };
        let inside = &inside[..length];
        if inside.contains("--") || inside.ends_with('-') {
            return Err(self.fault(Fault::CommentDashes));
        }
        self.at += "<!--".len() + length + "-->".len();
        self.node()?;
        Ok(true)
    }

    fn instruction(&mut self) -> Result<bool> {
        let Some(inside) = self.rest().strip_prefix("<?") else { return Ok(false) };
        if inside.starts_with("xml ") {
            return Err(self.fault(Fault::LateDeclaration));
        }
        let target = lexis::name(inside);
        if !lexis::is_qualified_name(target) {
            return Err(self.fault(Fault::Name));
        }
        let Some(length) = inside[target.len()..].find("?>") else {
            return Err(self.ends("'?>'"));
        };
        self.at += "<?".len() + target.len() + length + "?>".len();
        self.node()?;
        Ok(true)
    }

    fn section(&mut self) -> Result<bool> {
        let Some(inside) = self.rest().strip_prefix("<![CDATA[") else { return Ok(false) };
        let Some(length) = inside.find("]]>") else {
            return Err(self.ends("']]>'"));
        };
        self.at += "<![CDATA[".len() + length + "]]>".len();
        self.node()?;
        Ok(true)
    }

    fn characters(&mut self) -> Result<()> {
        let rest = self.rest();
        let length = rest.find('<').unwrap_or(rest.len());
        let run = &rest[..length];
        if let Some(end) = run.find("]]>") {
            return Err(Error { at: self.at + end, fault: Fault::SectionEnd });
        }
        self.references(self.at, run)?;
        self.at += length;
        self.node()
    }

    /// Those in a text that begins `at` have to be such.
    fn references(&self, at: usize, text: &str) -> Result<()> {
        for (offset, _) in text.match_indices('&') {
            let fault = match lexis::reference(&text[offset..]).0 {
                Reference::Char(_) => continue,
                Reference::Unknown(name) => Fault::UnknownEntity(name.to_owned()),
                Reference::Malformed => Fault::Ampersand,
            };
            return Err(Error { at: at + offset, fault });
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let start = self.at;
        self.at += 1;
        let name = self.qualified_name()?;
        let (prefix, _) = lexis::divided(name);
        if prefix == lexis::XMLNS {
            return Err(self.fault(Fault::ReservedPrefix));
        }
        self.node()?;
        let number = offset(self.document.elements.len());
        let parent = self.around;
        self.document.elements.push(Entry { start: offset(start), end: 0, next: OPEN, parent });
        let is_empty = self.tag(number)?;
        let namespace = self.namespace(number, prefix, start + 1)?;
        if namespace.is_some() {
            self.document.elements[number as usize].parent |= FOREIGN;
        }
        if is_empty {
            self.close(number);
        } else {
            self.around = number;
        }
        Ok(())
    }

    /// The attributes, and the end of the tag; true if it is the element's end as well.
    fn tag(&mut self, number: u32) -> Result<bool> {
        let mut names: Vec<(&'t str, usize)> = Vec::new();
        loop {
            let is_apart = self.space();
            let start = self.at;
            if self.take("/>") {
                self.unlike(number, names)?;
                return Ok(true);
            }
            if self.take(">") {
                self.unlike(number, names)?;
                return Ok(false);
            }
            if !is_apart {
                return Err(self.expected("a whitespace"));
            }
            let (name, value) = self.attribute()?;
            let written = &self.text[value.clone()];
            self.references(value.start, written)?;
            if written.bytes().any(lexis::is_rewritten_in_values) {
                self.document.rewritten.push(offset(value.start), lexis::value(written));
            }
            let (prefix, local) = lexis::divided(name);
            if declares(prefix, local) {
                let prefix = if prefix.is_empty() { "" } else { local };
                self.declare(start, Declaration { element: number, prefix, uri: value })?;
            } else {
                names.push((name, start));
            }
        }
    }

    fn declare(&mut self, at: usize, declared: Declaration<'t>) -> Result<()> {
        let refuse = |fault| Err(Error { at, fault });
        let uri = self.document.value(&declared.uri);
        let is_xml = declared.prefix == lexis::XML;
        if uri == lexis::XMLNS_URI || (uri == lexis::XML_URI) != is_xml {
            return refuse(Fault::ReservedPrefix);
        }
        let own = self.document.declarations.iter().rev();
        let mut own = own.take_while(|it| it.element == declared.element);
        if own.any(|it| it.prefix == declared.prefix) {
            return refuse(Fault::PrefixTwice(declared.prefix.to_owned()));
        }
        self.document.declarations.push(declared);
        Ok(())
    }

    /// No two attributes of an element have the same name in the same namespace.
    fn unlike(&self, number: u32, names: Vec<(&'t str, usize)>) -> Result<()> {
        let mut known = Vec::with_capacity(names.len());
        for (name, start) in names {
            let (prefix, local) = lexis::divided(name);
            let namespace =
                if prefix.is_empty() { None } else { self.namespace(number, prefix, start)? };
            known.push((local, namespace, start));
        }
        known.sort_unstable();
        let twice =
            known.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1);
        match twice.map(|pair| (pair[1].2, pair[1].0)).min() {
            Some((at, name)) => Err(Error { at, fault: Fault::AttributeTwice(name.to_owned()) }),
            None => Ok(()),
        }
    }

    fn namespace(&self, number: u32, prefix: &str, at: usize) -> Result<Option<&str>> {
        let namespace = self.document.namespace(number, prefix);
        if namespace.is_none() && !prefix.is_empty() {
            return Err(Error { at, fault: Fault::UnknownPrefix(prefix.to_owned()) });
        }
        Ok(namespace)
    }

    /// Its name, and where its value is.
    fn attribute(&mut self) -> Result<(&'t str, std::ops::Range<usize>)> {
        let name = self.qualified_name()?;
        self.space();
        if !self.take("=") {
            return Err(self.missing(Fault::NoValue));
        }
        self.space();
        let quote = match self.rest().as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => char::from(*quote),
            _ => return Err(self.missing(Fault::NoQuote)),
        };
        self.at += 1;
        let start = self.at;
        let Some(length) = self.rest().find([quote, '<']) else {
            return Err(self.ends("a quote"));
        };
        self.at += length;
        if !self.take(if quote == '"' { "\"" } else { "'" }) {
            return Err(self.expected("a quote"));
        }
        Ok((name, start..start + length))
    }

    /// The end tag of the innermost element.
    fn end(&mut self) -> Result<()> {
        let start = self.at;
        self.at += "</".len();
        let close = self.qualified_name()?;
        self.space();
        if !self.take(">") {
            return Err(self.expected("'>'"));
        }
        let number = self.around;
        let open = self.document.elements[number as usize].start as usize;
        let open = lexis::name(&self.text[open + 1..]);
        if open != close {
            let (open, close) = (open.to_owned(), close.to_owned());
            return Err(Error { at: start, fault: Fault::WrongClose { open, close } });
        }
        self.close(number);
        Ok(())
    }

    fn close(&mut self, number: u32) {
        let next = offset(self.document.elements.len());
        let entry = &mut self.document.elements[number as usize];
        (entry.end, entry.next) = (offset(self.at), next);
        self.around = entry.parent & !FOREIGN;
    }

    fn qualified_name(&mut self) -> Result<&'t str> {
        let name = lexis::name(self.rest());
        if !lexis::is_qualified_name(name) {
            return Err(self.fault(Fault::Name));
        }
        self.at += name.len();
        Ok(name)
    }

    fn node(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > self.most {
            return Err(self.ends_with(Fault::TooManyNodes(self.most)));
        }
        Ok(())
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn take(&mut self, token: &str) -> bool {
        let is_there = self.rest().starts_with(token);
        self.at += if is_there { token.len() } else { 0 };
        is_there
    }

    /// Whether there was any.
    fn space(&mut self) -> bool {
        let length = self.rest().bytes().take_while(|byte| lexis::is_white(*byte)).count();
        self.at += length;
        length > 0
    }

    fn fault(&self, fault: Fault) -> Error {
        Error { at: self.at, fault }
    }

    fn expected(&self, what: &'static str) -> Error {
        self.fault(Fault::Expected { what, found: self.rest().chars().next() })
    }

    /// The document ends before `what` comes.
    fn ends(&self, what: &'static str) -> Error {
        self.ends_with(Fault::Expected { what, found: None })
    }

    fn ends_with(&self, fault: Fault) -> Error {
        Error { at: self.text.len(), fault }
    }

    /// Something else stands there, or nothing.
    fn missing(&self, fault: Fault) -> Error {
        if self.rest().is_empty() { self.ends("the end of a tag") } else { self.fault(fault) }
    }
}

/// Documents are shorter than 4 GiB, which `parse` has made sure of.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
