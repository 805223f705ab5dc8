//! What is wrong with a document, said so that a person can act on it: where, what, what was expected, what was probably meant.

use std::fmt;

/// Line and column, both counted from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not XML.
    Malformed,
    /// A name libvirt does not know either.
    Unknown,
    /// libvirt has it, Manor does not.
    Unsupported,
    /// A known name with a value that cannot be.
    Invalid,
    /// Something required is absent.
    Missing,
    /// Larger than is accepted.
    Limit,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Kind {
    /// A word for programs to match on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Missing => "missing",
            Self::Limit => "limit",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub kind: Kind,
    pub position: Position,
    /// For example `/domain/devices/disk[2]/target/@bus`.
    pub path: String,
    pub message: String,
    pub expected: Option<String>,
    pub suggestion: Option<String>,
}

impl Diagnostic {
    pub fn error(kind: Kind, position: Position, path: String, message: String) -> Self {
        let severity = Severity::Error;
        Self { severity, kind, position, path, message, expected: None, suggestion: None }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.position.line, self.position.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", Printable(&self.path))?;
        }
        write!(f, "{}", Printable(&self.message))?;
        match (&self.expected, &self.suggestion) {
            (None, None) => Ok(()),
            (Some(expected), None) => write!(f, " (expected {})", Printable(expected)),
            (None, Some(meant)) => write!(f, " (did you mean {}?)", Printable(meant)),
            (Some(expected), Some(meant)) => {
                write!(f, " (expected {}; did you mean {}?)", Printable(expected), Printable(meant))
            }
        }
    }
}

/// Text of a stranger on its way to a terminal or a log line: control characters are shown, not obeyed.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, c)?;
            }
        }
        Ok(())
    }
}

/// Every error of one document, in document order (and the warnings found on the way).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|d| d.severity == Severity::Error)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}
