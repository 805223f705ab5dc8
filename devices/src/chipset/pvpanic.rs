//! [`PvPanic`]: the ISA pvpanic port, by which a guest kernel tells that it crashed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};

const PANICKED: u8 = 1 << 0;
/// A crash kernel takes over; the machine runs on.
const CRASH_LOADED: u8 = 1 << 1;

/// Present only in machines that have a `<panic model='isa'/>`.
#[derive(Default)]
pub struct PvPanic {
    crash_loaded: AtomicBool,
}

impl PvPanic {
    pub const BASE: u64 = 0x505;
    pub const LEN: u64 = 1;

    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the guest said that its crash kernel took over.
    #[must_use]
    pub fn crash_loaded(&self) -> bool {
        self.crash_loaded.load(Ordering::Relaxed)
    }
}

impl BusDevice for PvPanic {
    fn name(&self) -> &str {
        "pvpanic"
    }

    fn read(&self, _offset: u64, data: &mut [u8]) {
        match data {
            [value] => *value = PANICKED | CRASH_LOADED,
            _ => data.fill(0xff),
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        let &[value] = data else { return Effect::None };
        if value & CRASH_LOADED != 0 {
            self.crash_loaded.store(true, Ordering::Relaxed);
        }
        if value & PANICKED != 0 { Effect::Panicked } else { Effect::None }
    }
}

impl Component for PvPanic {
    fn id(&self) -> &str {
        "pvpanic"
    }

    fn kind(&self) -> &'static str {
        "pvpanic"
    }

    fn reset(&self) {
        self.crash_loaded.store(false, Ordering::Relaxed);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &self.crash_loaded())
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        self.crash_loaded.store(state.decode(self.kind(), 1)?, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_and_a_loaded_crash_kernel_is_remembered() {
        let port = PvPanic::new();
        let mut events = [0];
        port.read(0, &mut events);
        assert_eq!(events, [3]);
        assert_eq!(port.write(0, &[CRASH_LOADED]), Effect::None);
        assert_eq!(port.write(0, &[PANICKED]), Effect::Panicked);
        assert_eq!(port.write(0, &[PANICKED, 0]), Effect::None, "the port is one byte wide");
        let other = PvPanic::new();
        other.restore(&port.save().unwrap()).unwrap();
        assert!(other.crash_loaded());
    }
}
