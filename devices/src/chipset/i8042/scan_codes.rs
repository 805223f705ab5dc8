//! Scan codes of set 2, which keyboards send, and of set 1, into which the controller translates
//! them for software of the PC/XT.

use crate::display::keymap;

pub(super) const BREAK: u8 = 0xf0;
const EXTENDED: u8 = 0xe0;

/// Set 1 by set 2, up to 0x7f (IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device
/// Controller"). Of the codes above, two are translated and the others stay.
const TRANSLATION: [u8; 128] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];
const F7: (u8, u8) = (0x83, 0x41);
const SYSRQ: (u8, u8) = (0x84, 0x54);

/// `KEY_PAUSE` has a sequence of its own, and says nothing when it is let go.
const PAUSE: u16 = 119;
const PAUSE_SET_2: &[u8] = &[0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77];
const PAUSE_SET_1: &[u8] = &[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5];

pub(super) fn to_set_1(code: u8) -> u8 {
    match code {
        0..=0x7f => TRANSLATION[usize::from(code)],
        _ if code == F7.0 => F7.1,
        _ if code == SYSRQ.0 => SYSRQ.1,
        _ => code,
    }
}

fn to_set_2(code: u8) -> Option<u8> {
    match code {
        _ if code == F7.1 => Some(F7.0),
        _ if code == SYSRQ.1 => Some(SYSRQ.0),
        _ => (0..).zip(TRANSLATION).find(|(_, set_1)| *set_1 == code).map(|(set_2, _)| set_2),
    }
}

/// What a keyboard sends for a key; nothing for one that it does not have.
pub(super) fn sequence(key: u16, down: bool, set: u8) -> Vec<u8> {
    if key == PAUSE {
        let sequence = if set == 1 { PAUSE_SET_1 } else { PAUSE_SET_2 };
        return if down { sequence.to_vec() } else { Vec::new() };
    }
    let Some(scan) = keymap::scan_code(key) else { return Vec::new() };
    let code = (scan & 0x7f) as u8;
    let mut bytes = Vec::with_capacity(3);
    bytes.extend((scan > 0xff).then_some(EXTENDED));
    if set == 1 {
        bytes.push(if down { code } else { code | 0x80 });
    } else {
        let Some(code) = to_set_2(code) else { return Vec::new() };
        bytes.extend((!down).then_some(BREAK));
        bytes.push(code);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_the_same_in_both_sets() {
        for key in 1..0x300 {
            for down in [true, false] {
                let mut translated = Vec::new();
                let mut released = 0;
                for byte in sequence(key, down, 2) {
                    if byte == BREAK {
                        released = 0x80;
                    } else {
                        translated.push(to_set_1(byte) | released);
                        released = 0;
                    }
                }
                assert_eq!(translated, sequence(key, down, 1), "key {key}");
            }
        }
    }

    #[test]
    fn well_known_keys_have_their_well_known_codes() {
        assert_eq!(sequence(30, true, 2), [0x1c]); // A
        assert_eq!(sequence(30, false, 2), [0xf0, 0x1c]);
        assert_eq!(sequence(28, true, 2), [0x5a]); // Enter
        assert_eq!(sequence(65, true, 2), [0x83]); // F7
        assert_eq!(sequence(105, true, 1), [0xe0, 0x4b]); // Left
        assert_eq!(sequence(105, false, 2), [0xe0, 0xf0, 0x6b]);
        assert_eq!(sequence(0x2ff, true, 2), [0; 0]);
    }
}
