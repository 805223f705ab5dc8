//! [`AcpiPm`]: the ACPI fixed hardware (ACPI 6.5 §4.8) at port 0x600: events, control, timer and
//! general-purpose events, on the system control interrupt.
//!
//! ```text
//! 0x00 PM1_STS   0x02 PM1_EN   0x04 PM1_CNT   0x08 PM_TMR   0x20 GPE0_STS  0x22 GPE0_EN  0x30 SMI_EN
//! ```

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::{GenerationEvent, PowerButton, ProcessorEvent};
use crate::bus::{BusDevice, Effect};
use crate::clock::Clock;
use crate::component::{Component, DeviceState, StateError};
use crate::irq::IrqLine;
use crate::pci::SlotEvent;
use crate::sync::Lock;

const TIMER_HZ: u128 = 3_579_545;

const POWER_BUTTON: u16 = 1 << 8;
const SLEEP_BUTTON: u16 = 1 << 9;
/// Global, power button, sleep button, RTC: what can be enabled. The timer raises no event.
const EVENTS: u16 = 1 << 5 | POWER_BUTTON | SLEEP_BUTTON | 1 << 10;
const WAKE: u16 = 1 << 15;

/// Events go to the SCI: there is no SMI, so ACPI mode is always on.
const SCI_ENABLE: u16 = 1 << 0;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SLEEP_TYPE_OFF: u16 = 5;
const SLEEP_ENABLE: u16 = 1 << 13;
/// Bus master reload and sleep type read back; global release and sleep enable are triggers.
const CONTROL_STORED: u16 = 1 << 1 | 7 << SLEEP_TYPE_SHIFT;

/// SMIs from the APM port count as set up, so firmware does not wait for one.
const SMI_ENABLE: u32 = 1 << 5;

/// The general-purpose event of the slots of the root bus: `_E01` in the tables.
const SLOT_EVENT: u8 = 1;
/// The general-purpose event of vCPUs that come and go: `_E02` in the tables.
const PROCESSOR_EVENT: u8 = 2;
/// The general-purpose event of the generation: `_E05` in the tables.
const GENERATION_EVENT: u8 = 5;

const GPE0: usize = 0x20;
const SMI: usize = 0x30;

/// The power management block.
pub struct AcpiPm {
    sci: Arc<dyn IrqLine>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    status: u16,
    enable: u16,
    control: u16,
    gpe_status: u16,
    gpe_enable: u16,
    /// Added to the clock, so that the timer goes on where it was saved.
    timer_base: u32,
}

impl State {
    fn registers(&self, timer: u32) -> [u8; AcpiPm::LEN as usize] {
        let mut bytes = [0; AcpiPm::LEN as usize];
        let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
        put(0, &self.status.to_le_bytes());
        put(2, &self.enable.to_le_bytes());
        put(4, &(self.control | SCI_ENABLE).to_le_bytes());
        put(8, &timer.to_le_bytes());
        put(GPE0, &self.gpe_status.to_le_bytes());
        put(GPE0 + 2, &self.gpe_enable.to_le_bytes());
        put(SMI, &SMI_ENABLE.to_le_bytes());
        bytes
    }

    fn raises(&self) -> bool {
        self.status & self.enable != 0 || self.gpe_status & self.gpe_enable != 0
    }

    /// One byte; whether it asks for sleep of the stored type.
    fn write_byte(&mut self, offset: usize, value: u8) -> bool {
        let low = u16::from(value);
        let high = low << 8;
        match offset {
            0 => self.status &= !low,
            1 => self.status &= !high,
            2 => self.enable = self.enable & 0xff00 | low & EVENTS,
            3 => self.enable = self.enable & 0x00ff | high & EVENTS,
            4 => self.control = self.control & 0xff00 | low & CONTROL_STORED,
            5 => {
                self.control = self.control & 0x00ff | high & CONTROL_STORED;
                return high & SLEEP_ENABLE != 0;
            }
            GPE0 => self.gpe_status &= !low,
            0x21 => self.gpe_status &= !high,
            0x22 => self.gpe_enable = self.gpe_enable & 0xff00 | low,
            0x23 => self.gpe_enable = self.gpe_enable & 0x00ff | high,
            _ => {}
        }
        false
    }
}

