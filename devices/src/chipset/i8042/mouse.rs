//! [`Mouse`]: a PS/2 mouse with a wheel (IntelliMouse), and with two more buttons (Explorer).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::input::{InputEvent, button};

/// Packets of four bytes that wait; movement beyond is added up, so that none is lost.
const MOST_PACKETS: usize = 8;
const MOST_REPLIES: usize = 16;
/// A flood of movement ends at the edge of any screen.
const MOST_MOTION: i32 = 1 << 16;

const ACK: u8 = 0xfa;
const ERROR: u8 = 0xfc;
const TEST_PASSED: u8 = 0xaa;

const SET_RESOLUTION: u8 = 0xe8;
const SET_RATE: u8 = 0xf3;

/// Set one after the other, these sample rates make the mouse say that it has a wheel, and that it
/// has five buttons.
const WHEEL: ([u8; 3], u8) = ([200, 100, 80], 3);
const FIVE_BUTTONS: ([u8; 3], u8) = ([200, 200, 80], 4);

const BUTTONS: [u16; 5] =
    [button::LEFT, button::RIGHT, button::MIDDLE, button::SIDE, button::EXTRA];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mouse {
    pub(super) reporting: bool,
    /// Packets only when asked for.
    remote: bool,
    /// Everything comes back as it was sent.
    wrap: bool,
    /// Twice as fast, in stream mode; kept for the status alone.
    scaling: bool,
    resolution: u8,
    rate: u8,
    last_rates: [u8; 3],
    id: u8,
    command: Option<u8>,
    replies: VecDeque<u8>,
    packets: VecDeque<u8>,
    /// Movement and notches that no packet told yet: to the right, up, towards the user.
    motion: (i32, i32, i32),
    buttons: u8,
}

impl Default for Mouse {
    fn default() -> Self {
        Self {
            reporting: false,
            remote: false,
            wrap: false,
            scaling: false,
            resolution: 2,
            rate: 100,
            last_rates: [0; 3],
            id: 0,
            command: None,
            replies: VecDeque::new(),
            packets: VecDeque::new(),
            motion: (0, 0, 0),
            buttons: 0,
        }
    }
}

impl Mouse {
    /// The next byte for the controller.
    pub(super) fn take(&mut self) -> Option<u8> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        if self.packets.is_empty() && self.motion != (0, 0, 0) && self.streams() {
            self.packet();
        }
        self.packets.pop_front()
    }

    fn streams(&self) -> bool {
        self.reporting && !self.remote && !self.wrap
    }

    /// What the user did in one moment.
    pub(super) fn user(&mut self, events: &[InputEvent]) {
        let before = self.buttons;
        for event in events {
            match *event {
                InputEvent::Motion { dx, dy } => {
                    add(&mut self.motion.0, dx);
                    add(&mut self.motion.1, dy.saturating_neg());
                }
                InputEvent::Wheel { vertical, .. } => {
                    add(&mut self.motion.2, vertical.saturating_neg());
                }
                InputEvent::Button { code, down } => {
                    let bit = BUTTONS.iter().position(|known| *known == code);
                    let mask = bit.map_or(0, |bit| 1 << bit);
                    self.buttons = if down { self.buttons | mask } else { self.buttons & !mask };
                }
                InputEvent::Key { .. } | InputEvent::Position { .. } => {}
            }
        }
        if self.id == 0 {
            self.motion.2 = 0;
        }
        if !self.streams() {
            self.motion = (0, 0, 0);
        } else if self.buttons != before && self.packets.len() / 4 < MOST_PACKETS {
            // A click is told also when it is over before the guest looks.
            self.packet();
        }
    }

    /// Tell what has not been told.
    fn packet(&mut self) {
        let bytes = self.next_packet();
        self.packets.extend(bytes);
    }

    fn next_packet(&mut self) -> Vec<u8> {
        let part = |value: &mut i32, least: i32, most: i32| {
            let part = (*value).clamp(least, most);
            *value -= part;
            part
        };
        let (x, y) = (part(&mut self.motion.0, -127, 127), part(&mut self.motion.1, -127, 127));
        let sign = |value: i32, bit: u8| u8::from(value < 0) << bit;
        let first = 0x08 | self.buttons & 7 | sign(x, 4) | sign(y, 5);
        let mut bytes = vec![first, x as u8, y as u8];
        match self.id {
            3 => bytes.push(part(&mut self.motion.2, -127, 127) as u8),
            4 => {
                let wheel = part(&mut self.motion.2, -7, 7) as u8 & 0xf;
                bytes.push(wheel | (self.buttons >> 3 & 3) << 4);
            }
            _ => {}
        }
        bytes
    }

    /// A byte from the guest.
    pub(super) fn write(&mut self, value: u8) {
        if self.wrap && !matches!(value, 0xec | 0xff) {
            return self.reply(&[value]);
        }
        if let Some(command) = self.command.take() {
            return self.data(command, value);
        }
        // A command ends what was being told.
        self.packets.clear();
        match value {
            0xe6 | 0xe7 => self.scaling = value == 0xe7,
            SET_RESOLUTION | SET_RATE => self.command = Some(value),
            0xe9 => {
                let status = u8::from(self.remote) << 6
                    | u8::from(self.reporting) << 5
                    | u8::from(self.scaling) << 4
                    | (self.buttons & 1) << 2
                    | (self.buttons & 4) >> 1
                    | (self.buttons & 2) >> 1;
                return self.reply(&[ACK, status, self.resolution, self.rate]);
            }
            0xea => self.remote = false,
            0xeb => {
                self.reply(&[ACK]);
                let packet = self.next_packet();
                return self.reply(&packet);
            }
            0xec => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => return self.reply(&[ACK, self.id]),
            0xf4 | 0xf5 => {
                self.reporting = value == 0xf4;
                self.motion = (0, 0, 0);
            }
            0xf6 => self.defaults(),
            0xff => {
                let buttons = self.buttons;
                *self = Self { buttons, ..Self::default() };
                return self.reply(&[ACK, TEST_PASSED, self.id]);
            }
            _ => return self.reply(&[ERROR]),
        }
        self.reply(&[ACK]);
    }

    fn data(&mut self, command: u8, value: u8) {
        if command == SET_RESOLUTION {
            self.resolution = value & 3;
        } else {
            self.rate = value;
            self.last_rates = [self.last_rates[1], self.last_rates[2], value];
            let known =
                [WHEEL, FIVE_BUTTONS].into_iter().find(|(rates, _)| *rates == self.last_rates);
            self.id = known.map_or(self.id, |(_, id)| id);
        }
        self.reply(&[ACK]);
    }

    fn defaults(&mut self) {
        let Self { resolution, rate, .. } = Self::default();
        (self.resolution, self.rate) = (resolution, rate);
        (self.reporting, self.remote, self.scaling) = (false, false, false);
        self.motion = (0, 0, 0);
    }

    fn reply(&mut self, bytes: &[u8]) {
        if self.replies.len() + bytes.len() <= MOST_REPLIES {
            self.replies.extend(bytes);
        }
    }
}

fn add(sum: &mut i32, value: i32) {
    *sum = sum.saturating_add(value).clamp(-MOST_MOTION, MOST_MOTION);
}
