//! [`Slots`]: slots of the root bus that devices come into and leave while the guest runs, by ACPI
//! events (ACPI 6.5 §6.3): what a board has that knows no PCI Express, or a machine without root ports.
//!
//! ```text
//! 0x00 came (a read takes them)   0x04 asked to leave (a read takes them)   0x08 eject, by a write
//!
//! plug:   plugged(n) ── event ──▶ guest looks into slot n
//! unplug: request_removal(n) ── event ──▶ guest lets go, ejects ─▶ on_eject(n)
//! ```
//! Each register has a bit for each slot.

use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::sync::Lock;

const CAME: u64 = 0;
const ASKED: u64 = 4;
const EJECT: u64 = 8;

/// Tells the guest, by an ACPI event, to look at the registers.
pub trait SlotEvent: Send + Sync {
    fn slots_changed(&self);
}

pub struct Slots {
    event: Arc<dyn SlotEvent>,
    on_eject: OnceLock<Box<dyn Fn(u8) + Send + Sync>>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    came: u32,
    asked: u32,
}

impl Slots {
    pub const BASE: u64 = 0xae00;
    pub const LEN: u64 = 12;

    #[must_use]
    pub fn new(event: Arc<dyn SlotEvent>) -> Self {
        Self { event, on_eject: OnceLock::new(), state: Mutex::default() }
    }

    /// Called when the guest ejects what is in a slot: the device can go now. Runs on a vCPU: leave a
    /// message and return. Only the first call counts.
    pub fn on_eject(&self, call: impl Fn(u8) + Send + Sync + 'static) {
        let _ = self.on_eject.set(Box::new(call));
    }

    /// A device was put into the running machine's slot.
    pub fn plugged(&self, slot: u8) {
        self.state.hold().came |= bit(slot);
        self.event.slots_changed();
    }

    /// Ask the guest to let go of the device in a slot.
    pub fn request_removal(&self, slot: u8) {
        self.state.hold().asked |= bit(slot);
        self.event.slots_changed();
    }
}

fn bit(slot: u8) -> u32 {
    1 << (slot & 31)
}

impl BusDevice for Slots {
    fn name(&self) -> &str {
        "pci-slots"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut state = self.state.hold();
        let taken = match (offset, data.len()) {
            (CAME, 4) => std::mem::take(&mut state.came),
            (ASKED, 4) => std::mem::take(&mut state.asked),
            (EJECT, 4) => 0,
            _ => return data.fill(0xff),
        };
        data.copy_from_slice(&taken.to_le_bytes());
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        if let (EJECT, Ok(mask)) = (offset, data.try_into())
            && let Some(call) = self.on_eject.get()
        {
            let mask = u32::from_le_bytes(mask);
            (0..32).filter(|slot| mask & bit(*slot) != 0).for_each(call);
        }
        Effect::None
    }
}

impl Component for Slots {
    fn id(&self) -> &str {
        "pci-slots"
    }

    fn kind(&self) -> &'static str {
        "pci-slots"
    }

    fn reset(&self) {
        *self.state.hold() = State::default();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &*self.state.hold())
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        *self.state.hold() = state.decode(self.kind(), 1)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Event(AtomicU32);

    impl SlotEvent for Event {
        fn slots_changed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn rig() -> (Slots, Arc<Event>, Arc<Mutex<Vec<u8>>>) {
        let (event, ejected) = (Arc::<Event>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let slots = Slots::new(event.clone());
        let list = ejected.clone();
        slots.on_eject(move |slot| list.hold().push(slot));
        (slots, event, ejected)
    }

    fn read(slots: &Slots, offset: u64) -> u32 {
        let mut data = [0xee; 4];
        slots.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn what_comes_and_goes_is_told_once_and_ejected_by_its_bit() {
        let (slots, event, ejected) = rig();
        slots.plugged(3);
        slots.plugged(31);
        slots.request_removal(4);
        assert_eq!(event.0.load(Ordering::Relaxed), 3);
        assert_eq!((read(&slots, CAME), read(&slots, CAME)), (1 << 3 | 1 << 31, 0));
        assert_eq!((read(&slots, ASKED), read(&slots, ASKED)), (1 << 4, 0));
        let _ = slots.write(EJECT, &(1u32 << 4 | 1 << 31).to_le_bytes());
        assert_eq!(*ejected.hold(), [4, 31]);
    }

    #[test]
    fn what_is_pending_survives_a_save_and_no_reset() {
        let (slots, ..) = rig();
        slots.plugged(5);
        let saved = slots.save().unwrap();
        let (other, ..) = rig();
        other.restore(&saved).unwrap();
        slots.reset();
        assert_eq!((read(&slots, CAME), read(&other, CAME)), (0, 1 << 5));
    }

    #[test]
    fn odd_accesses_do_no_harm() {
        let (slots, _, ejected) = rig();
        slots.plugged(5);
        for offset in [0, 1, 2, 4, 8, 9, 12, u64::MAX] {
            for len in [0, 1, 2, 3, 8] {
                assert_eq!(slots.write(offset, &vec![0xff; len]), Effect::None);
                slots.read(offset, &mut vec![0; len]);
            }
        }
        assert_eq!((read(&slots, CAME), ejected.hold().len()), (1 << 5, 0));
    }
}
