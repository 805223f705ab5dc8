//! [`EventDevice`]: what a board with hardware-reduced ACPI (ACPI 6.5 §4.1, §4.8.3.7) has in the
//! place of the fixed hardware: pending events, which the tables' Generic Event Device (§5.6.9)
//! reads, and the sleep registers. No timer, no enables: nothing that a kernel sets up at boot.
//!
//! ```text
//! 0x00 pending events (a read takes them)   0x01 sleep control   0x02 sleep status
//! ```

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::{GenerationEvent, PowerButton};
use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::irq::IrqLine;
use crate::sync::Lock;

const POWER_BUTTON: u8 = 1 << 0;
const GENERATION: u8 = 1 << 1;

const PENDING: u64 = 0;
const SLEEP_CONTROL: u64 = 1;
const SLEEP_STATUS: u64 = 2;

const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_OFF: u8 = 5;
const SLEEP_ENABLE: u8 = 1 << 5;

/// The line is high while events are pending.
pub struct EventDevice {
    line: Arc<dyn IrqLine>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    pending: u8,
}

impl EventDevice {
    pub const BASE: u64 = 0x600;
    pub const LEN: u64 = 3;

    #[must_use]
    pub fn new(line: Arc<dyn IrqLine>) -> Self {
        Self { line, state: Mutex::default() }
    }

    /// Change what is pending, and drive the line by it, under the lock: the line's last value is
    /// that of the last change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.hold();
        let result = change(&mut state);
        self.line.set(state.pending != 0);
        result
    }
}

impl PowerButton for EventDevice {
    fn press(&self) {
        self.change(|state| state.pending |= POWER_BUTTON);
    }
}

impl GenerationEvent for EventDevice {
    fn raise(&self) {
        self.change(|state| state.pending |= GENERATION);
    }
}

impl BusDevice for EventDevice {
    fn name(&self) -> &str {
        "acpi-events"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        match (offset, data) {
            (PENDING, [value]) => *value = self.change(|state| std::mem::take(&mut state.pending)),
            (SLEEP_CONTROL | SLEEP_STATUS, [value]) => *value = 0,
            (_, data) => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let off = SLEEP_TYPE_OFF << SLEEP_TYPE_SHIFT | SLEEP_ENABLE;
        match (offset, data) {
            (SLEEP_CONTROL, &[value]) if value == off => Effect::PowerOff,
            _ => Effect::None,
        }
    }
}

impl Component for EventDevice {
    fn id(&self) -> &str {
        "acpi-events"
    }

    fn kind(&self) -> &'static str {
        "acpi-events"
    }

    fn reset(&self) {
        self.change(|state| *state = State::default());
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &*self.state.hold())
    }

    fn restore(&self, saved: &DeviceState) -> Result<(), StateError> {
        let saved: State = saved.decode(self.kind(), 1)?;
        self.change(|state| state.pending = saved.pending & (POWER_BUTTON | GENERATION));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeLine;

    fn rig() -> (EventDevice, Arc<FakeLine>) {
        let line = Arc::new(FakeLine::default());
        (EventDevice::new(line.clone()), line)
    }

    fn pending(device: &EventDevice) -> u8 {
        let mut value = [0xee];
        device.read(PENDING, &mut value);
        value[0]
    }

    #[test]
    fn a_pressed_button_interrupts_until_it_is_read() {
        let (device, line) = rig();
        assert_eq!(pending(&device), 0);
        device.press();
        device.press();
        assert!(line.is_high());
        assert_eq!(pending(&device), POWER_BUTTON);
        assert!(!line.is_high());
        assert_eq!(pending(&device), 0);
    }

    #[test]
    fn only_sleep_type_5_powers_off() {
        let (device, _) = rig();
        let control = |kind: u8, enable: u8| [kind << SLEEP_TYPE_SHIFT | enable];
        assert_eq!(device.write(SLEEP_CONTROL, &control(SLEEP_TYPE_OFF, 0)), Effect::None);
        assert_eq!(device.write(SLEEP_CONTROL, &control(1, SLEEP_ENABLE)), Effect::None);
        let off = control(SLEEP_TYPE_OFF, SLEEP_ENABLE);
        assert_eq!(device.write(SLEEP_CONTROL, &off), Effect::PowerOff);
        assert_eq!(device.write(SLEEP_STATUS, &off), Effect::None);
    }

    #[test]
    fn a_pending_event_survives_a_save_and_no_reset() {
        let (device, _) = rig();
        device.press();
        let saved = device.save().unwrap();
        let (other, line) = rig();
        other.restore(&saved).unwrap();
        assert!(line.is_high());
        other.reset();
        assert!(!line.is_high());
        assert_eq!(pending(&other), 0);
    }

    #[test]
    fn odd_accesses_do_no_harm() {
        let (device, line) = rig();
        device.press();
        for offset in [0, 1, 2, 3, u64::MAX] {
            for len in [0, 2, 3, 4, 8] {
                assert_eq!(device.write(offset, &vec![0x34; len]), Effect::None);
                device.read(offset, &mut vec![0; len]);
            }
        }
        assert!(line.is_high(), "only a read of the byte itself takes the event");
    }
}
