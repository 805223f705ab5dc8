//! [`I8042`]: the PS/2 controller, with nothing plugged into it. Machines keep it for its reset
//! line, and for kernels that probe it: they get quick and true answers.
//!
//! A byte sent to the missing keyboard or mouse is answered with a timeout, as the chip itself does.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::bus::{BusDevice, Effect};
use crate::component::{Component, DeviceState, StateError};
use crate::irq::IrqLine;
use crate::sync::Lock;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SELF_TEST: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
const STATUS_UNLOCKED: u8 = 1 << 4;
const STATUS_TIMEOUT: u8 = 1 << 6;

const CONTROL_KEYBOARD_IRQ: u8 = 1 << 0;
/// Both ports disabled, translation on.
const CONTROL_RESET: u8 = 0x70;

const TIMEOUT_REPLY: u8 = 0xfe;
const OUTPUT_PORT: u8 = 0b11;

/// Where the data port is; the status and command port lies four above.
pub struct I8042 {
    irq: Arc<dyn IrqLine>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    control: u8,
    /// What the data port gives, and whether it reports a timeout.
    output: Option<(u8, bool)>,
    /// The command that waits for its data byte.
    command: Option<u8>,
    last_was_command: bool,
}

const RESET: State =
    State { control: CONTROL_RESET, output: None, command: None, last_was_command: false };

impl State {
    fn status(&self) -> u8 {
        let output = match self.output {
            Some((_, true)) => STATUS_OUTPUT_FULL | STATUS_TIMEOUT,
            Some((_, false)) => STATUS_OUTPUT_FULL,
            None => 0,
        };
        let command = if self.last_was_command { STATUS_COMMAND } else { 0 };
        STATUS_SELF_TEST | STATUS_UNLOCKED | output | command
    }

    fn reply(&mut self, value: u8) {
        self.output = Some((value, false));
    }

    fn command(&mut self, command: u8) -> Effect {
        self.last_was_command = true;
        self.command = None;
        match command {
            0x20 => self.reply(self.control),
            0x60 | 0xd1..=0xd4 => self.command = Some(command),
            0xa7 => self.control |= 0x20,
            0xa8 => self.control &= !0x20,
            // The mouse interface: its clock line is stuck, there is nothing there.
            0xa9 => self.reply(0x01),
            0xaa => self.reply(0x55),
            0xab => self.reply(0x00),
            0xad => self.control |= 0x10,
            0xae => self.control &= !0x10,
            0xd0 => self.reply(OUTPUT_PORT),
            // Pulse output lines: bit 0 low is the reset line.
            0xf0..=0xff if command & 1 == 0 => return Effect::Reset,
            _ => {}
        }
        Effect::None
    }

    fn data(&mut self, value: u8) -> Effect {
        self.last_was_command = false;
        match self.command.take() {
            Some(0x60) => self.control = value & 0x7f,
            // The output port: its bit 0 is the reset line, too.
            Some(0xd1) if value & 1 == 0 => return Effect::Reset,
            Some(0xd1) => {}
            // Keyboard data as if typed.
            Some(0xd2) => self.reply(value),
            // To the mouse's loop, the mouse or the keyboard: nobody there.
            _ => self.output = Some((TIMEOUT_REPLY, true)),
        }
        Effect::None
    }
}

impl I8042 {
    /// The data port; the command port is four above. Two ranges of one byte, as the ports between
    /// belong to others.
    pub const DATA: u64 = 0x60;
    pub const COMMAND: u64 = 0x64;

    /// `irq`: the keyboard's, ISA 1.
    #[must_use]
    pub fn new(irq: Arc<dyn IrqLine>) -> Self {
        Self { irq, state: Mutex::new(RESET) }
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
        self.irq.set(state.output.is_some() && state.control & CONTROL_KEYBOARD_IRQ != 0);
        result
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
            self.controller.change(|state| state.output.take().map_or(0, |(value, _)| value))
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
        self.change(|state| *state = RESET);
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        DeviceState::encode(self.kind(), 1, &*self.state.hold())
    }

    fn restore(&self, saved: &DeviceState) -> Result<(), StateError> {
        let saved: State = saved.decode(self.kind(), 1)?;
        self.change(|state| *state = saved);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeLine;

    struct Rig {
        controller: Arc<I8042>,
        data: Arc<dyn BusDevice>,
        command: Arc<dyn BusDevice>,
        line: Arc<FakeLine>,
    }

    fn rig() -> Rig {
        let line = Arc::new(FakeLine::default());
        let controller = Arc::new(I8042::new(line.clone()));
        let [(_, data), (_, command)] = controller.ports();
        Rig { controller, data, command, line }
    }

    fn read(port: &Arc<dyn BusDevice>) -> u8 {
        let mut data = [0];
        port.read(0, &mut data);
        data[0]
    }

    fn ask(rig: &Rig, command: u8) -> u8 {
        assert_eq!(rig.command.write(0, &[command]), Effect::None);
        assert_eq!(read(&rig.command) & STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL, "{command:#x}");
        read(&rig.data)
    }

    #[test]
    fn the_self_test_passes_and_the_control_byte_reads_back() {
        let rig = rig();
        assert_eq!(read(&rig.command) & STATUS_OUTPUT_FULL, 0);
        assert_eq!(ask(&rig, 0xaa), 0x55);
        assert_eq!(rig.command.write(0, &[0x60]), Effect::None);
        assert_eq!(rig.data.write(0, &[0x45]), Effect::None);
        assert_eq!(ask(&rig, 0x20), 0x45);
    }

    #[test]
    fn there_is_no_mouse_and_the_keyboard_times_out_at_once() {
        let rig = rig();
        assert_ne!(ask(&rig, 0xa9), 0);
        let _ = rig.command.write(0, &[0x60]);
        let _ = rig.data.write(0, &[CONTROL_KEYBOARD_IRQ]);
        let _ = rig.data.write(0, &[0xff]);
        assert!(rig.line.is_high());
        assert_eq!(read(&rig.command) & STATUS_TIMEOUT, STATUS_TIMEOUT);
        assert_eq!(read(&rig.data), TIMEOUT_REPLY);
        assert!(!rig.line.is_high());
    }

    #[test]
    fn the_reset_line_can_be_pulsed_and_pulled() {
        let rig = rig();
        assert_eq!(rig.command.write(0, &[0xfe]), Effect::Reset);
        assert_eq!(rig.command.write(0, &[0xff]), Effect::None);
        let _ = rig.command.write(0, &[0xd1]);
        assert_eq!(rig.data.write(0, &[0xde]), Effect::Reset);
    }

    #[test]
    fn a_storm_of_all_bytes_leaves_a_working_controller() {
        let rig = rig();
        for round in 0..=0xffu8 {
            for value in 0..=0xff {
                let _ = rig.command.write(0, &[value]);
                let _ = rig.data.write(0, &[round]);
                let _ = rig.data.write(0, &[round, value]);
            }
        }
        let _ = read(&rig.data);
        assert_eq!(ask(&rig, 0xaa), 0x55);
    }

    #[test]
    fn a_saved_controller_comes_back() {
        let saved = rig();
        let _ = saved.command.write(0, &[0x60]);
        let restored = rig();
        restored.controller.restore(&saved.controller.save().unwrap()).unwrap();
        let _ = restored.data.write(0, &[0x21]);
        assert_eq!(ask(&restored, 0x20), 0x21, "the command waited for its byte");
        restored.controller.reset();
        assert_eq!(ask(&restored, 0x20), CONTROL_RESET);
    }
}
