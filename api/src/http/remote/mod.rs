//! Callers from elsewhere, over TLS: what a connection proves, and how much of us strangers take.
//!
//! ```text
//! accept ─ peers (connections of one address) ─ handshake (a deadline, a certificate perhaps)
//!   ─ authenticate (each request: a token, else the certificate) ─ routes
//! ```

mod authenticate;
mod certificate;
mod leash;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::peers::Peers;

pub(super) use authenticate::authenticate;
pub(super) use leash::{Leash, Leashed};
pub use tls::{Client, Tls, TlsError, TlsParts};

/// What is known of the other side of a connection before it has said a word of HTTP.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) address: SocketAddr,
    pub(super) certificate: Certificate,
    pub(super) peers: Arc<Peers>,
    pub(super) leash: Arc<Leash>,
}

/// What a client's certificate, signed by the authority of clients, is good for.
#[derive(Debug, Clone)]
pub(super) enum Certificate {
    None,
    /// Nobody said what it may do.
    Unknown {
        common_name: String,
    },
    Known(Client),
}
