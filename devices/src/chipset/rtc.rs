//! [`Rtc`]: the MC146818 real-time clock and its CMOS memory, at ports 0x70 and 0x71.
//!
//! The time is the host's plus an offset; what the guest sets changes the offset. Flags are worked
//! out when somebody looks; an [`Alarm`](crate::alarm::Alarm) looks in time for the interrupts that are enabled.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Processors;
use crate::alarm::Timed;
use crate::bus::{BusDevice, Effect};
use crate::clock::Clock;
use crate::component::{Component, DeviceState, StateError};
use crate::irq::IrqLine;
use crate::sync::Lock;

mod calendar;
#[cfg(test)]
mod tests;

use calendar::{Format, Moment};

const REG_A: usize = 0x0a;
const REG_B: usize = 0x0b;
const REG_C: usize = 0x0c;
const REG_D: usize = 0x0d;
const REG_CENTURY: usize = 0x32;

/// The divider runs from 32.768 kHz; the default rate is 1024 Hz.
const A_RESET: u8 = 0x26;
const A_WRITABLE: u8 = 0x7f;

const B_SET: u8 = 1 << 7;
const B_BINARY: u8 = 1 << 2;
const B_24_HOURS: u8 = 1 << 1;

const C_INTERRUPT: u8 = 1 << 7;
/// Periodic, alarm and update-ended: as flags in C, and as enables in B.
const PERIODIC: u8 = 1 << 6;
const ALARM: u8 = 1 << 5;
const UPDATE: u8 = 1 << 4;
const INTERRUPTS: u8 = PERIODIC | ALARM | UPDATE;

/// The battery is good.
const D_VALID: u8 = 1 << 7;

const CMOS_SIZE: usize = 128;
/// The number of the last vCPU.
const CPUS: usize = 0x5f;

/// Periodic interrupts that are made up for at most: a second of the fastest that systems use.
const MOST_LOST: u32 = 1024;
/// A guest sets its clock register by register; what it came to is told then, and not more often.
const SETTLED: Duration = Duration::from_secs(1);

/// RAM as firmware without fw_cfg learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySizes {
    /// Bytes below 4 GiB.
    pub low: u64,
    /// Bytes from 4 GiB on.
    pub high: u64,
}

pub struct Rtc {
    /// Seconds that the guest's clock is ahead of UTC at power-on: local time, or a set offset.
    base_offset: i64,
    cmos: [u8; CMOS_SIZE],
    irq: Arc<dyn IrqLine>,
    clock: Arc<dyn Clock>,
    /// Tells the timer that what is enabled changed.
    rearm: EventFd,
    /// Periodic interrupts that the guest had no time for come later.
    catch_up: bool,
    told: Option<Told>,
    /// Whom firmware waits for when it starts; none: as many as at first.
    processors: Option<Arc<Processors>>,
    state: Mutex<State>,
    /// When to tell that the guest set its clock, in monotonic time.
    tell: Mutex<Option<Duration>>,
}

/// Hears how many seconds the clock is ahead of UTC when the guest has set it.
pub type Told = Box<dyn Fn(i64) + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    index: u8,
    /// Register contents; those of the clock are only used while it is being set.
    cmos: Vec<u8>,
    /// What the guest set its clock ahead by.
    set_offset: i64,
    flags: u8,
    /// Guest time when flags were last worked out.
    seen: Duration,
    /// Periodic interrupts that the guest still has to get; none after a pause, and so after a save.
    #[serde(skip)]
    lost: u32,
}

impl State {
    fn format(&self) -> Format {
        let b = self.cmos[REG_B];
        Format { binary: b & B_BINARY != 0, hours_24: b & B_24_HOURS != 0 }
    }

    /// Time between periodic interrupts, if the rate is not "none".
    fn period(&self) -> Option<Duration> {
        let shift = match self.cmos[REG_A] & 0xf {
            0 => return None,
            // The two lowest rates are repeated, for dividers that nobody uses.
            rate @ 1..=2 => rate + 6,
            rate => rate - 1,
        };
        Some(Duration::from_nanos((1_000_000_000u64 << shift) / 32_768))
    }

