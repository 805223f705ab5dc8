//! [`Keyboard`]: a PS/2 keyboard with its command set.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::scan_codes::sequence;

/// Bytes of keys that wait for the guest: what is typed beyond is lost, as on the real one.
const MOST_TYPED: usize = 128;
/// Replies that wait; nobody asks so much without reading.
const MOST_REPLIES: usize = 16;

const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const TEST_PASSED: u8 = 0xaa;

const SET_LEDS: u8 = 0xed;
const SCAN_CODE_SET: u8 = 0xf0;
const SET_RATE: u8 = 0xf3;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keyboard {
    pub(super) scanning: bool,
    set: u8,
    leds: u8,
    /// The command whose data byte comes next.
    command: Option<u8>,
    replies: VecDeque<u8>,
    typed: VecDeque<u8>,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self {
            scanning: true,
            set: 2,
            leds: 0,
            command: None,
            replies: VecDeque::new(),
            typed: VecDeque::new(),
        }
    }
}

impl Keyboard {
    /// The next byte for the controller.
    pub(super) fn take(&mut self) -> Option<u8> {
        self.replies.pop_front().or_else(|| self.typed.pop_front())
    }

    pub(super) fn key(&mut self, code: u16, down: bool) {
        let bytes = sequence(code, down, self.set);
        if self.scanning && self.typed.len() + bytes.len() <= MOST_TYPED {
            self.typed.extend(bytes);
        }
    }

    /// A byte from the guest.
    pub(super) fn write(&mut self, value: u8) {
        if let Some(command) = self.command.take() {
            return self.data(command, value);
        }
        match value {
            SET_LEDS | SCAN_CODE_SET | SET_RATE => {
                self.command = Some(value);
                self.reply(&[ACK]);
            }
            0xee => self.reply(&[0xee]), // echo
            0xf2 => self.reply(&[ACK, 0xab, 0x83]),
            0xf4 => {
                self.typed.clear();
                self.scanning = true;
                self.reply(&[ACK]);
            }
            0xf5 => {
                self.defaults(false);
                self.reply(&[ACK]);
            }
            0xf6 => {
                self.defaults(true);
                self.reply(&[ACK]);
            }
            // Which keys repeat, in set 3, which is not ours: taken, and nothing changes.
            0xf7..=0xfa => self.reply(&[ACK]),
            0xff => {
                self.replies.clear();
                self.defaults(true);
                self.reply(&[ACK, TEST_PASSED]);
            }
            _ => self.reply(&[RESEND]),
        }
    }

    fn data(&mut self, command: u8, value: u8) {
        match command {
            SET_LEDS => self.leds = value & 7,
            SCAN_CODE_SET if value == 0 => return self.reply(&[ACK, self.set]),
            SCAN_CODE_SET if matches!(value, 1 | 2) => self.set = value,
            SCAN_CODE_SET => return self.reply(&[RESEND]),
            _ => {}
        }
        self.reply(&[ACK]);
    }

    fn defaults(&mut self, scanning: bool) {
        self.typed.clear();
        (self.scanning, self.set, self.leds) = (scanning, 2, 0);
    }

    fn reply(&mut self, bytes: &[u8]) {
        if self.replies.len() + bytes.len() <= MOST_REPLIES {
            self.replies.extend(bytes);
        }
    }
}
