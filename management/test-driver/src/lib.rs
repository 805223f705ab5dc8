//! A hypervisor that is made up, for people who test their tools against Manor: guests without a
//! machine, on a host that is always the same, without KVM and without privilege.
//!
//! ```text
//! the daemon, as it is ─▶ TestBroker ── files, sockets, images ─▶ the real broker
//!                            │└───────── taps, bridges, rules, cgroups, KVM ─▶ as if
//!                            └ spawns ─▶ run_guest: the control socket of a VMM, and no machine
//!                                        run_network: the process of a network, which reaches nobody
//! ```
//! What the daemon is told of its host lies in a directory ([`host::make`]). Processes of guests and
//! networks end with the daemon, in whatever way it ends.

mod broker;
mod guest;
pub mod host;
mod leases;
mod network;
mod parent;
mod sys;

pub use broker::TestBroker;
pub use guest::run_guest;
pub use network::run_network;

/// What the daemon's binary is started with to be a guest, or the process of a network.
pub const GUEST_ROLE: &str = "run-test-domain";
pub const NETWORK_ROLE: &str = "run-test-network";