    /// Work out which flags are due by `now`.
    fn update(&mut self, now: Duration) {
        if self.cmos[REG_B] & B_SET == 0 && now.as_secs() != self.seen.as_secs() {
            self.flags |= UPDATE;
            // A day holds every alarm.
            let first = (self.seen.as_secs() + 1).max(now.as_secs().saturating_sub(86_400));
            if (first..=now.as_secs()).any(|second| self.alarm_at(second)) {
                self.flags |= ALARM;
            }
        }
        if let Some(period) = self.period() {
            let (ticks, before) = [now, self.seen].map(|t| t.as_nanos() / period.as_nanos()).into();
            if ticks != before {
                let waiting = u128::from(self.flags & PERIODIC != 0);
                let missed = ticks.saturating_sub(before).saturating_sub(1) + waiting;
                if self.cmos[REG_B] & PERIODIC != 0 {
                    let missed = u32::try_from(missed).unwrap_or(MOST_LOST);
                    self.lost = self.lost.saturating_add(missed).min(MOST_LOST);
                }
                self.flags |= PERIODIC;
            }
        }
        self.seen = now;
    }

    /// The guest took its last periodic interrupt: one that it missed is next.
    fn make_up(&mut self) {
        if self.lost > 0 && self.flags & PERIODIC == 0 {
            self.lost -= 1;
            self.flags |= PERIODIC;
        }
    }

    fn alarm_at(&self, second: u64) -> bool {
        let moment = Moment::from_seconds(i64::try_from(second).unwrap_or(0));
        let alarm = [self.cmos[1], self.cmos[3], self.cmos[5]];
        moment.matches(alarm, self.format())
    }

    fn raises(&self) -> bool {
        self.flags & self.cmos[REG_B] & INTERRUPTS != 0
    }

    /// When the next enabled interrupt is due, in guest time after `now`.
    fn deadline(&self, now: Duration) -> Option<Duration> {
        let enabled = self.cmos[REG_B] & INTERRUPTS & !self.flags;
        let running = self.cmos[REG_B] & B_SET == 0;
        let periodic = self.period().filter(|_| enabled & PERIODIC != 0).map(|period| {
            let nanos = (now.as_nanos() / period.as_nanos() + 1) * period.as_nanos();
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        let next = now.as_secs() + 1;
        let update = (enabled & UPDATE != 0 && running).then(|| Duration::from_secs(next));
        let alarm = (enabled & ALARM != 0 && running)
            .then(|| (next..next + 86_400).find(|second| self.alarm_at(*second)))
            .flatten()
            .map(Duration::from_secs);
        [periodic, update, alarm].into_iter().flatten().min()
    }
}

impl Rtc {
    pub const BASE: u64 = 0x70;
    pub const LEN: u64 = 2;

    /// A clock `offset` seconds ahead of UTC, on ISA interrupt 8.
    pub fn new(
        offset: i64,
        memory: MemorySizes,
        cpus: u8,
        irq: Arc<dyn IrqLine>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let cmos = cmos(memory, cpus);
        let rearm = EventFd::new(EFD_NONBLOCK)?;
        let state = State {
            index: 0,
            cmos: cmos.to_vec(),
            set_offset: 0,
            flags: 0,
            seen: Duration::ZERO,
            lost: 0,
        };
        let (state, tell) = (Mutex::new(state), Mutex::default());
        let (base_offset, catch_up, told, processors) = (offset, false, None, None);
        let rtc =
            Self { base_offset, cmos, irq, clock, rearm, catch_up, told, processors, state, tell };
        rtc.reset();
        Ok(rtc)
    }

    /// Make up for periodic interrupts that the guest had no time for (`tickpolicy='catchup'`).
    #[must_use]
    pub fn catching_up(self) -> Self {
        Self { catch_up: true, ..self }
    }

    /// Have `told` hear of it when the guest sets its clock.
    #[must_use]
    pub fn telling(self, told: Told) -> Self {
        Self { told: Some(told), ..self }
    }

    /// Have the memory say how many vCPUs there are when the guest starts over.
    #[must_use]
    pub fn counting(self, processors: Arc<Processors>) -> Self {
        Self { processors: Some(processors), ..self }
    }

    /// Seconds that the guest's clock is ahead of UTC now: what `<clock offset='variable'>` keeps.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.base_offset.saturating_add(self.state.hold().set_offset)
    }

    /// Guest time, since the epoch of its own time zone.
    fn now(&self, state: &State) -> Duration {
        let offset = self.base_offset.saturating_add(state.set_offset);
        let by = Duration::from_secs(offset.unsigned_abs());
        let real = self.clock.real();
        if offset < 0 { real.saturating_sub(by) } else { real.saturating_add(by) }
    }

    /// Bring flags up to date, change the state, and drive the line by it.
    fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.hold();
        let now = self.now(&state);
        state.update(now);
        let offset = state.set_offset;
        let result = change(&mut state, now);
        if state.set_offset != offset {
            // The time between was never there: nothing was missed in it.
            state.seen = self.now(&state);
        }
        if !self.catch_up {
            state.lost = 0;
        }
        self.irq.set(state.raises());
        result
    }

