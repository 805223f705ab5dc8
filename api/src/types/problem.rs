//! Errors as RFC 9457 says them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What stands before a code in [`Problem::kind`].
pub const TYPE_PREFIX: &str = "urn:manor:error:";

/// An error (RFC 9457). Programs decide by `type`; people read `detail`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable name of the kind of error: `urn:manor:error:` and a code.
    #[serde(rename = "type")]
    #[schema(example = "urn:manor:error:not-found")]
    pub kind: String,
    /// The same for every error of this type.
    #[schema(example = "Not found")]
    pub title: String,
    /// The HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// Names the thing and the cause.
    #[schema(example = "no domain is called 'web1'")]
    pub detail: String,
    /// What lies behind it, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Every mistake in the document that was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Mistake>,
}

/// One mistake in a document, or one thing in it that is accepted and left out (a warning).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mistake {
    /// Accepted and left out: the guest does not need it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// `malformed`, `unknown`, `unsupported`, `invalid`, `missing` or `limit`.
    #[schema(example = "unknown")]
    pub kind: String,
    /// Counted from 1; absent where the document has no such place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    #[schema(example = "/domain/devices/disk[2]/target/@bus")]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Problem {
    /// The part of `type` that tells the kinds apart (`not-found`).
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&self.kind)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Problem {}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match (&self.expected, &self.suggestion) {
            (None, None) => Ok(()),
            (Some(expected), None) => write!(f, " (expected {expected})"),
            (None, Some(meant)) => write!(f, " (did you mean {meant}?)"),
            (Some(expected), Some(meant)) => {
                write!(f, " (expected {expected}; did you mean {meant}?)")
            }
        }
    }
}
