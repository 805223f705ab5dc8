//! Disks on NBD servers, from connections that came with the process.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use devices::backend::Disk;
use devices::backend::nbd::{LONGEST_NAME, NbdDisk, NbdSpec, NbdTls, NbdTlsParts};
use vmm_protocol::config::{self, Discard, Fd, Medium};

use super::disk::cache;
use super::{BuildError, Site};
use crate::notices::{tell_connected, tell_disconnected};
use crate::sandbox::Kind;

/// Of a certificate, or a chain of them.
const LONGEST_PEM: u64 = 1 << 20;
const THREAD: &str = "nbd";

/// Agree with the server of disk `id` for `queues` users at once.
pub(super) fn open(
    site: &mut Site<'_>,
    id: &str,
    nbd: &config::Nbd,
    medium: &Medium,
    queues: usize,
) -> Result<Arc<dyn Disk>, BuildError> {
    if site.confined {
        // Its thread cannot be had any more.
        let reason = "on a server does not come while the guest runs";
        return Err(BuildError::config("disk", id, reason));
    }
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
        users: queues,
        ask: Box::new(tell_disconnected(id, &connected, &site.parts.notices)),
        back: Box::new(tell_connected(id, &connected, &site.parts.notices)),
    };
    let disk = NbdDisk::open(spec, THREAD, site.sandbox.entering(Kind::Remote))
        .map_err(BuildError::device(id))?;
    site.parts.connectors.insert(id.to_owned(), disk.connector());
    site.parts.connected.insert(id.to_owned(), connected);
    Ok(Arc::new(disk))
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
