//! What XML 1.0 (fifth edition) is written with: characters, names, references.

pub(super) const XML: &str = "xml";
pub(super) const XMLNS: &str = "xmlns";
pub(super) const XML_URI: &str = "http://www.w3.org/XML/1998/namespace";
pub(super) const XMLNS_URI: &str = "http://www.w3.org/2000/xmlns/";

pub(super) const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

pub(super) fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Those that a value has otherwise than they are written (§3.3.3).
pub(super) fn is_rewritten_in_values(byte: u8) -> bool {
    matches!(byte, b'&' | b'\t' | b'\r' | b'\n')
}

/// §2.2 Char, of those that a `char` can be.
pub(super) fn is_char(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        _ => c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}'),
    }
}

/// The first that no document may have, and where.
pub(super) fn foreign_character(text: &str) -> Option<(usize, char)> {
    // All of these, and few others, have such a byte: most documents are looked at once, bytewise.
    let suspect = |byte: u8| byte < b' ' && !is_white(byte) || byte == 0xef;
    let first = text.bytes().position(suspect)?;
    text.get(first..)?.char_indices().find(|(_, c)| !is_char(*c)).map(|(at, c)| (first + at, c))
}

/// §2.3 NameStartChar without the colon, which divides prefix and name.
fn begins_name(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

fn continues_name(c: char) -> bool {
    begins_name(c)
        || matches!(c, '0'..='9' | '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// The name that a text begins with, colons and all; empty if it begins with none.
pub(super) fn name(text: &str) -> &str {
    let end = text.find(|c: char| !continues_name(c) && c != ':');
    &text[..end.unwrap_or(text.len())]
}

/// Its prefix, empty for none, and the name itself.
pub(super) fn divided(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or(("", name))
}

/// Whether it is one by itself, or two that a colon divides (Namespaces in XML, §4).
pub(super) fn is_qualified_name(name: &str) -> bool {
    let good = |part: &str| part.starts_with(begins_name) && !part.contains(':');
    name.split_once(':').map_or_else(|| good(name), |(prefix, name)| good(prefix) && good(name))
}

/// What `&…;` stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reference<'t> {
    Char(char),
    /// One that only a document type could define.
    Unknown(&'t str),
    Malformed,
}

/// The reference that a text begins with (§4.1), and its length.
pub(super) fn reference(text: &str) -> (Reference<'_>, usize) {
    let malformed = (Reference::Malformed, 1);
    let Some(inside) = text.strip_prefix('&') else { return malformed };
    if let Some(number) = inside.strip_prefix('#') {
        let (digits, radix, before) =
            number.strip_prefix('x').map_or((number, 10, 2), |digits| (digits, 16, 3));
        let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let Ok(code) = u32::from_str_radix(&digits[..length], radix) else { return malformed };
        let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        if !is_char(c) || !digits[length..].starts_with(';') {
            return malformed;
        }
        return (Reference::Char(c), before + length + 1);
    }
    let name = name(inside);
    if !name.starts_with(|c| begins_name(c) || c == ':') || !inside[name.len()..].starts_with(';') {
        return malformed;
    }
    let reference = match name {
        "lt" => Reference::Char('<'),
        "gt" => Reference::Char('>'),
        "amp" => Reference::Char('&'),
        "apos" => Reference::Char('\''),
        "quot" => Reference::Char('"'),
        _ => Reference::Unknown(name),
    };
    (reference, name.len() + 2)
}

/// What is written, with references followed and each line's end as `line_end`.
struct Decoded<'t> {
    rest: &'t str,
    in_value: bool,
}

/// The value of an attribute: white space is a space each (§3.3.3).
pub(super) fn value(written: &str) -> impl Iterator<Item = char> + '_ {
    Decoded { rest: written, in_value: true }
}

/// Text between tags (§2.11).
pub(super) fn text(written: &str) -> impl Iterator<Item = char> + '_ {
    Decoded { rest: written, in_value: false }
}

impl Iterator for Decoded<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        if next == '&'
            && let (Reference::Char(c), length) = reference(self.rest)
        {
            self.rest = &self.rest[length..];
            return Some(c);
        }
        self.rest = match next {
            '\r' => self.rest.strip_prefix("\r\n").unwrap_or(&self.rest[1..]),
            _ => &self.rest[next.len_utf8()..],
        };
        Some(match next {
            '\t' | '\r' | '\n' if self.in_value => ' ',
            '\r' => '\n',
            other => other,
        })
    }
}
