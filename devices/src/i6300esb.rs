//! [`I6300esb`]: the watchdog of Intel's 6300ESB I/O controller hub, as a PCI function (datasheet
//! §16), with a timer of two stages.
//!
//! ```text
//!  off ──ENABLE──▶ stage 1 ──timer 1──▶ stage 2 ──timer 2──▶ expired: what the machine does about
//!   ▲                ▲ RELOAD              │ RELOAD            it, unless the driver wrote REBOOT
//!   └─ENABLE = 0     └─────────────────────┴── free running: begins again
//! ```
//! Timers and RELOAD are written after 0x80 and 0x86 to the reload register, each time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::alarm::Timed;
use crate::bus::Effect;
use crate::clock::Clock;
use crate::component::{Component, DeviceState, StateError};
use crate::pci::{BarKind, Config, ConfigBuilder, ConfigState, Ids, PciFunction};
use crate::sync::Lock;

#[cfg(test)]
mod tests;

const KIND: &str = "i6300esb";
const IDS: Ids = Ids { vendor: 0x8086, device: 0x25ab, class: 0x08_80_00, revision: 0 };

/// Registers in configuration space.
const CONFIG: u16 = 0x60;
const LOCK: u16 = 0x68;

const INTERRUPT_TYPE: u8 = 3;
const FAST_CLOCK: u8 = 1 << 2;
/// Set: the second stage does nothing.
const NO_REBOOT: u8 = 1 << 5;

const LOCKED: u8 = 1 << 0;
const ENABLE: u8 = 1 << 1;
const FREE_RUNNING: u8 = 1 << 2;

/// Registers behind the BAR.
const TIMER1: u64 = 0x00;
const TIMER2: u64 = 0x04;
const RELOAD: u64 = 0x0c;
const BAR_SIZE: u64 = 0x10;

const UNLOCK_1: u8 = 0x80;
const UNLOCK_2: u8 = 0x86;
const PRELOAD: u32 = 0xf_ffff;
const RELOAD_NOW: u16 = 1 << 8;
const TIMED_OUT: u16 = 1 << 9;
/// Linux looks for the bit here, too.
const TIMED_OUT_LINUX: u16 = 1 << 12;

/// PCI's clock, Hz, and what it is divided by.
const CLOCK: u128 = 33_000_000;
const SLOW_SHIFT: u32 = 15;
const FAST_SHIFT: u32 = 5;

/// The watchdog.
pub struct I6300esb {
    id: String,
    clock: Arc<dyn Clock>,
    /// What the machine does when the guest did not reload it in time.
    expired: Box<dyn Fn() + Send + Sync>,
    rearm: EventFd,
    config: Config,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    timers: [u32; 2],
    lock: u8,
    /// How far the driver is with unlocking the next write.
    unlocked: u8,
    second_stage: bool,
    /// Survives a reset: the driver asks whether it was the cause.
    timed_out: bool,
    /// When the stage ends, by the clock; none when it does not run.
    deadline: Option<Duration>,
    /// Of a machine that is paused: what was left of the stage.
    left: Option<Duration>,
}

impl State {
    const FRESH: Self = Self {
        timers: [PRELOAD; 2],
        lock: 0,
        unlocked: 0,
        second_stage: false,
        timed_out: false,
        deadline: None,
        left: None,
    };
}

