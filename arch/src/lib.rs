//! CPU and board facts: what an x86 machine of ours looks like, as plain values.
//!
//! Nothing here opens, maps or asks the kernel: every function goes from values to values, so that
//! the memory map, CPUID leaves and register states are tested without KVM. The KVM bindings are
//! used for their types only.

pub mod x86_64;

pub use x86_64::*;
