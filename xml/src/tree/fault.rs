//! Why a text is no document, in words for people who do not read the XML specification.

use std::fmt;

use crate::report::{cut, quote};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    /// Where in the text.
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Empty,
    TooManyNodes(u32),
    DocumentType,
    LateDeclaration,
    SecondRoot,
    Unclosed,
    WrongClose {
        open: String,
        close: String,
    },
    NotACharacter(char),
    Name,
    Expected {
        what: &'static str,
        found: Option<char>,
    },
    NoQuote,
    NoValue,
    Markup,
    CommentDashes,
    SectionEnd,
    UnknownEntity(String),
    Ampersand,
    AttributeTwice(String),
    PrefixTwice(String),
    UnknownPrefix(String),
    /// `xml` and `xmlns` stand for what they stand for, and nothing else does.
    ReservedPrefix,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the document is empty"),
            Self::TooManyNodes(most) => write!(f, "the document has more than {most} nodes"),
            Self::DocumentType => f.write_str("document types and entities are not accepted"),
            Self::LateDeclaration => f.write_str(
                "<?xml …?> may only be the very first thing of the document, not even after a space",
            ),
            Self::SecondRoot => f.write_str("only one element and comments may be here"),
            Self::Unclosed => f.write_str("the root node was opened but never closed"),
            Self::WrongClose { open, close } => {
                write!(f, "expected '{}' tag, not '{}'", cut(open), cut(close))
            }
            Self::NotACharacter(c) => {
                write!(f, "the character U+{:04X} cannot be in an XML document", u32::from(*c))
            }
            Self::Name => f.write_str("a name is not a name of XML"),
            Self::Expected { what, found: Some(found) } => {
                write!(f, "expected {what}, not '{found}'")
            }
            Self::Expected { what, found: None } => {
                write!(f, "the document ends where {what} is expected")
            }
            Self::NoQuote => f.write_str("an attribute's value needs quotes"),
            Self::NoValue => f.write_str("an attribute needs a value: name='…'"),
            Self::Markup => f.write_str("'<' here begins neither an element nor a comment"),
            Self::CommentDashes => f.write_str("a comment cannot contain '--'"),
            Self::SectionEnd => f.write_str("']]>' may not stand in text; write ]]&gt;"),
            Self::UnknownEntity(name) => write!(
                f,
                "the entity {} is not defined; XML has only &lt; &gt; &amp; &apos; &quot;",
                quote(name)
            ),
            Self::Ampersand => f.write_str("'&' in text or a value is written &amp;"),
            Self::AttributeTwice(name) => write!(f, "the attribute {} stands twice", quote(name)),
            Self::PrefixTwice(prefix) => {
                write!(f, "the prefix {} is declared twice", quote(prefix))
            }
            Self::UnknownPrefix(prefix) => {
                write!(f, "the prefix {} has no xmlns:… declaration", quote(prefix))
            }
            Self::ReservedPrefix => {
                f.write_str("the prefixes xml and xmlns, and what they stand for, are XML's own")
            }
        }
    }
}
