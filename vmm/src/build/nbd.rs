//! Disks on NBD servers, from connections that came with the process.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use devices::backend::Disk;
use devices::backend::nbd::{LONGEST_NAME, NbdDisk, NbdSpec, NbdTls, NbdTlsParts};
use devices::standby::Errand;
use vmm_protocol::config::{self, Discard, Fd, Medium};

use super::disk::cache;
use super::{BuildError, Site, reserve};
use crate::notices::{tell_connected, tell_disconnected};
use crate::sandbox::Kind;

/// Of a certificate, or a chain of them.
const LONGEST_PEM: u64 = 1 << 20;
/// Nobody waits for a guest that starts.
const PATIENCE_AT_START: Duration = Duration::from_secs(10);
/// While a disk comes, a guest that runs can be asked for nothing else.
const PATIENCE_WHILE_RUNNING: Duration = Duration::from_secs(3);

/// Agree with the server of disk `id` for `queues` users at once.
pub(super) fn open(
    site: &mut Site<'_>,
    id: &str,
    nbd: &config::Nbd,
    medium: &Medium,
    queues: usize,
) -> Result<Arc<dyn Disk>, BuildError> {
    if nbd.export.len() > LONGEST_NAME {
        let reason = "must be at most 4096 bytes long";
        return Err(BuildError::config("name of an NBD export", &nbd.export, reason));
    }
    let tls = nbd.tls.as_ref().map(|tls| self::tls(site, id, tls)).transpose()?;
    let connected = Arc::new(AtomicBool::new(true));
    let spec = NbdSpec {
        socket: site.files.take(nbd.socket)?,
        export: nbd.export.clone(),
        tls,
        read_only: medium.read_only,
        cache: cache(medium.cache),
        discard: medium.discard == Discard::Unmap,
        block_size: medium.logical_block_size,
        reconnect_delay: Duration::from_secs(nbd.reconnect_delay.into()),
        patience: if site.confined { PATIENCE_WHILE_RUNNING } else { PATIENCE_AT_START },
        users: queues,
        ask: Box::new(tell_disconnected(id, &connected, &site.parts.notices)),
        back: Box::new(tell_connected(id, &connected, &site.parts.notices)),
    };
    let disk = if site.confined {
        let standby = &site.parts.reserve.remotes;
        NbdDisk::open(spec, |work| standby.send(work).ok_or_else(too_many))
    } else {
        let prepare = site.sandbox.entering(Kind::Remote);
        NbdDisk::open(spec, |work| Errand::start(reserve::REMOTE, prepare, work))
    };
    let disk = disk.map_err(BuildError::device(id))?;
    site.parts.connectors.insert(id.to_owned(), disk.connector());
    site.parts.connected.insert(id.to_owned(), connected);
    Ok(Arc::new(disk))
}

fn too_many() -> io::Error {
    io::Error::other(format!(
        "{} disks on servers have come while the guest runs, and no more can be had at once",
        reserve::REMOTES
    ))
}

fn tls(site: &mut Site<'_>, id: &str, tls: &config::NbdTls) -> Result<NbdTls, BuildError> {
    let mut text = |file: Fd| -> Result<Vec<u8>, BuildError> {
        let file: File = site.files.take_file(file)?;
        let mut text = Vec::new();
        file.take(LONGEST_PEM).read_to_end(&mut text).map_err(BuildError::device(id))?;
        Ok(text)
    };
    let authority = text(tls.authority)?;
    let client = match tls.client {
        Some((certificate, key)) => Some((text(certificate)?, text(key)?)),
        None => None,
    };
    NbdTls::new(&NbdTlsParts {
        authority: &authority,
        client: client.as_ref().map(|(certificate, key)| (&certificate[..], &key[..])),
        server_name: &tls.server_name,
    })
    .map_err(BuildError::device(id))
}