impl AcpiPm {
    pub const BASE: u64 = 0x600;
    pub const LEN: u64 = 0x80;

    #[must_use]
    pub fn new(sci: Arc<dyn IrqLine>, clock: Arc<dyn Clock>) -> Self {
        Self { sci, clock, state: Mutex::default() }
    }

    /// Press the sleep button.
    pub fn press_sleep_button(&self) {
        self.change(|state| state.status |= SLEEP_BUTTON);
    }

    /// Raise general-purpose event 0 to 15.
    pub fn raise_gpe(&self, event: u8) {
        self.change(|state| state.gpe_status |= 1 << (event & 15));
    }

    /// Change the registers, then drive the SCI by them. The line is driven under the lock, so
    /// that its last value is that of the last change.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.hold();
        let result = change(&mut state);
        self.sci.set(state.raises());
        result
    }

    fn ticks(&self) -> u32 {
        let ticks = self.clock.monotonic().as_nanos() * TIMER_HZ / 1_000_000_000;
        (ticks & 0xff_ffff) as u32
    }

    fn timer(&self, base: u32) -> u32 {
        self.ticks().wrapping_add(base) & 0xff_ffff
    }
}

impl PowerButton for AcpiPm {
    fn press(&self) {
        self.change(|state| state.status |= POWER_BUTTON);
    }
}

impl SlotEvent for AcpiPm {
    fn slots_changed(&self) {
        self.raise_gpe(SLOT_EVENT);
    }
}

impl ProcessorEvent for AcpiPm {
    fn processors_changed(&self) {
        self.raise_gpe(PROCESSOR_EVENT);
    }
}

impl GenerationEvent for AcpiPm {
    fn raise(&self) {
        self.raise_gpe(GENERATION_EVENT);
    }
}

impl BusDevice for AcpiPm {
    fn name(&self) -> &str {
        "acpi-pm"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = *self.state.hold();
        let registers = state.registers(self.timer(state.timer_base));
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        match registers.get(at..at.saturating_add(data.len())) {
            Some(bytes) => data.copy_from_slice(bytes),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let Ok(start) = usize::try_from(offset) else { return Effect::None };
        let (sleep, kind) = self.change(|state| {
            let mut sleep = false;
            for (at, &value) in (start..Self::LEN as usize).zip(data) {
                sleep |= state.write_byte(at, value);
            }
            (sleep, state.control >> SLEEP_TYPE_SHIFT & 7)
        });
        if sleep && kind == SLEEP_TYPE_OFF { Effect::PowerOff } else { Effect::None }
    }
}

impl Component for AcpiPm {
    fn id(&self) -> &str {
        "acpi-pm"
    }

    fn kind(&self) -> &'static str {
        "acpi-pm"
    }

    fn reset(&self) {
        self.change(|state| *state = State { timer_base: state.timer_base, ..State::default() });
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let mut state = *self.state.hold();
        state.timer_base = self.timer(state.timer_base);
        DeviceState::encode(self.kind(), 1, &state)
    }

