//! [`I8042`]: the PS/2 controller. Machines without a screen keep it for its reset line, with
//! nothing plugged in, and for kernels that probe it: they get quick and true answers. Machines with
//! one have a keyboard and a mouse on it.
//!
//! ```text
//! user ─▶ Keyboard, Mouse ─▶ output buffer (one byte, IRQ 1 or 12) ─▶ data port
//!              ▲                    ▲
//!              └── data port ───────┴─ replies of the controller itself
//! ```
//! A byte sent to a keyboard or mouse that is not there is answered with a timeout, as the chip
//! itself does.

mod keyboard;
mod mouse;
mod scan_codes;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::input::{Accepts, InputEvent, InputSink};
use crate::irq::IrqLine;
use crate::sync::Lock;
use keyboard::Keyboard;
use mouse::Mouse;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SELF_TEST: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
/// The byte in the output buffer is the mouse's.
const STATUS_MOUSE: u8 = 1 << 5;
const STATUS_TIMEOUT: u8 = 1 << 6;

const CONTROL_KEYBOARD_IRQ: u8 = 1 << 0;
const CONTROL_MOUSE_IRQ: u8 = 1 << 1;
const CONTROL_KEYBOARD_OFF: u8 = 1 << 4;
const CONTROL_MOUSE_OFF: u8 = 1 << 5;
const CONTROL_TRANSLATE: u8 = 1 << 6;
/// Both ports disabled, translation on.
const CONTROL_RESET: u8 = CONTROL_TRANSLATE | CONTROL_MOUSE_OFF | CONTROL_KEYBOARD_OFF;

const TIMEOUT_REPLY: u8 = 0xfe;
const OUTPUT_PORT: u8 = 0b11;

pub struct I8042 {
    keyboard_irq: Arc<dyn IrqLine>,
    /// None: nothing is plugged in.
    mouse_irq: Option<Arc<dyn IrqLine>>,
    state: Mutex<State>,
}

/// The controller's own registers: version 1 of the saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    control: u8,
    /// What the data port gives, and whether it reports a timeout.
    output: Option<(u8, bool)>,
    /// The command that waits for its data byte.
    command: Option<u8>,
    last_was_command: bool,
}

/// Version 2 of the saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    registers: Registers,
    devices: Option<Devices>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Devices {
    keyboard: Keyboard,
    mouse: Mouse,
    /// The output buffer's byte is the mouse's.
    from_mouse: bool,
    /// The keyboard said that a key was let go: the next byte says which.
    key_released: bool,
}

const RESET: Registers =
    Registers { control: CONTROL_RESET, output: None, command: None, last_was_command: false };

impl State {
    fn new(plugged_in: bool) -> Self {
        Self { registers: RESET, devices: plugged_in.then(Devices::default) }
    }

    fn is_mouse_byte(&self) -> bool {
        self.devices.as_ref().is_some_and(|devices| devices.from_mouse)
    }

    fn status(&self) -> u8 {
        let output = match self.registers.output {
            Some((_, true)) => STATUS_OUTPUT_FULL | STATUS_TIMEOUT,
            Some((_, false)) if self.is_mouse_byte() => STATUS_OUTPUT_FULL | STATUS_MOUSE,
            Some((_, false)) => STATUS_OUTPUT_FULL,
            None => 0,
        };
        let command = if self.registers.last_was_command { STATUS_COMMAND } else { 0 };
        STATUS_SELF_TEST | STATUS_UNLOCKED | output | command
    }

    fn reply(&mut self, value: u8) {
        self.put(value, false, false);
    }

    fn put(&mut self, value: u8, timeout: bool, from_mouse: bool) {
        self.registers.output = Some((value, timeout));
        if let Some(devices) = &mut self.devices {
            devices.from_mouse = from_mouse;
        }
    }

    fn command(&mut self, command: u8) -> Effect {
        self.registers.last_was_command = true;
        self.registers.command = None;
        let control = &mut self.registers.control;
        match command {
            0x20 => {
                let control = *control;
                self.reply(control);
            }
            0x60 | 0xd1..=0xd4 => self.registers.command = Some(command),
            0xa7 => *control |= CONTROL_MOUSE_OFF,
            0xa8 => *control &= !CONTROL_MOUSE_OFF,
            // Without a mouse its clock line is stuck.
            0xa9 => self.reply(u8::from(self.devices.is_none())),
            0xaa => self.reply(0x55),
            0xab => self.reply(0x00),
            0xad => *control |= CONTROL_KEYBOARD_OFF,
            0xae => *control &= !CONTROL_KEYBOARD_OFF,
            0xd0 => self.reply(OUTPUT_PORT),
            // Pulse output lines: bit 0 low is the reset line.
            0xf0..=0xff if command & 1 == 0 => return Effect::Reset,
            _ => {}
        }
        Effect::None
    }

    fn data(&mut self, value: u8) -> Effect {
        self.registers.last_was_command = false;
        let command = self.registers.command.take();
        match (command, &mut self.devices) {
            (Some(0x60), _) => self.registers.control = value & 0x7f,
            // The output port: its bit 0 is the reset line, too.
            (Some(0xd1), _) if value & 1 == 0 => return Effect::Reset,
            (Some(0xd1), _) => {}
            // As if the keyboard or the mouse had sent it.
            (Some(0xd2), _) => self.reply(value),
            (Some(0xd3), Some(_)) => self.put(value, false, true),
            (Some(0xd4), Some(devices)) => devices.mouse.write(value),
            (None, Some(devices)) => {
                // Talking to the keyboard switches its line on.
                self.registers.control &= !CONTROL_KEYBOARD_OFF;
                devices.keyboard.write(value);
            }
            // To the mouse's loop, the mouse or the keyboard: nobody there.
            _ => self.put(TIMEOUT_REPLY, true, false),
        }
        Effect::None
    }

