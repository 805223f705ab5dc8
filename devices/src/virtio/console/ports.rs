//! [`Ports`]: the ports, what the driver did with them, and the control messages that wait for it.
//!
//! ```text
//!  driver: DEVICE_READY          device: PORT_ADD, for each port
//!  driver: PORT_READY            device: CONSOLE_PORT, RESIZE, PORT_NAME, PORT_OPEN as they apply
//!  driver: PORT_OPEN 1/0         device: PORT_OPEN 1/0, as the host's side comes and goes
//! ```

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::PortConfig;
use super::spec::{self, event, message};
use crate::backend::chardev::InputListener;
use crate::limit::warn_limited;
use crate::sync::Lock;

/// Control messages that wait for buffers. Far more than a driver at work lets pile up.
const OUTBOX: usize = 256;

pub(super) struct Ports {
    /// By port number.
    pub(super) ports: Vec<Option<PortConfig>>,
    /// Something to do for the worker.
    pub(super) wake: EventFd,
    pub(super) state: Mutex<State>,
    /// By port: how much of the next chain of output has been passed on already.
    pub(super) passed: Vec<AtomicUsize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) ports: Vec<PortState>,
    pub(super) outbox: VecDeque<Vec<u8>>,
    /// Columns and rows of the console.
    pub(super) size: Option<(u16, u16)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PortState {
    /// The driver has set the port up.
    pub(super) ready: bool,
    pub(super) guest_open: bool,
    /// What the driver was told about the host's side.
    host_open: bool,
}

impl State {
    pub(super) fn new(ports: usize, size: Option<(u16, u16)>) -> Self {
        Self { ports: vec![PortState::default(); ports], outbox: VecDeque::new(), size }
    }

    fn send(&mut self, message: Vec<u8>) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back(message);
        } else {
            warn_limited!("a guest reads no control messages of its console device");
        }
    }

    fn send_size(&mut self, port: usize) {
        if let Some((columns, rows)) = self.size {
            let [c0, c1] = columns.to_le_bytes();
            let [r0, r1] = rows.to_le_bytes();
            self.send(message(port, event::RESIZE, 0, &[c0, c1, r0, r1]));
        }
    }
}

impl Ports {
    /// A message from the driver. What makes no sense is ignored.
    pub(super) fn control(&self, raw: [u8; spec::MESSAGE]) {
        let (port, event, value) = spec::parse(raw);
        let on = value != 0;
        if event == event::DEVICE_READY {
            if on {
                self.announce();
            }
            return;
        }
        let number = usize::try_from(port).unwrap_or(usize::MAX);
        let Some(Some(config)) = self.ports.get(number) else {
            return warn_limited!(port, event, "a control message names a port that is not there");
        };
        match event {
            event::PORT_READY if on => self.introduce(number, config),
            event::PORT_OPEN => {
                self.state.hold().ports[number].guest_open = on;
                config.backend.guest_opened(on);
            }
            _ => {}
        }
    }

    fn announce(&self) {
        let mut state = self.state.hold();
        for (number, _) in self.ports.iter().enumerate().filter(|(_, port)| port.is_some()) {
            state.send(message(number, event::PORT_ADD, 1, &[]));
        }
    }

    fn introduce(&self, number: usize, config: &PortConfig) {
        let mut state = self.state.hold();
        if config.console {
            state.send(message(number, event::CONSOLE_PORT, 1, &[]));
            state.send_size(number);
        }
        if let Some(name) = &config.name {
            let mut name = name.clone().into_bytes();
            name.push(0);
            state.send(message(number, event::PORT_NAME, 1, &name));
        }
        state.ports[number].ready = true;
        state.ports[number].host_open = false;
        drop(state);
        self.follow_host();
    }

    /// Tell the driver which ports the host's side opened or closed since it was last told.
    pub(super) fn follow_host(&self) {
        let mut state = self.state.hold();
        for (number, config) in self.ports.iter().enumerate() {
            let Some(config) = config else { continue };
            // A console has somebody to write to at all times: its history.
            let open = config.console || config.held_open || config.backend.is_connected();
            let port = &mut state.ports[number];
            if port.ready && port.host_open != open {
                port.host_open = open;
                state.send(message(number, event::PORT_OPEN, u16::from(open), &[]));
            }
        }
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) {
        let mut state = self.state.hold();
        state.size = Some((columns, rows));
        for (number, config) in self.ports.iter().enumerate() {
            let console = config.as_ref().is_some_and(|config| config.console);
            if console && state.ports[number].ready {
                state.send_size(number);
            }
        }
        drop(state);
        let _ = self.wake.write(1);
    }

    /// Let the backends know what the driver has open.
    pub(super) fn tell_backends(&self) {
        let state = self.state.hold().ports.clone();
        for (config, state) in self.ports.iter().zip(state) {
            if let Some(config) = config {
                config.backend.guest_opened(state.guest_open);
            }
        }
    }
}

impl InputListener for Ports {
    fn input_available(&self) {
        let _ = self.wake.write(1);
    }

    fn output_possible(&self) {
        let _ = self.wake.write(1);
    }

    fn connection_changed(&self, _connected: bool) {
        let _ = self.wake.write(1);
    }
}

/// The machine's handle on a running console device.
#[derive(Clone)]
pub struct ConsoleHandle(pub(super) Arc<Ports>);

impl ConsoleHandle {
    /// The terminal behind the console has this size now.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.0.resize(columns, rows);
    }
}
