//! [`NbdTls`]: by which certificates a server is known, and this client to it.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

#[derive(Debug, thiserror::Error)]
pub enum NbdTlsError {
    #[error("the certificate of the NBD server's authority cannot be read")]
    Authority(#[source] pem::Error),
    #[error("the certificate of the NBD server's authority cannot be used")]
    Root(#[source] rustls::Error),
    #[error("the client's certificate for the NBD server cannot be read")]
    Certificate(#[source] pem::Error),
    #[error("the client's certificate and key for the NBD server cannot be used")]
    Pair(#[source] rustls::Error),
    #[error("{name:?} cannot be the name in the NBD server's certificate")]
    Name { name: String, source: InvalidDnsNameError },
}

/// Texts in PEM.
pub struct NbdTlsParts<'a> {
    /// Who signs the server's certificate.
    pub authority: &'a [u8],
    /// The client's own certificate and key, for servers that want one.
    pub client: Option<(&'a [u8], &'a [u8])>,
    /// In the server's certificate.
    pub server_name: &'a str,
}

#[derive(Debug, Clone)]
pub struct NbdTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl NbdTls {
    /// # Errors
    /// When something cannot be read, or does not belong together.
    pub fn new(parts: &NbdTlsParts<'_>) -> Result<Self, NbdTlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in chain(parts.authority).map_err(NbdTlsError::Authority)? {
            roots.add(certificate).map_err(NbdTlsError::Root)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(NbdTlsError::Pair)?
            .with_root_certificates(roots);
        let mut config = match parts.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificates = chain(certificate).map_err(NbdTlsError::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(NbdTlsError::Certificate)?;
                builder.with_client_auth_cert(certificates, key).map_err(NbdTlsError::Pair)?
            }
        };
        // Connections are few and long: nothing is kept to shorten the next one.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(parts.server_name.to_owned())
            .map_err(|source| NbdTlsError::Name { name: parts.server_name.to_owned(), source })?;
        Ok(Self { config: Arc::new(config), name })
    }

    pub(super) fn connection(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(self.config.clone(), self.name.clone())
    }
}

/// Every certificate of a text, of which there is at least one.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}