    /// Let the next byte of keyboard or mouse into the output buffer, if it is free.
    fn fetch(&mut self) {
        let control = self.registers.control;
        let Some(devices) = self.devices.as_mut().filter(|_| self.registers.output.is_none())
        else {
            return;
        };
        while control & CONTROL_KEYBOARD_OFF == 0
            && let Some(byte) = devices.keyboard.take()
        {
            if control & CONTROL_TRANSLATE == 0 {
                return self.put(byte, false, false);
            }
            if byte == scan_codes::BREAK {
                devices.key_released = true;
                continue;
            }
            let released = if std::mem::take(&mut devices.key_released) { 0x80 } else { 0 };
            return self.put(scan_codes::to_set_1(byte) | released, false, false);
        }
        if control & CONTROL_MOUSE_OFF == 0
            && let Some(byte) = devices.mouse.take()
        {
            self.put(byte, false, true);
        }
    }
}

impl I8042 {
    /// The data port; the command port is four above. Two ranges of one byte, as the ports between
    /// belong to others.
    pub const DATA: u64 = 0x60;
    pub const COMMAND: u64 = 0x64;

    /// A controller with nothing plugged in. `irq`: the keyboard's, ISA 1.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>) -> Self {
        Self { keyboard_irq: irq, mouse_irq: None, state: Mutex::new(State::new(false)) }
    }

    /// With a keyboard and a mouse, whose interrupt is ISA 12.
    #[must_use]
    pub fn with_devices(keyboard_irq: Arc<dyn IrqLine>, mouse_irq: Arc<dyn IrqLine>) -> Self {
        let state = Mutex::new(State::new(true));
        Self { keyboard_irq, mouse_irq: Some(mouse_irq), state }
    }

    /// The two ports, to insert at [`Self::DATA`] and [`Self::COMMAND`], one byte each.
    #[must_use]
    pub fn ports(self: &Arc<Self>) -> [(u64, Arc<dyn BusDevice>); 2] {
        [Self::DATA, Self::COMMAND].map(|base| {
            let port: Arc<dyn BusDevice> =
                Arc::new(Port { controller: self.clone(), is_command: base == Self::COMMAND });
            (base, port)
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.hold();
        let result = change(&mut state);
        // A byte that was taken lowers its line before the next one raises it: an edge for each.
        self.drive(&state);
        state.fetch();
        self.drive(&state);
        result
    }

    fn drive(&self, state: &State) {
        let Registers { control, output, .. } = state.registers;
        let mouse = state.is_mouse_byte();
        let full = output.is_some();
        self.keyboard_irq.set(full && !mouse && control & CONTROL_KEYBOARD_IRQ != 0);
        if let Some(irq) = &self.mouse_irq {
            irq.set(full && mouse && control & CONTROL_MOUSE_IRQ != 0);
        }
    }
}

impl InputSink for I8042 {
    /// A port that is switched off has no driver.
    fn accepts(&self) -> Accepts {
        let state = self.state.hold();
        let control = state.registers.control;
        let Some(devices) = &state.devices else { return Accepts::default() };
        Accepts {
            keys: control & CONTROL_KEYBOARD_OFF == 0 && devices.keyboard.scanning,
            position: false,
            motion: control & CONTROL_MOUSE_OFF == 0 && devices.mouse.reporting,
        }
    }

    fn send(&self, events: &[InputEvent]) {
        self.change(|state| {
            let Some(devices) = &mut state.devices else { return };
            for event in events {
                if let InputEvent::Key { code, down } = *event {
                    devices.keyboard.key(code, down);
                }
            }
            devices.mouse.user(events);
        });
    }
}

struct Port {
    controller: Arc<I8042>,
    is_command: bool,
}

impl BusDevice for Port {
    fn name(&self) -> &str {
        "i8042"
    }

    fn read(&self, _offset: u64, data: &mut [u8]) {
        let [value] = data else { return data.fill(0xff) };
        *value = if self.is_command {
            self.controller.state.hold().status()
        } else {
            let taken = self.controller.change(|state| state.registers.output.take());
            taken.map_or(0, |(value, _)| value)
        };
    }

    fn write(&self, _offset: u64, data: &[u8]) -> Effect {
        let &[value] = data else { return Effect::None };
        self.controller
            .change(|state| if self.is_command { state.command(value) } else { state.data(value) })
    }
}

impl Component for I8042 {
    fn id(&self) -> &str {
        "i8042"
    }

    fn kind(&self) -> &'static str {
        "i8042"
    }

    fn reset(&self) {
        self.change(|state| *state = State::new(self.mouse_irq.is_some()));
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 2, &*self.state.hold())
    }

    fn restore(&self, saved: &DeviceState) -> Result<(), StateError> {
        let plugged_in = self.mouse_irq.is_some();
        let saved = if saved.version == 1 {
            // From before there were keyboards: none is plugged in there.
            State { registers: saved.decode(self.kind(), 1)?, devices: None }
        } else {
            saved.decode::<State>(self.kind(), 2)?
        };
        if saved.devices.is_some() != plugged_in {
            let reason = "a keyboard is plugged into one and not into the other".to_owned();
            return Err(StateError::Mismatch { kind: self.kind(), reason });
        }
        self.change(|state| *state = saved);
        Ok(())
    }
}
