//! The x86-64 board.

pub mod cpuid;
pub mod early;
pub mod gsi;
pub mod layout;
pub mod msr;
pub mod ports;
pub mod registers;
pub mod topology;
