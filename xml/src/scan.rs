//! One cheap pass over the text before it becomes a tree: bounds on what a hostile document may cost, and the mistakes
//! in nesting that a parser explains badly.

use crate::diagnostic::{Diagnostic, Kind, Position};

const DEEPEST: usize = 64;
const MOST_ATTRIBUTES: usize = 256;
/// Every element copies the namespaces in scope, so their number multiplies.
const MOST_NAMESPACES: usize = 64;
const LONGEST_NAME: usize = 255;

/// Check bounds and nesting. What is not well-formed in other ways is left to the parser.
pub(crate) fn check(text: &str) -> Result<(), Diagnostic> {
    Scan { text, at: 0, open: Vec::new(), namespaces: 0 }.run()
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
    /// Names and places of the elements that are open.
    open: Vec<(&'t str, usize)>,
    namespaces: usize,
}

impl<'t> Scan<'t> {
    fn run(mut self) -> Result<(), Diagnostic> {
        while let Some(next) = self.rest().find('<') {
            self.at += next;
            let rest = self.rest();
            if rest.starts_with("<!--") {
                self.skip("-->", "a comment")?;
            } else if rest.starts_with("<![CDATA[") {
                self.skip("]]>", "a CDATA section")?;
            } else if rest.starts_with("<?") {
                self.skip("?>", "a processing instruction")?;
            } else if rest.starts_with("<!") {
                let message =
                    "document types and entities are not accepted; write the document without <!…>";
                return Err(self.malformed(self.at, Kind::Malformed, message));
            } else if rest.starts_with("</") {
                self.close()?;
            } else {
                self.start()?;
            }
        }
        match self.open.last() {
            None => Ok(()),
            Some((name, opened)) => Err(self.malformed(
                *opened,
                Kind::Malformed,
                &format!("<{name}> is opened here and never closed"),
            )),
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip(&mut self, end: &str, what: &str) -> Result<(), Diagnostic> {
        match self.rest().find(end) {
            Some(length) => {
                self.at += length + end.len();
                Ok(())
            }
            None => {
                let message = format!("{what} starts here and never ends with '{end}'");
                Err(self.malformed(self.at, Kind::Malformed, &message))
            }
        }
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        let start = self.at;
        let Some(length) = self.rest().find('>') else {
            return Err(self.malformed(start, Kind::Malformed, "this closing tag has no '>'"));
        };
        let name = cut(self.rest()[2..length].trim_end());
        self.at += length + 1;
        match self.open.pop() {
            Some((open, _)) if open == name => Ok(()),
            Some((open, opened)) => {
                let line = position(self.text, opened).line;
                let message = format!(
                    "</{name}> stands where <{open}> of line {line} has to be closed first"
                );
                let mut wrong = self.malformed(start, Kind::Malformed, &message);
                wrong.expected = Some(format!("</{open}>"));
                Err(wrong)
            }
            None => {
                let message = format!("</{name}> closes an element that was not opened");
                Err(self.malformed(start, Kind::Malformed, &message))
            }
        }
    }

    fn start(&mut self) -> Result<(), Diagnostic> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        let ends_name = |b: u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'>' | b'<' | b'=');
        while at < bytes.len() && !ends_name(bytes[at]) {
            at += 1;
        }
        let name = &self.text[start + 1..at];
        if name.len() > LONGEST_NAME {
            let message = format!("a name of {} bytes is longer than {LONGEST_NAME}", name.len());
            return Err(self.malformed(start, Kind::Limit, &message));
        }
        let mut attributes = 0;
        loop {
            match bytes.get(at) {
                None => {
                    let message =
                        format!("<{name}> starts here and the document ends before its '>'");
                    return Err(self.malformed(start, Kind::Malformed, &message));
                }
                Some(b'<') => {
                    let message = format!(
                        "'<' inside the start tag of <{name}>: a '>' or a quote is missing before it"
                    );
                    return Err(self.malformed(at, Kind::Malformed, &message));
                }
                Some(b'>') => {
                    if bytes[at - 1] != b'/' {
                        self.open.push((name, start));
                    }
                    self.at = at + 1;
                    break;
                }
                Some(b'?') if name.eq_ignore_ascii_case("xml") => {
                    let mut wrong = self.malformed(
                        start,
                        Kind::Malformed,
                        "the XML declaration starts with '<?'",
                    );
                    wrong.expected = Some("<?xml version=\"1.0\"?>".to_owned());
                    return Err(wrong);
                }
                Some(b'=') => {
                    attributes += 1;
                    self.count(attributes, at, name)?;
                    at += 1;
                }
                Some(quote @ (b'"' | b'\'')) => {
                    let Some(length) = self.text[at + 1..].find(char::from(*quote)) else {
                        let message = format!(
                            "a value in <{name}> starts here and its closing quote is missing"
                        );
                        return Err(self.malformed(at, Kind::Malformed, &message));
                    };
                    // A value that runs into the next tag lost its quote; '<' may not stand in one anyway.
                    if let Some(tag) = self.text[at + 1..at + 1 + length].find('<') {
                        let message = if self.text[at + 1..at + 1 + tag].contains(['>', '\n']) {
                            format!(
                                "a value in <{name}> starts here and its closing quote is missing"
                            )
                        } else {
                            "'<' in a value is written &lt;".to_owned()
                        };
                        return Err(self.malformed(at, Kind::Malformed, &message));
                    }
                    at += length + 2;
                }
                Some(_) => at += 1,
            }
        }
        if self.open.len() > DEEPEST {
            let message = format!("elements are nested deeper than {DEEPEST}");
            return Err(self.malformed(start, Kind::Limit, &message));
        }
        Ok(())
    }

    /// One more attribute, whose `=` is at `equals`.
    fn count(&mut self, attributes: usize, equals: usize, element: &str) -> Result<(), Diagnostic> {
        if attributes > MOST_ATTRIBUTES {
            let message = format!("<{}> has more than {MOST_ATTRIBUTES} attributes", cut(element));
            return Err(self.malformed(self.at, Kind::Limit, &message));
        }
        let before = self.text[self.at..equals].trim_end();
        let name = before.rsplit(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
        if name.len() > LONGEST_NAME {
            let message = format!("a name of {} bytes is longer than {LONGEST_NAME}", name.len());
            return Err(self.malformed(self.at, Kind::Limit, &message));
        }
        if name == "xmlns" || name.starts_with("xmlns:") {
            self.namespaces += 1;
            if self.namespaces > MOST_NAMESPACES {
                let message =
                    format!("the document declares more than {MOST_NAMESPACES} namespaces");
                return Err(self.malformed(self.at, Kind::Limit, &message));
            }
        }
        Ok(())
    }

    fn malformed(&self, at: usize, kind: Kind, message: &str) -> Diagnostic {
        Diagnostic::error(kind, position(self.text, at), String::new(), message.to_owned())
    }
}

fn cut(name: &str) -> &str {
    name.char_indices().nth(80).map_or(name, |(end, _)| &name[..end])
}

/// Lines and columns from one, columns in characters.
pub(crate) fn position(text: &str, at: usize) -> Position {
    let before = &text[..at.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = count(before.bytes().filter(|b| *b == b'\n').count() + 1);
    Position { line, column: count(before[line_start..].chars().count() + 1) }
}
