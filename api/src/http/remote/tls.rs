//! [`Tls`]: the certificate by which clients know the server, and those by which it knows them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use management::{Role, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Certificate;
use super::certificate::common_name;
use crate::tls::{self, Bare, Pem, Renewable};

pub use crate::tls::TlsError;

/// From the first byte to the last of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// RFC 8446, section 5.1: the first byte of a record that begins a handshake.
const HANDSHAKE_RECORD: u8 = 22;
/// Of what is no TLS.
const MOST_UNREAD: u64 = 64 << 10;
/// For those who speak HTTP to a port of HTTPS.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 47\r\nConnection: close\r\n\r\nthis port speaks TLS only; connect by https://\n";

pub(in crate::http) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum HandshakeError {
    #[error("no TLS handshake within {} s", HANDSHAKE.as_secs())]
    Timeout,
    #[error("it does not speak TLS")]
    NotTls,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Who has a certificate with this common name, and what it is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub common_name: String,
    pub role: Role,
    pub scope: Option<Scope>,
}

/// Texts in PEM.
pub struct TlsParts<'a> {
    /// The server's own, and those between it and the authority.
    pub certificate: &'a [u8],
    pub key: &'a [u8],
    /// Who signs the certificates of clients; none: they have none, and come by tokens.
    pub client_authority: Option<&'a [u8]>,
    pub clients: Vec<Client>,
}

/// What a listener shows and asks of its clients. Clones share it, so that one of them can
/// exchange it while the other serves.
#[derive(Clone)]
pub struct Tls(Renewable<Current>);

struct Current {
    acceptor: TlsAcceptor,
    clients: HashMap<String, Client>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
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

    pub(in crate::http) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream, Certificate), HandshakeError> {
        let current = self.0.current();
        match tokio::time::timeout(HANDSHAKE, current.handshake(stream)).await {
            Ok(result) => result,
            Err(_) => Err(HandshakeError::Timeout),
        }
    }
}

impl Current {
    fn new(parts: TlsParts<'_>) -> Result<Self, TlsError> {
        let pem = Pem {
            certificate: parts.certificate,
            key: parts.key,
            client_authority: parts.client_authority,
        };
        // Those without a certificate may have a token.
        let mut config = tls::server(pem, Bare::LetIn)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let named = |client: Client| (client.common_name.clone(), client);
        let clients = parts.clients.into_iter().map(named).collect();
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), clients })
    }

    async fn handshake(
        &self,
        mut stream: TcpStream,
    ) -> Result<(TlsStream, Certificate), HandshakeError> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if first != [HANDSHAKE_RECORD] {
            stream.write_all(NOT_TLS.as_bytes()).await?;
            stream.shutdown().await?;
            // What is closed with something unread takes back what was said.
            tokio::io::copy(&mut stream.take(MOST_UNREAD), &mut tokio::io::sink()).await?;
            return Err(HandshakeError::NotTls);
        }
        let stream = self.acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = match shown {
            None => Certificate::None,
            Some(shown) => self.known(common_name(shown).unwrap_or_default()),
        };
        Ok((stream, certificate))
    }

    fn known(&self, common_name: String) -> Certificate {
        match self.clients.get(&common_name) {
            Some(client) => Certificate::Known(client.clone()),
            None => Certificate::Unknown { common_name },
        }
    }
}
