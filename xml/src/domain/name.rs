//! The name of a domain, which also becomes part of file and unit names.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use crate::value::{Expected, Value};

const RULE: &str = "1 to 255 bytes without '/' or control characters, and not '.' or '..'";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a domain's name has {RULE}")
    }
}

impl std::error::Error for BadName {}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |c: char| {
            c == '/'
                || c.is_control()
                || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        let valid = (1..=255).contains(&text.len())
            && !matches!(text, "." | "..")
            && !text.contains(bad)
            && !text.trim().is_empty();
        if valid { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

impl Value for Name {
    fn parse(text: &str) -> Result<Self, Expected> {
        text.parse().map_err(|_| Expected::Form(RULE))
    }
    fn print(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
