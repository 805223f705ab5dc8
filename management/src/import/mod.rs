//! Moving in: what another libvirt has defined, judged piece by piece, then taken over.
//!
//! ```text
//! documents ─judge→ as it is | changed | there already | refused   (nothing is done)
//!                        └ deeds ─carry out→ secrets, filters, networks, pools, domains
//! ```
//! Each piece is judged by the rules that its own definition has, and stored as that stores it: whole, or
//! not at all. So a taking over that broke off is done again from the start, and what is there already is
//! known as such. Nothing of the other libvirt's is written to.

mod carry_out;
mod domain;
mod judge;
mod needs;
mod network;
mod pool;
mod secret;

use std::path::PathBuf;

use uuid::Uuid;

use crate::error::Problem;

pub(crate) use carry_out::{Deed, carry_out};
pub(crate) use judge::judge;

/// Documents in one go.
pub const MOST_DOCUMENTS: usize = 20_000;

/// In the order in which they are taken over: each needs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImportKind {
    Secret,
    Filter,
    Network,
    Pool,
    Domain,
}

impl ImportKind {
    pub const ALL: [Self; 5] =
        [Self::Secret, Self::Filter, Self::Network, Self::Pool, Self::Domain];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Filter => "filter",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Domain => "domain",
        }
    }
}

/// One definition, and what its host keeps beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportDocument {
    pub kind: ImportKind,
    /// By its file: what it defines should be called so too.
    pub name: String,
    /// Where it was read.
    pub file: String,
    pub xml: String,
    pub autostart: bool,
    /// Of a domain: it runs under the other libvirt now.
    pub runs: bool,
    /// Of a domain: memory that was saved for its next start.
    pub managed_save: bool,
    pub snapshots: Vec<String>,
    pub checkpoints: Vec<String>,
    /// Of a secret.
    pub value: Option<Vec<u8>>,
}

/// All that one host has.
#[derive(Clone, PartialEq, Eq)]
pub struct Import {
    /// Where that host's files lie here.
    pub root: PathBuf,
    pub documents: Vec<ImportDocument>,
}

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    AsItIs,
    Changed,
    /// It was taken over before, or is the same.
    Present,
    Refused,
}

impl Verdict {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AsItIs => "as-it-is",
            Self::Changed => "changed",
            Self::Present => "present",
            Self::Refused => "refused",
        }
    }
}

/// What becomes of a document, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub kind: ImportKind,
    /// Empty where the document names nothing.
    pub name: String,
    pub uuid: Option<Uuid>,
    pub file: String,
    pub verdict: Verdict,
    /// Whether it will start with the host.
    pub autostart: bool,
    /// Of a refusal: why, and what to do.
    pub reason: Option<String>,
    /// What will be otherwise than it was.
    pub changes: Vec<String>,
    /// What is taken over and does not work yet, or stays behind.
    pub notes: Vec<String>,
    /// Mistakes in the document, or what of it is left out.
    pub problems: Vec<Problem>,
}