    /// Tell what the guest set its clock to, when it is time; how long until then.
    fn tell_change(&self) -> Option<Duration> {
        let mut due = self.tell.hold();
        let left = (*due)?.checked_sub(self.clock.monotonic()).filter(|left| !left.is_zero());
        if left.is_none() {
            *due = None;
            drop(due);
            if let Some(told) = &self.told {
                told(self.offset());
            }
        }
        left
    }

    fn read_register(&self, state: &mut State, now: Duration) -> u8 {
        let register = usize::from(state.index);
        match register {
            REG_C => {
                let raised = if state.raises() { C_INTERRUPT } else { 0 };
                std::mem::take(&mut state.flags) | raised
            }
            REG_D => D_VALID,
            _ => {
                let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                let shown = Moment::from_seconds(seconds).register(register, state.format());
                let set = state.cmos[REG_B] & B_SET != 0;
                shown.filter(|_| !set).unwrap_or(state.cmos[register])
            }
        }
    }

    fn write_register(&self, state: &mut State, now: Duration, value: u8) {
        let register = usize::from(state.index);
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match register {
            REG_A => state.cmos[REG_A] = value & A_WRITABLE,
            REG_B => {
                let was_set = state.cmos[REG_B] & B_SET != 0;
                if value & B_SET != 0 && !was_set {
                    show(state, Moment::from_seconds(seconds));
                }
                state.cmos[REG_B] = value;
                if value & B_SET == 0 && was_set {
                    adopt(state, seconds);
                }
            }
            REG_C | REG_D => {}
            0 | 2 | 4 | 6..=9 | REG_CENTURY => {
                if state.cmos[REG_B] & B_SET == 0 {
                    show(state, Moment::from_seconds(seconds));
                }
                state.cmos[register] = value;
                if state.cmos[REG_B] & B_SET == 0 {
                    adopt(state, seconds);
                }
            }
            _ => state.cmos[register] = value,
        }
    }
}

/// Put a moment into the registers, to be changed one by one.
fn show(state: &mut State, moment: Moment) {
    let format = state.format();
    for register in 0..CMOS_SIZE {
        if let Some(value) = moment.register(register, format) {
            state.cmos[register] = value;
        }
    }
}

/// Take what the registers say as the time that it is at `now`. Nonsense changes nothing.
fn adopt(state: &mut State, now: i64) {
    let registers = |register: usize| state.cmos[register];
    if let Some(set) = Moment::from_registers(registers, state.format()) {
        state.set_offset = state.set_offset.saturating_add(set.seconds().saturating_sub(now));
    }
}

