//! Disks on NBD servers: what of them can be had, and where the server is.

use broker::Peer;
use xml::YesNo;
use xml::device::disk::{
    Disk, DiskDevice, DiskFormat, DiskSource, HostTransport, Location, NetworkProtocol, SourceHost,
};

use super::report::Report;

/// IANA's.
const PORT: u16 = 10809;
/// Of the protocol.
const LONGEST_NAME: usize = 4096;
/// Seconds that requests wait for a lost server where the definition says nothing: about as long as
/// a guest waits for a disk of its own.
const RECONNECT_DELAY: u32 = 30;

/// A server, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    pub peer: Peer,
    pub name: String,
    /// The name in the server's certificate, if it is reached by TLS.
    pub tls: Option<String>,
    pub reconnect_delay: u32,
}

/// None: the disk is no NBD disk, or its definition is not complete.
pub(crate) fn export(disk: &Disk) -> Option<Export> {
    let Location::Network { protocol: NetworkProtocol::Nbd, source } = disk.location() else {
        return None;
    };
    let host = source.hosts.first()?;
    let peer = match host.transport {
        Some(HostTransport::Unix) => Peer::Unix { path: host.socket.clone()? },
        _ => {
            let port = host.port.unwrap_or(PORT);
            Peer::Tcp { host: host.name.clone()?, port }
        }
    };
    let tls = (source.tls == Some(YesNo::Yes))
        .then(|| source.tls_hostname.clone().or_else(|| host.name.clone()));
    Some(Export {
        peer,
        name: source.name.clone().unwrap_or_default(),
        tls: match tls {
            Some(name) => Some(name?),
            None => None,
        },
        reconnect_delay: source.reconnect.and_then(|r| r.delay).unwrap_or(RECONNECT_DELAY),
    })
}

/// A disk of type='network'.
pub(super) fn check(disk: &Disk, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    let Location::Network { protocol, source } = disk.location() else { return };
    if protocol != NetworkProtocol::Nbd {
        let message = format!(
            "a disk over {protocol}; there is nbd, and what the host mounts (a pool of type netfs) or \
             attaches itself (type='block')"
        );
        return report.refuse(&at("source/@protocol"), message);
    }
    if disk.device() == DiskDevice::Cdrom && !disk.read_only {
        report.invalid(
            &at("readonly"),
            "a CD-ROM on a server is read only: add <readonly/>".to_owned(),
        );
    }
    let format = disk.driver.as_ref().and_then(|driver| driver.format);
    if let Some(format) = format.filter(|format| *format != DiskFormat::Raw) {
        let message =
            format!("an image in {format} on an NBD server; have the server open it as that");
        report.refuse(&at("driver/@type"), message);
    }
    check_source(source, &at("source"), report);
}

fn check_source(source: &DiskSource, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    if source.name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
        let message = format!("the name of an export has at most {LONGEST_NAME} bytes");
        report.invalid(&at("@name"), message);
    }
    report.refuse_if(source.query.is_some(), &at("@query"), "a query: it is for http");
    report.refuse_if(source.snapshot.is_some(), &at("snapshot"), "a snapshot on a server");
    match source.hosts.as_slice() {
        [host] => check_host(host, source, &at("host"), report),
        [] => report.missing(&at("host"), "a <host> says where the NBD server is"),
        _ => report.refuse(&at("host[2]"), "several servers of one disk"),
    }
}

fn check_host(host: &SourceHost, source: &DiskSource, path: &str, report: &mut Report<'_>) {
    let at = |name: &str| format!("{path}/{name}");
    match host.transport {
        None | Some(HostTransport::Tcp) => {
            if host.name.as_ref().is_none_or(String::is_empty) {
                report.missing(path, "name='…' says which host it is");
            }
            if host.port == Some(0) {
                report.invalid(&at("@port"), "there is no port 0".to_owned());
            }
        }
        Some(HostTransport::Unix) => {
            match &host.socket {
                None => report.missing(path, "socket='…' says where it listens"),
                Some(socket) if !socket.is_absolute() => {
                    let message = format!("{} is no absolute path", socket.display());
                    report.invalid(&at("@socket"), message);
                }
                Some(_) => {}
            }
            if source.tls == Some(YesNo::Yes) && source.tls_hostname.is_none() {
                let message =
                    "TLS over a unix socket: tlsHostname='…' is the name in its certificate";
                report.missing(path, message);
            }
        }
        Some(HostTransport::Rdma) => {
            report.refuse(&at("@transport"), "RDMA; use tcp or unix");
        }
    }
}
