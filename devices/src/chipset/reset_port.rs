//! [`ResetPort`]: the reset control register 0xCF9 alone, for machines without the PCI
//! configuration ports that surround it (there [`crate::pci::ConfigPorts`] has it).

use std::sync::atomic::{AtomicU8, Ordering};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};

/// The type of reset reads back, the trigger does not.
pub(crate) const RESET_TYPE: u8 = 0b1010;
pub(crate) const RESET_CPU: u8 = 0b100;

#[derive(Default)]
pub struct ResetPort {
    kind: AtomicU8,
}

impl ResetPort {
    pub const BASE: u64 = 0xcf9;
    pub const LEN: u64 = 1;

    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl BusDevice for ResetPort {
    fn name(&self) -> &str {
        "reset-port"
    }

    fn read(&self, _offset: u64, data: &mut [u8]) {
        match data {
            [value] => *value = self.kind.load(Ordering::Relaxed),
            _ => data.fill(0xff),
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        let &[value] = data else { return Effect::None };
        self.kind.store(value & RESET_TYPE, Ordering::Relaxed);
        if value & RESET_CPU != 0 { Effect::Reset } else { Effect::None }
    }
}

impl Component for ResetPort {
    fn id(&self) -> &str {
        "reset-port"
    }

    fn kind(&self) -> &'static str {
        "reset-port"
    }

    fn reset(&self) {
        self.kind.store(0, Ordering::Relaxed);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(Component::kind(self), 1, &self.kind.load(Ordering::Relaxed))
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let saved: u8 = state.decode(Component::kind(self), 1)?;
        self.kind.store(saved & RESET_TYPE, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_trigger_resets_and_the_type_survives_saving() {
        let port = ResetPort::new();
        assert_eq!(port.write(0, &[0x02]), Effect::None);
        assert_eq!(port.write(0, &[0x06]), Effect::Reset);
        let other = ResetPort::new();
        other.restore(&port.save().unwrap()).unwrap();
        let mut value = [0];
        other.read(0, &mut value);
        assert_eq!(value, [0x02]);
        other.reset();
        other.read(0, &mut value);
        assert_eq!(value, [0]);
    }
}
