//! [`Tls`]: the certificate by which viewers know the server, and the one by which it knows them.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the server's certificate cannot be read")]
    Certificate(#[source] pem::Error),
    #[error("the server's key cannot be read")]
    Key(#[source] pem::Error),
    #[error("the server's certificate and key cannot be used")]
    Pair(#[source] rustls::Error),
    #[error("the certificate of the authority cannot be read")]
    Authority(#[source] pem::Error),
    #[error("the certificate of the authority cannot be used")]
    Root(#[source] rustls::Error),
    #[error("viewers cannot be told by the certificate of the authority")]
    Verifier(#[from] VerifierBuilderError),
}

/// Texts in PEM.
pub struct TlsParts<'a> {
    /// The server's own, and those between it and the authority.
    pub certificate: &'a [u8],
    pub key: &'a [u8],
    /// Who signs the certificates of viewers; none: they need none.
    pub viewers: Option<&'a [u8]>,
}

#[derive(Debug, Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// # Errors
    /// When something is missing, cannot be read, or does not belong together.
    pub fn new(parts: &TlsParts<'_>) -> Result<Self, TlsError> {
        let certificates = chain(parts.certificate).map_err(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(parts.key).map_err(TlsError::Key)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?;
        let builder = match parts.viewers {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                for certificate in chain(authority).map_err(TlsError::Authority)? {
                    roots.add(certificate).map_err(TlsError::Root)?;
                }
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let mut config = builder.with_single_cert(certificates, key).map_err(TlsError::Pair)?;
        // Viewers stay for long and come back seldom: nothing is kept about those who left.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }

    /// By which nobody can come in, though it is offered.
    pub(crate) fn without_certificate() -> Self {
        let resolver = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has the cipher suites of TLS 1.3");
        Self(Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver)))
    }

    pub(crate) fn connection(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(self.0.clone())
    }
}

/// Every certificate of a text, of which there is at least one.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}
