//! [`Processors`]: vCPUs that come and go while the guest runs, by ACPI events (ACPI 6.5 §8.4), with the
//! registers that firmware and tables know from QEMU's boards (`docs/specs/acpi_cpu_hotplug`).
//!
//! ```text
//! read:  0x0 u32 upper half of the command's answer     0x4 u8 status   0x8 u32 the command's answer
//! write: 0x0 u32 select a vCPU   0x4 u8 control   0x5 u8 command        0x8 u32 the command's data
//!
//! plug:   insert(n) ── event ──▶ guest finds it, wakes it by INIT and SIPI
//! unplug: request_removal(n) ── event ──▶ guest stops using it, ejects ─▶ on_eject(n)
//! ```

use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::sync::Lock;

const SELECT: u64 = 0;
const STATUS: u64 = 4;
const CONTROL: u64 = 4;
const COMMAND: u64 = 5;
const DATA: u64 = 8;

// Status, and control: what is pending is taken by writing its bit.
const ENABLED: u8 = 1 << 0;
const INSERTING: u8 = 1 << 1;
const REMOVING: u8 = 1 << 2;
const EJECT: u8 = 1 << 3;

/// Select the next vCPU of which something is pending.
const GET_PENDING: u8 = 0;
const OST_EVENT: u8 = 1;
const OST_STATUS: u8 = 2;
const GET_APIC_ID: u8 = 3;

/// `_OST` of an ejection (ACPI 6.5 §6.3.5.2): of one that we asked for, and of the guest's own.
const OST_EJECTION: [u32; 2] = [3, 0x103];
/// From here on a status says that it did not happen; 0x84 that it is under way.
const OST_REFUSED: u32 = 0x80;
const OST_IN_PROGRESS: u32 = 0x84;

/// Tells the guest, by an ACPI event, to look at the registers.
pub trait ProcessorEvent: Send + Sync {
    fn processors_changed(&self);
}

type Call<T> = OnceLock<Box<dyn Fn(T) + Send + Sync>>;

/// Which vCPUs the guest has. The first stays.
pub struct Processors {
    apic_ids: Vec<u32>,
    event: Arc<dyn ProcessorEvent>,
    on_eject: Call<u16>,
    on_refusal: Call<(u16, u32)>,
    state: Mutex<State>,
}

/// Sets have a bit for each vCPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    present: u64,
    inserting: u64,
    removing: u64,
    /// Asked to leave, whether the guest has looked or not.
    leaving: u64,
    selector: u32,
    command: u8,
    ost_event: u32,
}

impl State {
    fn is_pending(&self, index: u16) -> bool {
        (self.inserting | self.removing) & bit(index) != 0
    }
}

impl Processors {
    pub const LEN: u64 = 12;
    /// As many as a set has room for.
    pub const MOST: usize = 64;