    fn restore(&self, saved: &DeviceState) -> Result<(), StateError> {
        let mut saved: State = saved.decode(self.kind(), 1)?;
        saved.timer_base = saved.timer_base.wrapping_sub(self.ticks()) & 0xff_ffff;
        saved.enable &= EVENTS;
        saved.status &= EVENTS | WAKE;
        saved.control &= CONTROL_STORED;
        self.change(|state| *state = saved);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{FakeClock, FakeLine};

    struct Rig {
        pm: AcpiPm,
        line: Arc<FakeLine>,
        clock: Arc<FakeClock>,
    }

    fn rig() -> Rig {
        let (line, clock) = (Arc::new(FakeLine::default()), Arc::new(FakeClock::default()));
        Rig { pm: AcpiPm::new(line.clone(), clock.clone()), line, clock }
    }

    fn read16(pm: &AcpiPm, offset: u64) -> u16 {
        let mut data = [0; 2];
        pm.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    fn timer(pm: &AcpiPm) -> u32 {
        let mut data = [0; 4];
        pm.read(8, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn the_power_button_interrupts_while_enabled_until_acknowledged() {
        let Rig { pm, line, .. } = rig();
        pm.press();
        assert!(!line.is_high(), "not enabled");
        assert_eq!(pm.write(2, &POWER_BUTTON.to_le_bytes()), Effect::None);
        assert!(line.is_high());
        assert_eq!(read16(&pm, 0), POWER_BUTTON);
        assert_eq!(pm.write(0, &(!POWER_BUTTON).to_le_bytes()), Effect::None);
        assert!(line.is_high(), "another bit");
        assert_eq!(pm.write(1, &[1]), Effect::None);
        assert!(!line.is_high());
    }

    #[test]
    fn a_general_purpose_event_interrupts_while_enabled() {
        let Rig { pm, line, .. } = rig();
        assert_eq!(pm.write(0x22, &[0b10, 0]), Effect::None);
        pm.raise_gpe(2);
        assert!(!line.is_high());
        pm.raise_gpe(1);
        assert!(line.is_high());
        assert_eq!(pm.write(0x20, &[0xff, 0xff]), Effect::None);
        assert!(!line.is_high());
    }

    #[test]
    fn only_sleep_type_5_powers_off() {
        let Rig { pm, .. } = rig();
        let control = |kind: u16, enable: u16| (kind << SLEEP_TYPE_SHIFT | enable).to_le_bytes();
        assert_eq!(pm.write(4, &control(SLEEP_TYPE_OFF, 0)), Effect::None);
        assert_eq!(pm.write(4, &control(1, SLEEP_ENABLE)), Effect::None);
        assert_eq!(pm.write(4, &control(SLEEP_TYPE_OFF, SLEEP_ENABLE)), Effect::PowerOff);
        assert_eq!(pm.write(5, &[0x34]), Effect::PowerOff, "the high byte alone");
        assert_eq!(read16(&pm, 4) & SLEEP_ENABLE, 0);
        assert_eq!(read16(&pm, 4) & SCI_ENABLE, SCI_ENABLE);
    }

    #[test]
    fn the_timer_counts_at_its_rate_and_wraps_at_24_bits() {
        let Rig { pm, clock, .. } = rig();
        assert_eq!(timer(&pm), 0);
        clock.advance(Duration::from_secs(1));
        assert_eq!(timer(&pm), 3_579_545);
        clock.advance(Duration::from_secs(4));
        assert_eq!(timer(&pm), 5 * 3_579_545 - (1 << 24));
    }

    #[test]
    fn a_restored_timer_goes_on_where_it_was_saved() {
        let Rig { pm, clock, .. } = rig();
        clock.advance(Duration::from_secs(3));
        assert_eq!(pm.write(2, &POWER_BUTTON.to_le_bytes()), Effect::None);
        pm.press();
        let saved = pm.save().unwrap();
        let other = rig();
        other.clock.advance(Duration::from_secs(100));
        other.pm.restore(&saved).unwrap();
        assert_eq!(timer(&other.pm), timer(&pm));
        assert!(other.line.is_high(), "the event is still pending");
        other.pm.reset();
        assert!(!other.line.is_high());
    }

    #[test]
    fn firmware_finds_smis_set_up_and_odd_accesses_do_no_harm() {
        let Rig { pm, .. } = rig();
        assert_eq!(read16(&pm, 0x30) & 0x20, 0x20);
        for offset in [0, 1, 3, 7, 0x1f, 0x7f, u64::MAX] {
            for len in [0, 1, 2, 3, 4, 8] {
                let _ = pm.write(offset, &vec![0; len]);
                pm.read(offset, &mut vec![0; len]);
            }
        }
    }
}
