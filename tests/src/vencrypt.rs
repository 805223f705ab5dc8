//! A viewer that comes in by TLS (VeNCrypt), and the certificates that both sides need.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, IpAddr, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rfb::{self, Viewer};

const VENCRYPT: u8 = 19;
pub const X509_NONE: u32 = 260;
pub const X509_VNC: u32 = 261;

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// An authority with what it signed: a server at 127.0.0.1, and a viewer.
pub struct Certificates {
    pub authority: String,
    pub server: Pair,
    pub viewer: Pair,
}

impl Certificates {
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let signed = |name: &str| -> Result<Pair> {
            let mut params = CertificateParams::new([name.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &issuer)?.pem();
            Ok(Pair { certificate, key: key.serialize_pem() })
        };
        Ok(Self { authority, server: signed("127.0.0.1")?, viewer: signed("viewer")? })
    }

    /// As files of the names that libvirt gives them.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("ca-cert.pem"), &self.authority)?;
        std::fs::write(dir.join("server-cert.pem"), &self.server.certificate)?;
        std::fs::write(dir.join("server-key.pem"), &self.server.key)?;
        std::fs::write(dir.join("client-cert.pem"), &self.viewer.certificate)?;
        std::fs::write(dir.join("client-key.pem"), &self.viewer.key)
    }

    /// Where libvirt's server and its client look for them: below `server`, and in `client`
    /// (`pkipath=`), for whom the viewer's are taken.
    pub fn write_pki(&self, server: &Path, client: &Path) -> std::io::Result<()> {
        for dir in [&server.join("CA"), &server.join("libvirt/private"), client] {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(server.join("CA/cacert.pem"), &self.authority)?;
        std::fs::write(server.join("libvirt/servercert.pem"), &self.server.certificate)?;
        std::fs::write(server.join("libvirt/private/serverkey.pem"), &self.server.key)?;
        std::fs::write(client.join("cacert.pem"), &self.authority)?;
        std::fs::write(client.join("clientcert.pem"), &self.viewer.certificate)?;
        std::fs::write(client.join("clientkey.pem"), &self.viewer.key)
    }

    /// What a viewer knows; with its own certificate if the server is to see that.
    fn client(&self, with_certificate: bool) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        if !with_certificate {
            return Ok(builder.with_no_client_auth());
        }
        let chain = vec![CertificateDer::from_pem_slice(self.viewer.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(self.viewer.key.as_bytes())?;
        Ok(builder.with_client_auth_cert(chain, key)?)
    }
}

/// Come in by TLS, in the way that the server offers as its only one.
pub fn connect<S: Read + Write>(
    mut stream: S,
    known: &Certificates,
    with_certificate: bool,
    password: Option<&str>,
) -> Result<Viewer<StreamOwned<ClientConnection, S>>> {
    let types = rfb::greet(&mut stream)?;
    ensure!(types == [VENCRYPT], "security types {types:?}");
    stream.write_all(&[VENCRYPT])?;
    ensure!(rfb::take(&mut stream)? == [0, 2], "another version of VeNCrypt");
    stream.write_all(&[0, 2])?;
    ensure!(rfb::take(&mut stream)? == [0, 1], "version 0.2 is refused, or there are several ways");
    let wanted = if password.is_some() { X509_VNC } else { X509_NONE };
    let offered = u32::from_be_bytes(rfb::take(&mut stream)?);
    ensure!(offered == wanted, "subtype {offered} instead of {wanted}");
    stream.write_all(&wanted.to_be_bytes())?;
    ensure!(rfb::take(&mut stream)? == [1], "the subtype is refused");
    let name = ServerName::IpAddress(IpAddr::V4([127, 0, 0, 1].into()));
    let session = ClientConnection::new(known.client(with_certificate)?.into(), name)?;
    Viewer::join(StreamOwned::new(session, stream), password).context("behind TLS")
}
