//! [`Tls`]: how libvirt's clients come in over TLS: each with a certificate, whose subject says what it
//! may do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use management::{Access, Caller, Role, Scope, Via};
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::admission::Auth;
use super::subject::{matches, subject};
use crate::tls::{self, Bare, Pem, Renewable};

pub use crate::tls::TlsError;

/// From the first byte to the last of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What the server says of the client's certificate before anything else.
const WELCOME: [u8; 1] = [1];
const NOT_WELCOME: [u8; 1] = [0];

pub(super) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Whose subject is like this, and what that is good for. The first that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `C=GB,O=Example,CN=*`
    pub subject: String,
    pub role: Role,
    pub scope: Option<Scope>,
}

/// Texts in PEM.
pub struct TlsParts<'a> {
    pub certificate: &'a [u8],
    pub key: &'a [u8],
    /// Who signs the certificates of clients.
    pub authority: &'a [u8],
    pub clients: Vec<Client>,
    /// With passwords, a certificate of the authority is enough, whatever its subject.
    pub auth: Auth,
    /// Whether clients that come with a password need a certificate as well.
    pub verify: bool,
}

/// Clones share it, so that one of them can exchange it while the other serves.
#[derive(Clone)]
pub struct Tls(Renewable<Current>);

struct Current {
    acceptor: TlsAcceptor,
    clients: Vec<Client>,
    auth: Auth,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("no TLS handshake within {} s", HANDSHAKE.as_secs())]
    Timeout,
    #[error("its certificate cannot be read")]
    Certificate,
    #[error(
        "the certificate of {0:?} has no role here; give it one in the daemon's configuration \
         ([[libvirt.client]])"
    )]
    Unknown(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Tls {
    /// # Errors
    /// When something cannot be read, or does not belong together.
    pub fn new(parts: TlsParts<'_>) -> Result<Self, TlsError> {
        Ok(Self(Renewable::new(Current::new(parts)?)))
    }

    /// Show and ask something else, of those who come from now on.
    ///
    /// # Errors
    /// As [`new`](Self::new); then everything is as before.
    pub fn replace(&self, parts: TlsParts<'_>) -> Result<(), TlsError> {
        self.0.replace(Current::new(parts)?);
        Ok(())
    }

    /// A client that was told that it is welcome, and who it is.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        ip: IpAddr,
    ) -> Result<(TlsStream, Caller, Auth), HandshakeError> {
        let current = self.0.current();
        match tokio::time::timeout(HANDSHAKE, current.accept(stream, ip)).await {
            Ok(result) => result,
            Err(_) => Err(HandshakeError::Timeout),
        }
    }
}

impl Current {
    fn new(parts: TlsParts<'_>) -> Result<Self, TlsError> {
        let TlsParts { certificate, key, authority, clients, auth, verify } = parts;
        let pem = Pem { certificate, key, client_authority: Some(authority) };
        let by_password = auth == Auth::Sasl && !verify;
        let config = tls::server(pem, if by_password { Bare::LetIn } else { Bare::Refused })?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), clients, auth })
    }

    async fn accept(
        &self,
        stream: TcpStream,
        ip: IpAddr,
    ) -> Result<(TlsStream, Caller, Auth), HandshakeError> {
        let mut stream = self.acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let known = match self.auth {
            // The most that a user can be; who it is comes next.
            Auth::Sasl => {
                Ok(Caller::new(format!("{ip}, by libvirt"), Access::Admin).via(Via::Unknown))
            }
            Auth::None => {
                let shown = shown.ok_or(HandshakeError::Certificate);
                shown.and_then(|shown| self.caller(shown, ip))
            }
        };
        let word = if known.is_ok() { WELCOME } else { NOT_WELCOME };
        stream.write_all(&word).await?;
        stream.flush().await?;
        match known {
            Ok(caller) => Ok((stream, caller, self.auth)),
            Err(error) => {
                stream.shutdown().await?;
                Err(error)
            }
        }
    }

    fn caller(&self, shown: &CertificateDer<'_>, ip: IpAddr) -> Result<Caller, HandshakeError> {
        let subject = subject(shown).ok_or(HandshakeError::Certificate)?;
        match self.clients.iter().find(|client| matches(&client.subject, &subject)) {
            Some(client) => {
                let name = format!("{subject} ({ip}), by libvirt");
                let caller = Caller::new(name, client.role.access()).via(Via::Certificate);
                Ok(caller.scoped(client.scope.clone()))
            }
            None => Err(HandshakeError::Unknown(subject)),
        }
    }
}
