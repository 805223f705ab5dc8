//! What runs inside `manor run-network`: the DHCP (IPv4 and IPv6) and DNS server of one virtual network.
//!
//! ```text
//! descriptors ─▶ config ─▶ services on the bridge ─▶ until a client of the control socket says stop
//!                           │ DHCP ──── lease file ◀── read by the daemon
//!                           └ control socket ◀──────── daemon: configure, status, stop
//! ```
//! The process opens no file: sockets and files come as descriptors, so it needs no privileges and
//! gives up those it has ([`confine`]). It lives on when its daemon ends, so guests keep their
//! addresses over an upgrade.

pub mod config;
mod confine;
pub mod control;
pub mod dhcp;
pub mod dhcp6;
pub mod dns;
mod files;
mod hex;
mod lease;
mod lease_file;
mod limit;
mod mac;
mod names;
mod process;
mod random;
mod record;
pub mod router;
mod state;
mod sys;
mod terms;
pub mod torture;

use std::error::Error;

pub use hex::Hex;
pub use lease::{Lease, read_leases};
pub use lease_file::{LeaseFile, LeaseFileError};
pub use mac::Mac;
pub use process::run_network;

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
