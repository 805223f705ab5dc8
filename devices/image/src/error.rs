//! [`ImageError`]: why an image cannot be opened, made or changed.

use std::io;

use crate::Format;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("this is no {format} image: {reason}")]
    NotThis { format: Format, reason: &'static str },
    #[error("the {format} image is damaged: {what}")]
    Damaged { format: Format, what: String },
    #[error("the {format} image uses {what}, which is not supported")]
    Unsupported { format: Format, what: String },
    /// It can be read all the same.
    #[error("the image can only be read: {reason}")]
    NotWritable { reason: String },
    /// Something that was asked for cannot be.
    #[error("{0}")]
    Invalid(String),
    #[error("{act}")]
    Io { act: &'static str, source: io::Error },
}

impl ImageError {
    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act, source }
    }

    pub(crate) fn damaged(format: Format, what: impl Into<String>) -> Self {
        Self::Damaged { format, what: what.into() }
    }

    pub(crate) fn unsupported(format: Format, what: impl Into<String>) -> Self {
        Self::Unsupported { format, what: what.into() }
    }

    /// What it says, with its causes.
    #[must_use]
    pub fn in_full(&self) -> String {
        match self {
            Self::Io { act, source } => format!("{act}: {source}"),
            other => other.to_string(),
        }
    }
}

impl From<ImageError> for io::Error {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Io { source, .. } => source,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}
