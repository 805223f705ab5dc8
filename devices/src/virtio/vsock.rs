//! Socket device (virtio 1.2 §5.10) whose packets are the host kernel's business: vhost-vsock
//! serves the receive and the transmit queue, and what is left here are identity, interrupts and
//! the event queue.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::backend::vhost::VsockBackend;
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::virtio::device::read_config_bytes;
use crate::virtio::{ActivateError, Activation, VirtioDevice, Workers, features};

#[cfg(test)]
mod tests;
mod worker;

use worker::VsockWorker;

const KIND: &str = "virtio-vsock";
const DEVICE_TYPE: u16 = 19;
/// Receive, transmit, events.
const QUEUE_SIZES: [u16; 3] = [128; 3];
/// Stream sockets alone need no feature; whole messages do.
const SEQPACKET: u64 = 1 << 1;

/// The device.
pub struct Vsock {
    /// Address of the guest.
    cid: u32,
    backend: Arc<dyn VsockBackend>,
    thread: Arc<IoThread>,
    /// Of the receive and the transmit queue.
    calls: [Arc<EventFd>; 2],
    /// The driver's connections are of another host, or another time: it has to be told.
    moved: bool,
}

impl Vsock {
    /// # Errors
    /// When the host has no events for it.
    pub fn new(
        cid: u32,
        backend: Arc<dyn VsockBackend>,
        thread: Arc<IoThread>,
    ) -> io::Result<Self> {
        let call = || EventFd::new(EFD_NONBLOCK).map(Arc::new);
        Ok(Self { cid, backend, thread, calls: [call()?, call()?], moved: false })
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
        self.backend.features() & SEQPACKET
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
        if let (Some(receive), Some(transmit)) = (activation.take(0), activation.take(1)) {
            let worker = VsockWorker {
                backend: self.backend.clone(),
                features: activation.features & (SEQPACKET | features::COMMON),
                calls: self.calls.clone(),
                data: [receive, transmit],
                events: activation.take(2),
                announce: std::mem::take(&mut self.moved),
                running: false,
                error: None,
            };
            workers.start_job(&self.thread, 0, worker)?;
        }
        Ok(workers)
    }

    fn reset(&mut self) {
        self.moved = false;
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
