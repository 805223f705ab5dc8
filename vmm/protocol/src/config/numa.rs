//! NUMA nodes of the guest, and the host's that its memory comes from.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Numa {
    /// The guest's nodes, by number; RAM is theirs one after the other. None: it sees no nodes.
    pub cells: Vec<NumaCell>,
    /// Of all memory that no cell says anything else of; none: the host's own policy.
    pub placement: Option<NumaPlacement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaCell {
    /// Bytes; those of all cells are [`Memory::size`](super::Memory::size).
    pub memory: u64,
    /// vCPUs by index.
    pub cpus: Vec<u16>,
    /// To each cell, 10 to itself; none: 20 to all others.
    #[serde(default)]
    pub distances: Vec<u8>,
    #[serde(default)]
    pub placement: Option<NumaPlacement>,
}

/// Which of the host's nodes give memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaPlacement {
    pub mode: NumaMode,
    pub nodes: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumaMode {
    Strict,
    Preferred,
    Interleave,
}
