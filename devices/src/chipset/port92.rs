//! Port 0x92: fast A20 and the reset line of PS/2-era boards.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};

const FAST_RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;

/// The A20 bit reads back; the line itself is always open, as on every board of this century.
pub struct Port92 {
    a20: AtomicBool,
}

impl Port92 {
    pub const BASE: u64 = 0x92;
    pub const LEN: u64 = 1;

    #[must_use]
    pub fn new() -> Self {
        Self { a20: AtomicBool::new(true) }
    }
}

impl Default for Port92 {
    fn default() -> Self {
        Self::new()
    }
}

impl BusDevice for Port92 {
    fn name(&self) -> &str {
        "port92"
    }

    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(if self.a20.load(Ordering::Relaxed) { A20 } else { 0 });
    }

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        let &[value] = data else { return Effect::None };
        self.a20.store(value & A20 != 0, Ordering::Relaxed);
        if value & FAST_RESET != 0 { Effect::Reset } else { Effect::None }
    }
}

impl Component for Port92 {
    fn id(&self) -> &str {
        "port92"
    }

    fn kind(&self) -> &'static str {
        "port92"
    }

    fn reset(&self) {
        self.a20.store(true, Ordering::Relaxed);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &self.a20.load(Ordering::Relaxed))
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        self.a20.store(state.decode(self.kind(), 1)?, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a20_reads_back_and_bit_0_resets() {
        let port = Port92::new();
        let mut value = [0xff];
        assert_eq!(port.write(0, &[0]), Effect::None);
        port.read(0, &mut value);
        assert_eq!(value, [0]);
        assert_eq!(port.write(0, &[A20 | FAST_RESET]), Effect::Reset);
    }

    #[test]
    fn a_saved_port_comes_back() {
        let port = Port92::new();
        let _ = port.write(0, &[0]);
        let other = Port92::new();
        other.restore(&port.save().unwrap()).unwrap();
        assert!(!other.a20.load(Ordering::Relaxed));
        other.reset();
        assert!(other.a20.load(Ordering::Relaxed));
    }
}
