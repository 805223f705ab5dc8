//! Socket device (virtio 1.2 §5.10). Its packets are the host kernel's business, where there is
//! vhost-vsock: that serves the receive and the transmit queue, and what is left here are identity,
//! interrupts and the event queue. Elsewhere [`Sockets`] carries them.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::backend::vhost::VringBackend;
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::limit::warn_limited;
use crate::virtio::device::read_config_bytes;
use crate::virtio::handed::{self, Handed};
use crate::virtio::{ActivateError, Activation, ActiveQueue, VirtioDevice, Workers, features};

mod sockets;
#[cfg(test)]
mod tests;
mod worker;

use sockets::SocketWorker;
pub use sockets::Sockets;
use worker::VsockWorker;

const KIND: &str = "virtio-vsock";
const DEVICE_TYPE: u16 = 19;
/// Receive, transmit, events.
const QUEUE_SIZES: [u16; 3] = [128; 3];
/// Stream sockets alone need no feature; whole messages do.
const SEQPACKET: u64 = 1 << 1;
/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET
const TRANSPORT_RESET: u32 = 0;

/// The device.
pub struct Vsock {
    /// Address of the guest.
    cid: u32,
    host: Host,
    thread: Arc<IoThread>,
    /// The driver's connections are of another host, or another time: it has to be told.
    moved: bool,
}

/// Who takes the guest's packets.
enum Host {
    Kernel {
        backend: Arc<dyn VringBackend>,
        /// Of the receive and the transmit queue.
        calls: Vec<Arc<EventFd>>,
    },
    Sockets(Arc<Sockets>),
}

impl Vsock {
    /// A device whose packets the host's kernel serves.
    ///
    /// # Errors
    /// When the host has no events for it.
    pub fn new(
        cid: u32,
        backend: Arc<dyn VringBackend>,
        thread: Arc<IoThread>,
    ) -> io::Result<Self> {
        let host = Host::Kernel { backend, calls: handed::calls(2)? };
        Ok(Self { cid, host, thread, moved: false })
    }

    /// A device whose connections go through a socket of the host.
    #[must_use]
    pub fn through(cid: u32, sockets: Arc<Sockets>, thread: Arc<IoThread>) -> Self {
        Self { cid, host: Host::Sockets(sockets), thread, moved: false }
    }
}

impl VirtioDevice for Vsock {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        match &self.host {
            Host::Kernel { backend, .. } => backend.features() & SEQPACKET,
            Host::Sockets(_) => 0,
        }
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let mut workers = Workers::default();
        // A driver that enabled one of the two only is none that could do anything.
        let (Some(receive), Some(transmit)) = (activation.take(0), activation.take(1)) else {
            return Ok(workers);
        };
        let events = activation.take(2);
        let announce = std::mem::take(&mut self.moved);
        match &self.host {
            Host::Kernel { backend, calls } => {
                let features = activation.features & (SEQPACKET | features::COMMON);
                let queues = vec![receive, transmit];
                let data = Handed::new(backend.clone(), features, calls.clone(), queues);
                let worker = VsockWorker { data, events, announce, error: None };
                workers.start_job(&self.thread, 0, worker)?;
            }
            Host::Sockets(sockets) => {
                // Always there: the worker before it gave them back when it stopped.
                if let Some(worker) = SocketWorker::new(sockets, announce) {
                    let queues = [receive, transmit].into_iter().chain(events).collect();
                    workers.start(&self.thread, worker, queues)?;
                }
            }
        }
        Ok(workers)
    }

    fn reset(&mut self) {
        self.moved = false;
        if let Host::Sockets(sockets) = &self.host {
            sockets.reset();
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(KIND, 1, &())
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state.decode::<()>(KIND, 1)?;
        // §5.10.6.7: the device may have another CID now, and no connection survived.
        self.moved = true;
        Ok(())
    }
}

/// Tell the driver that its connections are gone (§5.10.6.7).
fn tell_reset(events: &mut ActiveQueue) {
    match events.next() {
        Some(mut chain) => {
            let written = if chain.write_obj(TRANSPORT_RESET.to_le()) { 4 } else { 0 };
            events.complete(chain, written);
            events.flush();
        }
        None => warn_limited!("a guest hears too late that its vsock connections are gone"),
    }
}
