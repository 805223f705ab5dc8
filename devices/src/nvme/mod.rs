//! NVMe 1.4: a controller with namespaces, one admin queue and several for I/O.
//!
//! ```text
//!   driver ── doorbell ──→ Controller ── kick ──→ engine ──→ Lane of the namespace
//!     ▲                    (one lock)               │ PRPs → guest memory
//!     └── completion queue, MSI-X ──────────────────┘
//! ```
//! The engine copies each command once, and the data goes straight between the disk and the pages that
//! the command names.

mod admin;
mod controller;
mod device;
mod engine;
mod identify;
mod prp;
mod queue;
mod spec;
#[cfg(test)]
mod tests;

pub use device::{Namespace, Nvme, NvmeIdentity, NvmeParts};

/// Requests in flight on the disk of each namespace.
pub const DEPTH: u16 = engine::DEPTH;
