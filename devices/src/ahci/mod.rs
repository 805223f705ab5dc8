//! AHCI 1.3.1: the SATA host adapter of the ICH9, with disks and CD-ROM drives on its ports.
//!
//! ```text
//!   driver ── registers ──→ Hba ── kick ──→ engine ──→ AtaDisk, Packets ──→ Lane
//!     ▲      (one lock)      ▲                 │ FIS, status, interrupt        │
//!     └──────────────────────┴─────────────────┴───────────────────────────────┘
//! ```
//! A write to the issue register wakes the engine on its io thread, which reads command list, table
//! and descriptors once, and moves the data straight between the disk and guest memory.

mod answer;
mod command;
mod device;
mod engine;
mod hba;
mod spec;
#[cfg(test)]
mod tests;

pub use device::{Ahci, AhciParts};
pub use spec::PORTS;
