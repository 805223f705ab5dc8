//! Where a PC's firmware finds a [`Vga`] without looking: its ports, and its window below 1 MiB.

use std::sync::Arc;

use super::device::{Model, State, Vga};
use super::spec::*;
use super::window::Window;
use crate::bus::{BusDevice, Effect};
use crate::sync::Lock;

impl Vga {
    /// The legacy ranges of the port bus: base and length of each.
    #[must_use]
    pub fn ports(self: &Arc<Self>) -> Vec<(u64, u64, Arc<dyn BusDevice>)> {
        let legacy = |base: u16, len: u64| {
            let device: Arc<dyn BusDevice> = Arc::new(Ports { vga: self.clone(), base });
            (u64::from(base), len, device)
        };
        let dispi: Arc<dyn BusDevice> = Arc::new(DispiPorts(self.clone()));
        match self.model {
            Model::Vga => vec![
                legacy(MONO_CRTC, MONO_CRTC_LEN),
                legacy(MONO_STATUS, 1),
                legacy(PORTS, PORTS_LEN),
                (DISPI_PORTS.into(), DISPI_PORTS_LEN, dispi),
            ],
            Model::Bochs => Vec::new(),
        }
    }

    /// The window of the memory bus, where the machine must have no RAM.
    #[must_use]
    pub fn legacy_window(self: &Arc<Self>) -> Option<(u64, u64, Arc<dyn BusDevice>)> {
        let window: Arc<dyn BusDevice> = Arc::new(LegacyWindow(self.clone()));
        (self.model == Model::Vga).then_some((WINDOW, WINDOW_LEN, window))
    }

    /// Where [`legacy_window`](Self::legacy_window) will be.
    pub const LEGACY_WINDOW: std::ops::Range<u64> = WINDOW..WINDOW + WINDOW_LEN;
}

/// A range of the legacy ports, each one byte wide: a wider access is several.
struct Ports {
    vga: Arc<Vga>,
    base: u16,
}

impl BusDevice for Ports {
    fn name(&self) -> &str {
        &self.vga.id
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = self.vga.state.hold();
        for (port, byte) in (self.base + offset as u16..).zip(data) {
            *byte = state.registers.read(port);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let mut state = self.vga.state.hold();
        for (port, byte) in (self.base + offset as u16..).zip(data) {
            state.registers.write(port, *byte);
        }
        Effect::None
    }
}

/// Index and data, 16 bits each.
struct DispiPorts(Arc<Vga>);

impl BusDevice for DispiPorts {
    fn name(&self) -> &str {
        &self.0.id
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.0.state.hold();
        let value = match offset {
            0 => state.dispi.index,
            _ => state.dispi.read(state.dispi.index.into()),
        };
        data.fill(0xff);
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let &[low, high] = data else { return Effect::None };
        let value = u16::from_le_bytes([low, high]);
        let mut state = self.0.state.hold();
        match offset {
            0 => state.dispi.index = value,
            _ => {
                let index = state.dispi.index.into();
                self.0.write_dispi(&mut state, index, value);
            }
        }
        Effect::None
    }
}

struct LegacyWindow(Arc<Vga>);

impl LegacyWindow {
    fn access<T>(&self, access: impl FnOnce(&mut Window<'_>) -> T) -> T {
        let State { registers, dispi, .. } = &mut *self.0.state.hold();
        access(&mut Window { memory: &self.0.memory, registers, dispi })
    }
}

impl BusDevice for LegacyWindow {
    fn name(&self) -> &str {
        &self.0.id
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        self.access(|window| {
            for (at, byte) in (offset..).zip(data) {
                *byte = window.read(at);
            }
        });
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        self.access(|window| {
            for (at, byte) in (offset..).zip(data) {
                window.write(at, *byte);
            }
        });
        Effect::None
    }
}
