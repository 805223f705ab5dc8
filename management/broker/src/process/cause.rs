//! An [`io::Error`] as data: the kernel's number, or what kind of mistake it was, in words.

use std::io;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
enum Cause {
    Kernel(i32),
    Other { kind: Kind, text: String },
}

/// The kinds that somebody looks at.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Kind {
    NotFound,
    PermissionDenied,
    AlreadyExists,
    InvalidInput,
    TimedOut,
    StorageFull,
    Other,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::NotFound,
        Self::PermissionDenied,
        Self::AlreadyExists,
        Self::InvalidInput,
        Self::TimedOut,
        Self::StorageFull,
        Self::Other,
    ];

    fn of(kind: io::ErrorKind) -> Self {
        Self::ALL.into_iter().find(|known| known.std() == kind).unwrap_or(Self::Other)
    }

    fn std(self) -> io::ErrorKind {
        match self {
            Self::NotFound => io::ErrorKind::NotFound,
            Self::PermissionDenied => io::ErrorKind::PermissionDenied,
            Self::AlreadyExists => io::ErrorKind::AlreadyExists,
            Self::InvalidInput => io::ErrorKind::InvalidInput,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::StorageFull => io::ErrorKind::StorageFull,
            Self::Other => io::ErrorKind::Other,
        }
    }
}

/// What it says, and what lies below it.
fn in_full(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.get_ref().and_then(std::error::Error::source);
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text
}

pub(crate) fn serialize<S: Serializer>(error: &io::Error, to: S) -> Result<S::Ok, S::Error> {
    let cause = match error.raw_os_error() {
        Some(number) => Cause::Kernel(number),
        None => Cause::Other { kind: Kind::of(error.kind()), text: in_full(error) },
    };
    cause.serialize(to)
}

pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<io::Error, D::Error> {
    Ok(match Cause::deserialize(from)? {
        Cause::Kernel(number) => io::Error::from_raw_os_error(number),
        Cause::Other { kind, text } => io::Error::new(kind.std(), text),
    })
}
