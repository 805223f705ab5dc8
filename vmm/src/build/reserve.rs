//! [`Reserve`]: what devices that come while the guest runs need, and a process that is confined cannot
//! have any more. What such a device leaves is there for the next.

use std::sync::Arc;

use devices::backend::Rings;
use devices::io_thread::IoThread;
use devices::standby::Standby;
use vmm_protocol::config::Machine;

use super::BuildError;
use crate::sandbox::{Kind, Sandbox};

/// Names the thread of a disk on a server.
pub(super) const REMOTE: &str = "nbd";
/// Disks on servers that come while the guest runs, at a time. Each thread costs some 40 KiB.
pub(super) const REMOTES: usize = 4;
/// Queues of raw disks that come while the guest runs; those of more disks do without.
const RINGS: usize = 4;
/// Of the longest queue that a disk has by default.
const RING_DEPTH: u16 = 256;

#[derive(Default)]
pub(crate) struct Reserve {
    pub(super) rings: Rings,
    pub(super) remotes: Standby,
    /// Of connections between a guest and programs of the host: a guest has one vsock device, which may
    /// come late. None: nothing comes.
    pub(super) sockets: Option<Arc<IoThread>>,
}

impl Reserve {
    pub(super) fn new(machine: Machine, sandbox: &Sandbox) -> Result<Self, BuildError> {
        if machine == Machine::Microvm {
            // Nothing comes there.
            return Ok(Self::default());
        }
        let rings = Rings::new(RINGS, RING_DEPTH).unwrap_or_else(|error| {
            tracing::info!(%error, "io_uring is not available, I/O of disks to come will block");
            Rings::default()
        });
        let sockets = sockets(sandbox)?;
        let sandbox = sandbox.clone();
        let remotes = Standby::new(REMOTE, REMOTES, move || sandbox.enter(Kind::Remote));
        let remotes =
            remotes.map_err(|source| BuildError::Thread { name: REMOTE.to_owned(), source })?;
        Ok(Self { rings, remotes, sockets: Some(sockets) })
    }
}

/// The thread that carries the packets of vsock where the host's kernel does not.
pub(super) fn sockets(sandbox: &Sandbox) -> Result<Arc<IoThread>, BuildError> {
    let name = "vsock".to_owned();
    IoThread::spawn(&name, sandbox.entering(Kind::Vsock))
        .map_err(|source| BuildError::Thread { name, source })
}
