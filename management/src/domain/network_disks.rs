//! Disks on servers: their first connection, and those after it.
//!
//! ```text
//! VMM: ConnectionWanted { id } ─▶ daemon: whose server, by its own definition ─▶ broker: connects
//!       ▲ again until it has one                                                   │
//!       └───────────────────────────── Connect { id } with the socket ◀────────────┘
//! ```
//! The daemon tries once each time it is asked, and remembers nothing: the next one is asked as well.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::{Broker, Peer};
use vmm_protocol::config::{Fd, Image, Nbd, NbdTls};
use vmm_protocol::control::Request;
use xml::DomainDef;
use xml::device::disk::Disk;

use super::actor::{Actor, Link, blocking};
use super::block_jobs;
use super::launch::Opener;
use crate::control::Vmm;
use crate::error::{Code, Error};
use crate::translate::{self, OpenDisk, nbd};

const TOLD: Duration = Duration::from_secs(5);

impl Opener<'_> {
    pub(super) fn network_disk(&mut self, disk: &Disk) -> Result<OpenDisk, Error> {
        let name = &disk.target.dev;
        let export = nbd::export(disk).ok_or_else(|| {
            let text = format!("disk {name} does not say where its NBD server is");
            Error::new(Code::InvalidXml, text)
        })?;
        let socket = connect(self.broker, &export.peer, name)?;
        let tls = match export.tls {
            Some(server_name) => Some(self.nbd_tls(server_name)?),
            None => None,
        };
        let image = Image::Nbd(Nbd {
            socket: self.table.add(socket),
            export: export.name,
            tls,
            reconnect_delay: export.reconnect_delay,
        });
        Ok(OpenDisk { image, below: Vec::new() })
    }

    /// Files of libvirt's names in the directory that the daemon's configuration names.
    fn nbd_tls(&mut self, server_name: String) -> Result<NbdTls, Error> {
        let dir = self.launch.nbd.tls_x509_cert_dir.clone();
        let with_own = self.broker.is_there(&dir.join("client-cert.pem"))?;
        let mut file = |what, name| -> Result<Fd, Error> { self.input(what, &dir.join(name)) };
        let authority = file("certificate of the NBD servers' authority", "ca-cert.pem")?;
        // A client without a certificate is as good for servers that ask for none.
        let client = if with_own {
            let certificate = file("NBD client's certificate", "client-cert.pem")?;
            Some((certificate, file("NBD client's key", "client-key.pem")?))
        } else {
            None
        };
        Ok(NbdTls { authority, client, server_name })
    }
}

fn connect(broker: &dyn Broker, peer: &Peer, disk: &str) -> Result<std::os::fd::OwnedFd, Error> {
    broker.connect(peer.clone()).map_err(|error| {
        let text = format!("disk {disk}: its NBD server cannot be reached");
        Error::new(Code::ResourceMissing, text).with_source(error)
    })
}

/// Disks whose server is being connected to: one attempt for each at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<BTreeSet<String>>>);

impl Attempts {
    fn begin(&self, disk: &str) -> Option<Attempt> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = under_way.insert(disk.to_owned());
        begun.then(|| Attempt { all: self.clone(), disk: disk.to_owned() })
    }
}

struct Attempt {
    all: Attempts,
    disk: String,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.disk);
    }
}

/// Bring the disk that the VMM calls `id` a new connection, if the definition has such a disk:
/// a VMM is not believed where its servers are. `copy`: where one that is in files is being copied to.
pub(crate) fn reconnect(
    attempts: &Attempts,
    broker: Arc<dyn Broker>,
    vmm: Vmm,
    live: &DomainDef,
    copy: Option<&Disk>,
    id: String,
) {
    let def = translate::with_aliases(live);
    let disk = def.devices.disks.iter().find(|disk| disk.alias.as_deref() == Some(&id));
    let on_server = |disk: &Disk| Some((disk.target.dev.clone(), nbd::export(disk)?));
    let Some((target, export)) = disk.and_then(on_server).or_else(|| on_server(copy?)) else {
        return tracing::warn!("a VMM wants a connection for a disk that is on no server");
    };
    let Some(attempt) = attempts.begin(&target) else { return };
    tokio::spawn(async move {
        let (peer, name) = (export.peer, attempt.disk.clone());
        let connected = blocking(move || connect(&*broker, &peer, &name)).await;
        let failure = match connected {
            Ok(socket) => {
                let told = vmm.tell_with(Request::Connect { id }, vec![socket], TOLD).await;
                told.err().map(|error| error.to_string())
            }
            Err(error) => Some(error.chain()),
        };
        if let Some(error) = failure {
            tracing::warn!(disk = attempt.disk, error, "no new connection to an NBD server");
        }
    });
}

impl Actor {
    pub(super) fn on_connection_wanted(&self, id: String, reason: &str) {
        let Some(run) = &self.run else { return };
        let Link::Up { vmm, .. } = &run.link else { return };
        let (disk, reason) = (super::clean(&id), super::clean(reason));
        tracing::warn!(domain = self.name, disk, reason, "a disk has lost its server");
        let broker = self.node.broker.clone();
        let copy = run.record.block_jobs.get(&id).and_then(block_jobs::destination);
        reconnect(&self.attempts, broker, vmm.clone(), &run.live.def, copy.as_ref(), id);
    }
}
