//! [`Identity`]: how a client knows the server over TLS, and how it says who it is.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::chain;

pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the certificates of authorities cannot be read")]
    Authorities(#[source] pem::Error),
    #[error("the client's certificate cannot be read")]
    Certificate(#[source] pem::Error),
    #[error("the client's key cannot be read")]
    Key(#[source] pem::Error),
    #[error("the client's certificate and key cannot be used")]
    Pair(#[source] rustls::Error),
    #[error("the token is no text that fits into a header")]
    Token,
}

/// Texts in PEM, and a token.
#[derive(Default)]
pub struct IdentityParts<'a> {
    /// Who may have signed the server's certificate.
    pub authorities: &'a [u8],
    /// The client's own certificate and key.
    pub certificate: Option<(&'a [u8], &'a [u8])>,
    pub token: Option<String>,
}

/// What a client needs to come in over TLS. Clones share it.
#[derive(Clone)]
pub struct Identity {
    connector: TlsConnector,
    pub(super) token: Option<hyper::header::HeaderValue>,
}

/// Without its secrets.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// # Errors
    /// When something cannot be read, or does not belong together.
    pub fn new(parts: IdentityParts<'_>) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        let authorities = chain(parts.authorities).map_err(IdentityError::Authorities)?;
        // Among those of a system some are too old for rustls; a server of theirs is not known then.
        let _ = roots.add_parsable_certificates(authorities);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(IdentityError::Pair)?
            .with_root_certificates(roots);
        let mut config = match parts.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = chain(certificate).map_err(IdentityError::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::Key)?;
                builder.with_client_auth_cert(chain, key).map_err(IdentityError::Pair)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let token = parts.token.map(|token| {
            let mut value = hyper::header::HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok::<_, hyper::header::InvalidHeaderValue>(value)
        });
        let token = token.transpose().map_err(|_| IdentityError::Token)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), token })
    }

    /// `address` is `host:port`.
    pub(super) async fn connect(&self, address: &str, stream: TcpStream) -> io::Result<TlsStream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, stream).await
    }
}
