//! RFB 3.8, the protocol of VNC viewers (RFC 6143), without sockets: a [`Viewer`] takes bytes and
//! gives bytes.

mod auth;
mod encode;
mod handshake;
mod held;
mod message;
mod pixels;
mod spec;
#[cfg(test)]
mod tests;
mod tight;
mod tls;
mod viewer;
mod zrle;

pub use auth::Password;
pub use tls::{Tls, TlsError, TlsParts};
pub(crate) use viewer::{Notice, Viewer};

/// Longest text in a cut buffer that a viewer may send, bytes. It is skipped, not stored, but a
/// viewer that goes on for longer is none.
const MOST_CUT_TEXT: usize = 16 << 20;

/// On what terms viewers are let in.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What viewers show in their title.
    pub name: String,
    /// None: whoever connects is let in.
    pub password: Option<Password>,
    /// None: what is said can be read on the way.
    pub tls: Option<Tls>,
    pub(crate) random: fn() -> [u8; 16],
    pub(crate) most_cut_text: usize,
}

impl Terms {
    #[must_use]
    pub fn new(name: &str, password: Option<Password>) -> Self {
        // The length goes before it, and viewers have a title bar for it.
        let name = name.chars().take(256).collect();
        Self { name, password, tls: None, random, most_cut_text: MOST_CUT_TEXT }
    }
}

/// Why a viewer is sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Hangup {
    #[error("it sent {0}")]
    Protocol(&'static str),
    #[error("its password was wrong")]
    Denied,
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // So few bytes are given whole and without an error, from the end of the host's boot on.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes
}
