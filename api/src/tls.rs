//! What both servers that speak TLS are made of: certificates from PEM, and who is asked for one.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the server's certificate cannot be read")]
    Certificate(#[source] pem::Error),
    #[error("the server's key cannot be read")]
    Key(#[source] pem::Error),
    #[error("the server's certificate and key cannot be used")]
    Pair(#[source] rustls::Error),
    #[error("the certificate of the clients' authority cannot be read")]
    Authority(#[source] pem::Error),
    #[error("the certificate of the clients' authority cannot be used")]
    Root(#[source] rustls::Error),
    #[error("clients cannot be told by the certificate of their authority")]
    Verifier(#[from] VerifierBuilderError),
}

/// Texts in PEM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pem<'a> {
    /// The server's own, and those between it and the authority.
    pub(crate) certificate: &'a [u8],
    pub(crate) key: &'a [u8],
    /// Who signs the certificates of clients; none: they are not asked for one.
    pub(crate) client_authority: Option<&'a [u8]>,
}

/// What becomes of clients that show no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    /// They may prove who they are in another way.
    LetIn,
    Refused,
}

/// A server that keeps nothing about those who left: who a client is is looked at anew each time.
pub(crate) fn server(pem: Pem<'_>, bare: Bare) -> Result<ServerConfig, TlsError> {
    let certificates = chain(pem.certificate).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(TlsError::Key)?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match pem.client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in chain(authority).map_err(TlsError::Authority)? {
                roots.add(certificate).map_err(TlsError::Root)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match bare {
                Bare::LetIn => verifier.allow_unauthenticated(),
                Bare::Refused => verifier,
            };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(TlsError::Pair)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Every certificate of a text, of which there is at least one.
pub(crate) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
}

/// Something that one clone exchanges while another serves with it.
#[derive(Debug)]
pub(crate) struct Renewable<T>(Arc<Mutex<Arc<T>>>);

impl<T> Clone for Renewable<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Renewable<T> {
    pub(crate) fn new(first: T) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(first))))
    }

    pub(crate) fn replace(&self, next: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }

    pub(crate) fn current(&self) -> Arc<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
