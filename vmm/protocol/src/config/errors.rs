//! What disks do when the host fails them.

use serde::{Deserialize, Serialize};

/// Of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskErrors {
    /// The disk's.
    pub id: String,
    /// For writes, flushes, and discards.
    pub write: OnError,
    pub read: OnError,
}

impl DiskErrors {
    /// A disk that runs full waits for room, and the guest hears of other errors: what QEMU does of
    /// itself, and libvirt leaves to it.
    #[must_use]
    pub fn usual(id: &str) -> Self {
        Self { id: id.to_owned(), write: OnError::Enospace, read: OnError::Report }
    }
}

/// libvirt's `error_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum OnError {
    /// The guest sees it.
    Report,
    /// The guest is told that all is well.
    Ignore,
    /// The request is kept and the guest pauses; both go on together.
    Stop,
    /// [`Stop`](Self::Stop) where there is no space, [`Report`](Self::Report) for the rest.
    Enospace,
}

impl OnError {
    /// That with this discriminant.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        let all = [Self::Report, Self::Ignore, Self::Stop, Self::Enospace];
        all.into_iter().find(|one| *one as u8 == number).unwrap_or(Self::Report)
    }
}
