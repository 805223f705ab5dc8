//! virtio-console (virtio 1.2 §5.3): consoles and named channels, over one control channel.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::backend::chardev::{ConsoleBackend, InputListener};
use crate::component::{DeviceState, StateError};
use crate::io_thread::IoThread;
use crate::sync::Lock;
use crate::virtio::device::read_config_bytes;
use crate::virtio::{ActivateError, Activation, VirtioDevice, Workers};

mod ports;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

pub use ports::ConsoleHandle;
use ports::{Ports, State};
pub use spec::feature;
use worker::{ConsoleWorker, Role};

const KIND: &str = "virtio-console";
const DEVICE_TYPE: u16 = 3;
const QUEUE_SIZE: u16 = 64;

/// A port as configured.
pub struct PortConfig {
    /// What the guest finds it by: `org.qemu.guest_agent.0`.
    pub name: Option<String>,
    /// A console (hvc) and not a channel.
    pub console: bool,
    /// The host's side counts as open, whoever is there.
    pub held_open: bool,
    pub backend: Arc<dyn ConsoleBackend>,
}

/// The device.
pub struct Console {
    ports: Arc<Ports>,
    queue_sizes: Vec<u16>,
    thread: Arc<IoThread>,
}

impl Console {
    /// `ports`: by port number. Their count is what the guest is told as the most there can be:
    /// every port more costs it two queues to set up.
    pub fn new(mut ports: Vec<Option<PortConfig>>, thread: Arc<IoThread>) -> io::Result<Self> {
        if ports.is_empty() {
            ports.push(None);
        }
        let state = State::new(ports.len(), None);
        let wake = EventFd::new(EFD_NONBLOCK)?;
        let passed = ports.iter().map(|_| AtomicUsize::new(0)).collect();
        let ports = Arc::new(Ports { ports, wake, state: Mutex::new(state), passed });
        let listener: Arc<dyn InputListener> = ports.clone();
        for port in ports.ports.iter().flatten() {
            port.backend.listen(Arc::downgrade(&listener));
        }
        let queue_sizes = vec![QUEUE_SIZE; 2 * ports.ports.len() + 2];
        Ok(Self { ports, queue_sizes, thread })
    }

    #[must_use]
    pub fn handle(&self) -> ConsoleHandle {
        ConsoleHandle(self.ports.clone())
    }

    fn roles(&self, multiport: bool) -> Vec<(u16, Role)> {
        let count = if multiport { self.ports.ports.len() } else { 1 };
        let mut roles = vec![];
        for port in 0..count {
            let queue = spec::rx_queue(port) as u16;
            roles.extend([(queue, Role::Input(port)), (queue + 1, Role::Output(port))]);
        }
        if multiport {
            let control =
                [(spec::CONTROL_RX, Role::ControlInput), (spec::CONTROL_TX, Role::ControlOutput)];
            roles.extend(control);
        }
        roles
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        feature::SIZE | feature::MULTIPORT
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let (columns, rows) = self.ports.state.hold().size.unwrap_or((80, 25));
        let mut config = Vec::with_capacity(8);
        config.extend_from_slice(&columns.to_le_bytes());
        config.extend_from_slice(&rows.to_le_bytes());
        config.extend_from_slice(&(self.ports.ports.len() as u32).to_le_bytes());
        read_config_bytes(&config, offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let multiport = activation.has(feature::MULTIPORT);
        let (roles, queues) = self
            .roles(multiport)
            .into_iter()
            .filter_map(|(index, role)| Some((role, activation.take(usize::from(index))?)))
            .unzip();
        let worker = ConsoleWorker { ports: self.ports.clone(), roles, multiport };
        let mut workers = Workers::default();
        workers.start(&self.thread, worker, queues)?;
        Ok(workers)
    }

    fn reset(&mut self) {
        {
            let mut state = self.ports.state.hold();
            *state = State::new(self.ports.ports.len(), state.size);
        }
        self.ports.passed.iter().for_each(|passed| passed.store(0, Ordering::Relaxed));
        self.ports.tell_backends();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(KIND, 1, &*self.ports.state.hold())
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let saved: State = state.decode(KIND, 1)?;
        if saved.ports.len() != self.ports.ports.len() {
            let reason =
                format!("it has {} ports, there are {}", saved.ports.len(), self.ports.ports.len());
            return Err(StateError::Mismatch { kind: KIND, reason });
        }
        *self.ports.state.hold() = saved;
        self.ports.tell_backends();
        Ok(())
    }
}
