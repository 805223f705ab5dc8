//! What the process of a network gives up before it hears its first guest: who it was, what it was
//! allowed, and most system calls.
//!
//! ```text
//! started as root ─▶ privileges ─▶ configuration, services set up ─▶ filter ─▶ guests
//!                    another user, no capability                     allow-list of system calls
//! ```
//! Guests' packets are parsed in here, so whoever takes the process over has nothing but its sockets,
//! and of files the leases of this one network.

mod filter;
mod privileges;

pub(crate) use filter::{FilterError, enter_filter};
pub(crate) use privileges::drop_privileges;