    /// Of the vCPUs with these APIC ids the first `present` are there.
    #[must_use]
    pub fn new(apic_ids: Vec<u32>, present: u16, event: Arc<dyn ProcessorEvent>) -> Self {
        debug_assert!(apic_ids.len() <= Self::MOST);
        let present = (0..present).fold(1, |set, index| set | bit(index));
        let state = State { present, ..State::default() };
        Self {
            apic_ids,
            event,
            on_eject: OnceLock::new(),
            on_refusal: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    /// Called when the guest has ejected a vCPU: it must not run any more. Runs on a vCPU, maybe on
    /// that one: leave a message and return. Only the first call counts.
    pub fn on_eject(&self, call: impl Fn(u16) + Send + Sync + 'static) {
        let _ = self.on_eject.set(Box::new(call));
    }

    /// Called when the guest says that it keeps a vCPU, with its reason (`_OST`). Runs on a vCPU. Only
    /// the first call counts.
    pub fn on_refusal(&self, call: impl Fn((u16, u32)) + Send + Sync + 'static) {
        let _ = self.on_refusal.set(Box::new(call));
    }

    #[must_use]
    pub fn is_present(&self, index: u16) -> bool {
        self.state.hold().present & bit(index) != 0
    }

    /// The set of those that are there.
    #[must_use]
    pub fn present(&self) -> u64 {
        self.state.hold().present
    }

    #[must_use]
    pub fn count(&self) -> u16 {
        u16::try_from(self.present().count_ones()).unwrap_or(u16::MAX)
    }

    /// A vCPU is there now; one that was to leave stays.
    pub fn insert(&self, index: u16) {
        let mut state = self.state.hold();
        state.removing &= !bit(index);
        state.leaving &= !bit(index);
        if state.present & bit(index) != 0 {
            return;
        }
        state.present |= bit(index);
        state.inserting |= bit(index);
        drop(state);
        self.event.processors_changed();
    }

    /// Ask the guest to do without a vCPU.
    pub fn request_removal(&self, index: u16) {
        let mut state = self.state.hold();
        if index == 0 || state.present & bit(index) == 0 {
            return;
        }
        state.inserting &= !bit(index);
        state.removing |= bit(index);
        state.leaving |= bit(index);
        drop(state);
        self.event.processors_changed();
    }

    fn selected(&self, state: &State) -> Option<u16> {
        let index = u16::try_from(state.selector).ok()?;
        (usize::from(index) < self.apic_ids.len()).then_some(index)
    }

    /// Select the next vCPU of which something is pending, from the selected one on and around.
    fn select_pending(&self, state: &mut State) {
        let count = self.apic_ids.len() as u32;
        let Some(start) = self.selected(state) else { return };
        let around = (0..count).map(|step| (u32::from(start) + step) % count);
        let pending = around.filter_map(|index| u16::try_from(index).ok());
        if let Some(index) = pending.into_iter().find(|index| state.is_pending(*index)) {
            state.selector = index.into();
        }
    }

    fn control(&self, value: u8) {
        let mut state = self.state.hold();
        let Some(index) = self.selected(&state) else { return };
        let mask = bit(index);
        if value & INSERTING != 0 {
            state.inserting &= !mask;
        }
        if value & REMOVING != 0 {
            state.removing &= !mask;
        }
        let ejects = value & EJECT != 0 && index != 0 && state.present & mask != 0;
        if ejects {
            state.present &= !mask;
            state.inserting &= !mask;
            state.removing &= !mask;
            state.leaving &= !mask;
        }
        drop(state);
        if let (true, Some(call)) = (ejects, self.on_eject.get()) {
            call(index);
        }
    }

    fn data(&self, value: u32) {
        let mut state = self.state.hold();
        let Some(index) = self.selected(&state) else { return };
        match state.command {
            OST_EVENT => state.ost_event = value,
            OST_STATUS => {
                let ejection = OST_EJECTION.contains(&state.ost_event);
                drop(state);
                let refused = value >= OST_REFUSED && value != OST_IN_PROGRESS;
                if let (true, Some(call)) = (ejection && refused, self.on_refusal.get()) {
                    call((index, value));
                }
            }
            _ => {}
        }
    }

    fn answer(&self, state: &State) -> u32 {
        let Some(index) = self.selected(state) else { return 0 };
        match state.command {
            GET_PENDING => index.into(),
            GET_APIC_ID => self.apic_ids.get(usize::from(index)).copied().unwrap_or(0),
            _ => 0,
        }
    }

    fn status(&self, state: &State) -> u8 {
        let Some(index) = self.selected(state) else { return 0 };
        let flag = |set: u64, flag| if set & bit(index) != 0 { flag } else { 0 };
        flag(state.present, ENABLED)
            | flag(state.inserting, INSERTING)
            | flag(state.removing, REMOVING)
    }
}

fn bit(index: u16) -> u64 {
    1_u64.checked_shl(index.into()).unwrap_or(0)
}

impl BusDevice for Processors {
    fn name(&self) -> &str {
        "processors"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.hold();
        match (offset, &mut *data) {
            // The upper half of every answer: by it firmware knows that the registers are there.
            (SELECT, [_, _, _, _]) => data.fill(0),
            (STATUS, [value]) => *value = self.status(&state),
            (DATA, [_, _, _, _]) => data.copy_from_slice(&self.answer(&state).to_le_bytes()),
            _ => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        match (offset, data) {
            (SELECT, &[a, b, c, d]) => {
                self.state.hold().selector = u32::from_le_bytes([a, b, c, d]);
            }
            (CONTROL, &[value]) => self.control(value),
            (COMMAND, &[value]) => {
                let mut state = self.state.hold();
                state.command = value;
                if value == GET_PENDING {
                    self.select_pending(&mut state);
                }
            }
            (DATA, &[a, b, c, d]) => self.data(u32::from_le_bytes([a, b, c, d])),
            _ => {}
        }
        Effect::None
    }
}

impl Component for Processors {
    fn id(&self) -> &str {
        "processors"
    }

    fn kind(&self) -> &'static str {
        "processors"
    }

    /// A guest that starts over has done without those that were to leave.
    fn reset(&self) {
        let mut state = self.state.hold();
        let present = state.present & !state.leaving;
        *state = State { present, ..State::default() };
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &*self.state.hold())
    }

    fn restore(&self, saved: &DeviceState) -> Result<(), StateError> {
        let mut saved: State = saved.decode(self.kind(), 1)?;
        let all = (0..self.apic_ids.len() as u16).fold(0, |set, index| set | bit(index));
        saved.present = saved.present & all | 1;
        let may_leave = saved.present & !1;
        saved.inserting &= saved.present;
        saved.removing &= may_leave;
        saved.leaving &= may_leave;
        *self.state.hold() = saved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Event(AtomicU32);

    impl ProcessorEvent for Event {
        fn processors_changed(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Rig {
        device: Processors,
        event: Arc<Event>,
        ejected: Arc<Mutex<Vec<u16>>>,
        refused: Arc<Mutex<Vec<(u16, u32)>>>,
    }

    impl Rig {
        /// Four vCPUs, two of them present.
        fn new() -> Self {
            let event = Arc::<Event>::default();
            let device = Processors::new(vec![0, 1, 4, 5], 2, event.clone());
            let (ejected, refused) = (Arc::<Mutex<Vec<u16>>>::default(), Arc::default());
            let list = ejected.clone();
            device.on_eject(move |index| list.hold().push(index));
            let list: Arc<Mutex<Vec<(u16, u32)>>> = Arc::clone(&refused);
            device.on_refusal(move |refusal| list.hold().push(refusal));
            Self { device, event, ejected, refused }
        }

        fn select(&self, index: u32) {
            let _ = self.device.write(SELECT, &index.to_le_bytes());
        }

        fn write(&self, offset: u64, value: u8) {
            let _ = self.device.write(offset, &[value]);
        }

        fn data(&self, command: u8, value: u32) {
            self.write(COMMAND, command);
            let _ = self.device.write(DATA, &value.to_le_bytes());
        }

        fn status(&self) -> u8 {
            let mut value = [0xee];
            self.device.read(STATUS, &mut value);
            value[0]
        }

        fn answer(&self, command: u8) -> u32 {
            self.write(COMMAND, command);
            let mut data = [0xee; 4];
            self.device.read(DATA, &mut data);
            u32::from_le_bytes(data)
        }
    }

    #[test]
    fn firmware_counts_the_possible_and_the_present() {
        let rig = Rig::new();
        let mut upper = [0xee; 4];
        rig.device.read(SELECT, &mut upper);
        assert_eq!(upper, [0; 4]);
        // As OVMF does: an answer of 0 ends it.
        let (mut possible, mut present) = (0, 0);
        loop {
            rig.select(possible);
            if possible > 0 && rig.answer(GET_PENDING) == 0 {
                break;
            }
            present += u32::from(rig.status() & ENABLED);
            possible += 1;
        }
        assert_eq!((possible, present), (4, 2));
        rig.select(2);
        assert_eq!(rig.answer(GET_APIC_ID), 4);
    }

    #[test]
    fn one_that_comes_is_pending_until_it_is_taken() {
        let rig = Rig::new();
        rig.device.insert(3);
        rig.device.insert(3);
        assert_eq!(rig.event.0.load(Ordering::Relaxed), 1, "it is there already");
        rig.select(0);
        assert_eq!((rig.answer(GET_PENDING), rig.status()), (3, ENABLED | INSERTING));
        rig.write(CONTROL, INSERTING);
        assert_eq!((rig.status(), rig.device.count()), (ENABLED, 3));
        rig.select(0);
        assert_eq!(rig.answer(GET_PENDING), 0, "nothing is pending");
    }

    #[test]
    fn one_that_is_to_leave_goes_when_it_is_ejected_and_the_first_never() {
        let rig = Rig::new();
        for index in [0, 1, 3] {
            rig.device.request_removal(index);
        }
        assert_eq!(rig.event.0.load(Ordering::Relaxed), 1);
        rig.select(0);
        assert_eq!((rig.answer(GET_PENDING), rig.status()), (1, ENABLED | REMOVING));
        rig.write(CONTROL, REMOVING);
        assert!(rig.device.is_present(1));
        rig.write(CONTROL, EJECT);
        rig.write(CONTROL, EJECT);
        rig.select(0);
        rig.write(CONTROL, EJECT);
        assert_eq!((rig.device.present(), &**rig.ejected.hold()), (1, &[1][..]));
    }

    #[test]
    fn a_guest_that_keeps_one_says_why() {
        let rig = Rig::new();
        rig.device.request_removal(1);
        rig.select(1);
        for (event, status) in [(3, 0), (3, 0x84), (1, 0x81), (3, 0x82), (0x103, 0x80)] {
            rig.data(OST_EVENT, event);
            rig.data(OST_STATUS, status);
        }
        assert_eq!(*rig.refused.hold(), [(1, 0x82), (1, 0x80)]);
        rig.device.insert(1);
        assert_eq!(rig.status(), ENABLED, "it is not asked any more");
    }

    #[test]
    fn which_are_there_survives_a_save_and_a_reset() {
        let rig = Rig::new();
        rig.device.insert(2);
        rig.device.request_removal(1);
        let saved = rig.device.save().unwrap();
        let other = Rig::new();
        other.device.restore(&saved).unwrap();
        assert_eq!(*other.device.state.hold(), *rig.device.state.hold());
        rig.device.reset();
        assert_eq!(rig.device.present(), 0b101, "what was to leave has left");
        rig.select(2);
        assert_eq!(rig.status(), ENABLED, "and nothing is pending");
    }

    #[test]
    fn a_damaged_state_keeps_the_first_and_makes_up_no_other() {
        let rig = Rig::new();
        let wild = State { present: u64::MAX - 1, removing: u64::MAX, ..State::default() };
        rig.device.restore(&DeviceState::encode("processors", 1, &wild).unwrap()).unwrap();
        assert_eq!(rig.device.present(), 0b1111);
        assert_eq!(rig.device.state.hold().removing, 0b1110);
    }

    #[test]
    fn odd_accesses_do_no_harm() {
        let rig = Rig::new();
        for selector in [0, 4, 64, u32::MAX] {
            rig.select(selector);
            for offset in [0, 1, 4, 5, 8, 9, 12, u64::MAX] {
                for len in [0, 1, 2, 3, 4, 8] {
                    let _ = rig.device.write(offset, &vec![0xf7; len]);
                    rig.device.read(offset, &mut vec![0; len]);
                }
            }
        }
        rig.select(u32::MAX);
        assert_eq!((rig.status(), rig.answer(GET_PENDING)), (0, 0));
        assert_eq!(rig.device.present(), 0b11);
    }
}