impl Timed for Rtc {
    /// Raise what is due; how long to wait for what comes next.
    fn tick(&self) -> Option<Duration> {
        let next = self.change(|state, now| {
            state.make_up();
            state.deadline(now).map(|deadline| deadline.saturating_sub(now))
        });
        [next, self.tell_change()].into_iter().flatten().min()
    }

    fn rearm(&self) -> &EventFd {
        &self.rearm
    }
}

impl BusDevice for Rtc {
    fn name(&self) -> &str {
        "rtc"
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let (1, [value]) = (offset, &mut *data) else { return data.fill(0xff) };
        let before = self.state.hold().index;
        *value = self.change(|state, now| self.read_register(state, now));
        if usize::from(before) == REG_C {
            // An acknowledged interrupt may come again.
            let _ = self.rearm.write(1);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let &[value] = data else { return Effect::None };
        if offset == 0 {
            // Bit 7 masks NMIs, of which there are none from here.
            self.state.hold().index = value & 0x7f;
        } else {
            let set = self.change(|state, now| {
                let before = state.set_offset;
                self.write_register(state, now, value);
                state.set_offset != before
            });
            if set && self.told.is_some() {
                self.tell.hold().get_or_insert(self.clock.monotonic() + SETTLED);
            }
            let _ = self.rearm.write(1);
        }
        Effect::None
    }
}

impl Component for Rtc {
    fn id(&self) -> &str {
        "rtc"
    }

    fn kind(&self) -> &'static str {
        "rtc"
    }

    /// The clock goes on, the battery keeps it; the memory is as firmware expects it at power-on.
    fn reset(&self) {
        self.change(|state, now| {
            state.index = 0;
            state.cmos = self.cmos.to_vec();
            if let Some(processors) = &self.processors {
                state.cmos[CPUS] = last(processors.count().try_into().unwrap_or(u8::MAX));
            }
            state.flags = 0;
            state.seen = now;
            state.lost = 0;
        });
    }

    /// While the machine stood still the guest missed nothing.
    fn resume(&self) {
        self.change(|state, _| state.lost = 0);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let state = self.change(|state, _| state.clone());
        DeviceState::encode(self.kind(), 1, &state)
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let mut saved: State = state.decode(self.kind(), 1)?;
        if saved.cmos.len() != CMOS_SIZE {
            let reason = "its CMOS memory has another size".to_owned();
            return Err(StateError::Mismatch { kind: self.kind(), reason });
        }
        saved.index &= 0x7f;
        saved.flags &= INTERRUPTS;
        self.change(|state, _| *state = saved);
        let _ = self.rearm.write(1);
        Ok(())
    }
}

/// Of so many vCPUs, as the memory has it.
fn last(cpus: u8) -> u8 {
    cpus.saturating_sub(1)
}

fn cmos(memory: MemorySizes, cpus: u8) -> [u8; CMOS_SIZE] {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let mut cmos = [0; CMOS_SIZE];
    let mut put16 = |at: usize, value: u64| {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        cmos[at..at + 2].copy_from_slice(&value.to_le_bytes());
    };
    put16(0x15, 640);
    let extended = memory.low.saturating_sub(MIB).min(63 * MIB) / KIB;
    put16(0x17, extended);
    put16(0x30, extended);
    put16(0x34, memory.low.saturating_sub(16 * MIB) / (64 * KIB));
    let high = (memory.high / (64 * KIB)).to_le_bytes();
    cmos[0x5b..0x5e].copy_from_slice(&high[..3]);
    // Boot order of a BIOS that is given none: disk, CD, network.
    cmos[0x3d] = 0x32;
    cmos[0x38] = 0x40;
    cmos[CPUS] = last(cpus);
    cmos[REG_A] = A_RESET;
    cmos[REG_B] = B_24_HOURS;
    cmos
}
