//! The IDE function of the PIIX3: two channels at their legacy ports, each with two drives, and bus
//! master DMA (ATA8-APT, SFF-8038i).
//!
//! ```text
//!   driver ── ports ──→ Channel ── kick ──→ engine ──→ AtaDisk, Packets ──→ Lane
//!     ▲  data by PIO   (one lock)              │ scratch memory, or the guest's by PRDs
//!     └── interrupt ───────────────────────────┘
//! ```
//! Registers and data port answer at once, from the channel; what needs the host sets BSY and is the
//! engine's, so that no vCPU waits for a disk.

mod channel;
mod device;
mod engine;
#[cfg(test)]
mod tests;

pub use device::{Ide, IdeParts};
