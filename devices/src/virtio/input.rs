//! Input devices (virtio 1.2 §5.8): a keyboard, a mouse or a tablet that sends Linux's input events.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::component::{DeviceState, StateError};
use crate::input::InputSink;
use crate::io_thread::IoThread;
use crate::sync::Lock;
use crate::virtio::device::read_config_bytes;
use crate::virtio::{ActivateError, Activation, VirtioDevice, Workers};

mod outbox;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

use outbox::{Outbox, Sink};
use spec::select;
use worker::InputWorker;

const KIND: &str = "virtio-input";
const DEVICE_TYPE: u16 = 18;
/// Events to the driver, status (keyboard lights) from it.
const QUEUE_SIZES: [u16; 2] = [64; 2];

/// What a device is to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Keyboard,
    /// Tells where the pointer moved.
    Mouse,
    /// Tells where the pointer is.
    Tablet,
}

/// The device.
pub struct Input {
    role: Role,
    thread: Arc<IoThread>,
    outbox: Arc<Outbox>,
    state: State,
}

/// What the driver asked to see in the configuration space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    select: u8,
    subselect: u8,
}

impl Input {
    /// # Errors
    /// When the host has no event for it.
    pub fn new(role: Role, thread: Arc<IoThread>) -> io::Result<Self> {
        let outbox = Arc::new(Outbox::new()?);
        Ok(Self { role, thread, outbox, state: State::default() })
    }

    /// Where what a user does goes in.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn InputSink> {
        Arc::new(Sink { role: self.role, outbox: self.outbox.clone() })
    }
}

impl VirtioDevice for Input {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn device_type(&self) -> u16 {
        DEVICE_TYPE
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let State { select, subselect } = self.state;
        let content = spec::config(self.role, select, subselect);
        let mut config = [0; 8 + spec::LONGEST];
        config[0] = select;
        config[1] = subselect;
        config[2] = content.len() as u8;
        config[8..8 + content.len()].copy_from_slice(&content);
        read_config_bytes(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        for (at, value) in (offset..).zip(data) {
            match at {
                select::SELECT => self.state.select = *value,
                select::SUBSELECT => self.state.subselect = *value,
                _ => {}
            }
        }
    }

    fn activate(&mut self, mut activation: Activation) -> Result<Workers, ActivateError> {
        let mut workers = Workers::default();
        if let Some(events) = activation.take(0) {
            let status = activation.take(1);
            let queues = std::iter::once(events).chain(status).collect();
            let worker = InputWorker { outbox: self.outbox.clone() };
            workers.start(&self.thread, worker, queues)?;
            self.outbox.state.hold().driver = true;
        }
        Ok(workers)
    }

    fn reset(&mut self) {
        self.state = State::default();
        self.outbox.forget();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(KIND, 1, &self.state)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        self.state = state.decode(KIND, 1)?;
        Ok(())
    }
}
