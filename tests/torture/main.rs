//! What happens when things go wrong, many times over: `cargo xtask torture` (docs/reliability.md).
//!
//! A daemon of the real binary with guests on the local KVM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "says what cannot be tested here")]

mod crash_daemon;
mod failing_device;
mod failing_state;
mod glutton;
mod guest;
mod objects;
mod rig;
mod soak;
mod storm;
mod strays;
mod stuck;
mod upgrade;
mod view;
