//! TLS at both ends: the daemon's files, and what the command line brings along.

use std::path::{Path, PathBuf};

use api::client::{Endpoint, Identity, IdentityParts};
use api::http::remote::{Client, Tls, TlsParts};
use api::rpc::server as rpc;
use management::Scope;
use management::config::{Libvirt, LibvirtClient, Listen, ListenClient};

use crate::args::Global;
use crate::failure::{Exit, Failure, NOT_CONNECTED, chain, reason};

/// Where systems keep the authorities that they trust: Debian, Fedora, SUSE, Alpine.
const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        Failure::other(format!("cannot read {}: {}", path.display(), reason(&error)))
    })
}

/// What the daemon shows and asks, by its configuration.
pub(crate) fn server(listen: &Listen) -> Result<Tls, Failure> {
    with_parts(listen, Tls::new)
}

/// The same anew, from files that may have changed.
pub(crate) fn renew(tls: &Tls, listen: &Listen) -> Result<(), Failure> {
    with_parts(listen, |parts| tls.replace(parts))
}

fn with_parts<T>(
    listen: &Listen,
    make: impl FnOnce(TlsParts<'_>) -> Result<T, api::http::remote::TlsError>,
) -> Result<T, Failure> {
    let needed = |failure: Failure| {
        failure.hint(
            "who listens for other hosts needs a certificate and its key: 'listen.certificate' and \
             'listen.key' in the configuration say where they are",
        )
    };
    let certificate = read(&listen.certificate).map_err(needed)?;
    let key = read(&listen.key).map_err(needed)?;
    let with_clients = !listen.client_ca.as_os_str().is_empty();
    let authority = with_clients.then(|| read(&listen.client_ca)).transpose()?;
    let parts = TlsParts {
        certificate: &certificate,
        key: &key,
        client_authority: authority.as_deref(),
        clients: listen.client.iter().map(client).collect(),
    };
    make(parts).map_err(|error| chain(&error).while_doing("TLS cannot be used"))
}

fn client(client: &ListenClient) -> Client {
    Client {
        common_name: client.common_name.clone(),
        role: client.role,
        scope: client.domains.as_ref().map(Scope::new),
    }
}

/// What libvirt's clients are shown and asked.
pub(crate) fn libvirt(config: &Libvirt) -> Result<rpc::Tls, Failure> {
    with_libvirt_parts(config, rpc::Tls::new)
}

/// The same anew, from files that may have changed.
pub(crate) fn renew_libvirt(tls: &rpc::Tls, config: &Libvirt) -> Result<(), Failure> {
    with_libvirt_parts(config, |parts| tls.replace(parts))
}

/// The files by the names that libvirt gives them.
fn with_libvirt_parts<T>(
    config: &Libvirt,
    make: impl FnOnce(rpc::TlsParts<'_>) -> Result<T, rpc::TlsError>,
) -> Result<T, Failure> {
    let file = |name: &str| {
        read(&config.pki.join(name)).map_err(|failure| {
            failure.hint(
                "libvirt's clients come in over TLS by CA/cacert.pem, libvirt/servercert.pem and \
                 libvirt/private/serverkey.pem below 'libvirt.pki' (--pkipath)",
            )
        })
    };
    let parts = rpc::TlsParts {
        authority: &file("CA/cacert.pem")?,
        certificate: &file("libvirt/servercert.pem")?,
        key: &file("libvirt/private/serverkey.pem")?,
        clients: config.client.iter().map(libvirt_client).collect(),
        auth: libvirt_auth(&config.auth_tls),
        verify: !config.tls_no_verify_certificate,
    };
    make(parts).map_err(|error| chain(&error).while_doing("TLS cannot be used"))
}

/// The configuration knows two words.
pub(crate) fn libvirt_auth(word: &str) -> rpc::Auth {
    match word {
        "sasl" => rpc::Auth::Sasl,
        _ => rpc::Auth::None,
    }
}

fn libvirt_client(client: &LibvirtClient) -> rpc::Client {
    rpc::Client {
        subject: client.subject.clone(),
        role: client.role,
        scope: client.domains.as_ref().map(Scope::new),
    }
}

/// What the command line goes to a daemon with; none where the connection itself says who it is.
pub(crate) fn identity(global: &Global, endpoint: &Endpoint) -> Result<Option<Identity>, Failure> {
    if !matches!(endpoint, Endpoint::Tls(_)) {
        return match &global.token_file {
            Some(_) if !matches!(endpoint, Endpoint::Unix(_)) => {
                Err(Failure::usage("a token is sent over TLS only: connect to https://HOST:PORT"))
            }
            _ => Ok(None),
        };
    }
    let authorities = match &global.ca {
        Some(path) => read(path)?,
        None => system_authorities()?,
    };
    let own = match (&global.cert, &global.key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        (None, None) => None,
        _ => return Err(Failure::usage("a certificate comes with its key: give --cert and --key")),
    };
    let parts = IdentityParts {
        authorities: &authorities,
        certificate: own.as_ref().map(|(cert, key)| (cert.as_slice(), key.as_slice())),
        token: token(global.token_file.as_ref())?,
    };
    let identity = Identity::new(parts).map_err(|error| chain(&error))?;
    Ok(Some(identity))
}

/// The file named, else what the environment holds.
fn token(file: Option<&PathBuf>) -> Result<Option<String>, Failure> {
    let text = match file {
        Some(path) => String::from_utf8(read(path)?)
            .map_err(|_| Failure::other(format!("{} holds no token", path.display())))?,
        None => std::env::var("MANOR_TOKEN").unwrap_or_default(),
    };
    Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
}

fn system_authorities() -> Result<Vec<u8>, Failure> {
    let found = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
    found.ok_or_else(|| {
        Failure::new(Exit::Unreachable, "this system has no list of authorities that it trusts")
            .while_doing(NOT_CONNECTED)
            .hint("name the one that signed the daemon's certificate: --ca FILE, or MANOR_CA")
    })
}