impl I6300esb {
    /// # Errors
    /// When the host has no event for its timer.
    pub fn new(
        id: &str,
        clock: Arc<dyn Clock>,
        expired: Box<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Self> {
        let mut builder = ConfigBuilder::new(IDS);
        builder
            .subsystem(0x1af4, 0x1100)
            .bar(0, BarKind::Memory32, BAR_SIZE)
            .writable(CONFIG, &[INTERRUPT_TYPE | FAST_CLOCK | NO_REBOOT, 0]);
        Ok(Self {
            id: id.to_owned(),
            clock,
            expired,
            rearm: EventFd::new(EFD_NONBLOCK)?,
            config: builder.build(),
            state: Mutex::new(State::FRESH),
        })
    }

    /// Begin a stage anew, or stop where the watchdog is not enabled.
    fn start_stage(&self, state: &mut State, second: bool) {
        state.second_stage = second;
        let enabled = state.lock & ENABLE != 0;
        state.deadline = enabled.then(|| {
            let shift = match self.config.u8(CONFIG) & FAST_CLOCK {
                0 => SLOW_SHIFT,
                _ => FAST_SHIFT,
            };
            let ticks = u128::from(state.timers[usize::from(second)]) << shift;
            let nanoseconds = u64::try_from(ticks * 1_000_000_000 / CLOCK).unwrap_or(u64::MAX);
            // A timer of nothing would never let its thread rest in free-running mode.
            let wait = Duration::from_nanos(nanoseconds).max(Duration::from_millis(1));
            self.clock.monotonic().saturating_add(wait)
        });
    }

    fn write_lock(&self, state: &mut State, value: u8) {
        if state.lock & LOCKED != 0 {
            return;
        }
        let was_enabled = state.lock & ENABLE != 0;
        state.lock = value & (LOCKED | ENABLE | FREE_RUNNING);
        match (was_enabled, value & ENABLE != 0) {
            (false, true) => self.start_stage(state, false),
            (_, false) => state.deadline = None,
            (true, true) => {}
        }
    }

    /// A byte of the sequence that unlocks the next write; false if it is none.
    fn unlock(state: &mut State, value: u64) -> bool {
        state.unlocked = match (state.unlocked, u8::try_from(value)) {
            (_, Ok(UNLOCK_1)) => 1,
            (1, Ok(UNLOCK_2)) => 2,
            _ => return false,
        };
        true
    }

    fn write_register(&self, state: &mut State, offset: u64, value: u64) {
        if offset == RELOAD && Self::unlock(state, value) {
            return;
        }
        if state.unlocked < 2 {
            return;
        }
        state.unlocked = 0;
        match offset {
            TIMER1 => state.timers[0] = value as u32 & PRELOAD,
            TIMER2 => state.timers[1] = value as u32 & PRELOAD,
            RELOAD => {
                let value = value as u16;
                if value & RELOAD_NOW != 0 {
                    self.start_stage(state, false);
                }
                if value & (TIMED_OUT | TIMED_OUT_LINUX) != 0 {
                    state.timed_out = false;
                }
            }
            _ => {}
        }
    }

    fn power_on(&self) {
        self.config.reset();
        let mut state = self.state.hold();
        *state = State { timed_out: state.timed_out, ..State::FRESH };
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        let _ = self.rearm.write(1);
    }
}

impl Timed for I6300esb {
    fn tick(&self) -> Option<Duration> {
        let mut state = self.state.hold();
        let now = self.clock.monotonic();
        let due = state.deadline.is_some_and(|deadline| deadline <= now);
        let mut ends = false;
        if due && !state.second_stage {
            // The interrupt at the end of the first stage is no driver's business that we know.
            self.start_stage(&mut state, true);
        } else if due {
            ends = self.config.u8(CONFIG) & NO_REBOOT == 0;
            state.timed_out |= ends;
            state.deadline = None;
            if state.lock & FREE_RUNNING != 0 {
                self.start_stage(&mut state, false);
            }
        }
        let wait = state.deadline.map(|deadline| deadline.saturating_sub(now));
        drop(state);
        if ends {
            (self.expired)();
        }
        wait
    }

    fn rearm(&self) -> &EventFd {
        &self.rearm
    }
}

impl PciFunction for I6300esb {
    fn name(&self) -> &str {
        &self.id
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        for (at, byte) in (offset..).zip(data) {
            if at == LOCK {
                *byte = self.state.hold().lock;
            }
        }
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Effect {
        self.config.write(offset, data);
        for (at, value) in (offset..).zip(data) {
            if at == LOCK {
                self.write_lock(&mut self.state.hold(), *value);
                self.wake();
            }
        }
        Effect::None
    }

    fn bar_read(&self, _bar: u8, offset: u64, data: &mut [u8]) {
        let flags = if self.state.hold().timed_out { TIMED_OUT | TIMED_OUT_LINUX } else { 0 };
        data.fill(0);
        if offset == RELOAD {
            data.iter_mut().zip(flags.to_le_bytes()).for_each(|(byte, value)| *byte = value);
        }
    }

    fn bar_write(&self, _bar: u8, offset: u64, data: &[u8]) -> Effect {
        let mut value = [0; 8];
        let len = data.len().min(value.len());
        value[..len].copy_from_slice(&data[..len]);
        self.write_register(&mut self.state.hold(), offset, u64::from_le_bytes(value));
        self.wake();
        Effect::None
    }

    fn bus_reset(&self) {
        self.power_on();
    }
}

impl Component for I6300esb {
    fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    /// The guest that stands still is not late.
    fn pause(&self) {
        let now = self.clock.monotonic();
        let mut state = self.state.hold();
        if let Some(deadline) = state.deadline.take() {
            state.left = Some(deadline.saturating_sub(now));
        }
        drop(state);
        self.wake();
    }

    fn resume(&self) {
        let now = self.clock.monotonic();
        let mut state = self.state.hold();
        if let Some(left) = state.left.take() {
            state.deadline = Some(now.saturating_add(left));
        }
        drop(state);
        self.wake();
    }

    fn reset(&self) {
        self.power_on();
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(KIND, 1, &(self.config.save(), *self.state.hold()))
    }

    fn restore(&self, state: &DeviceState) -> Result<(), StateError> {
        let (config, saved): (ConfigState, State) = state.decode(KIND, 1)?;
        self.config.restore(KIND, &config)?;
        let mut state = self.state.hold();
        *state = saved;
        state.timers = saved.timers.map(|ticks| ticks & PRELOAD);
        // A deadline by another host's clock says nothing here.
        state.deadline = None;
        drop(state);
        self.wake();
        Ok(())
    }
}
