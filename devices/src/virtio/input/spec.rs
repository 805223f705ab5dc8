//! Constants of virtio 1.2 §5.8 and of Linux's input events (`linux/input-event-codes.h`).

use super::Role;
use crate::input::{InputEvent, button};

pub(super) mod select {
    /// Offsets in the configuration space.
    pub(crate) const SELECT: u64 = 0;
    pub(crate) const SUBSELECT: u64 = 1;

    pub(crate) const NAME: u8 = 0x01;
    pub(crate) const SERIAL: u8 = 0x02;
    pub(crate) const IDS: u8 = 0x03;
    pub(crate) const PROPERTIES: u8 = 0x10;
    pub(crate) const EVENTS: u8 = 0x11;
    pub(crate) const ABSOLUTE: u8 = 0x12;
}

pub(super) mod kind {
    pub(crate) const SYNC: u16 = 0;
    pub(crate) const KEY: u16 = 1;
    pub(crate) const RELATIVE: u16 = 2;
    pub(crate) const ABSOLUTE: u16 = 3;
    pub(crate) const REPEAT: u16 = 0x14;
}

pub(super) mod axis {
    pub(crate) const X: u16 = 0;
    pub(crate) const Y: u16 = 1;
    pub(crate) const HORIZONTAL_WHEEL: u16 = 6;
    pub(crate) const WHEEL: u16 = 8;
}

/// Longest content of the configuration space.
pub(super) const LONGEST: usize = 128;
/// `struct virtio_input_event`.
pub(super) const EVENT: usize = 8;
/// Keys of a keyboard: `KEY_ESC` to `KEY_MICMUTE`, the last before the buttons.
pub(super) const LAST_KEY: u16 = 248;

const BUS_VIRTUAL: u16 = 6;
const VENDOR: u16 = 0x0627;

const POINTER_BUTTONS: [u16; 5] =
    [button::LEFT, button::RIGHT, button::MIDDLE, button::SIDE, button::EXTRA];

/// What the driver selected; nothing for what there is not.
pub(super) fn config(role: Role, select: u8, subselect: u8) -> Vec<u8> {
    let (name, product) = match role {
        Role::Keyboard => ("Virtio Keyboard", 1),
        Role::Mouse => ("Virtio Mouse", 2),
        Role::Tablet => ("Virtio Tablet", 3),
    };
    match (select, subselect) {
        (select::NAME, 0) => name.as_bytes().to_vec(),
        (select::IDS, 0) => [BUS_VIRTUAL, VENDOR, product, 1].map(u16::to_le_bytes).concat(),
        (select::SERIAL | select::PROPERTIES, _) => Vec::new(),
        (select::EVENTS, kind) => bitmap(&codes(role, kind.into())),
        (select::ABSOLUTE, axis) if role == Role::Tablet && u16::from(axis) <= axis::Y => {
            // Minimum, maximum, fuzz, flat, resolution.
            [0, u32::from(InputEvent::FAR), 0, 0, 0].map(u32::to_le_bytes).concat()
        }
        _ => Vec::new(),
    }
}

/// Codes of a kind of events that the device can send.
fn codes(role: Role, kind: u16) -> Vec<u16> {
    match (role, kind) {
        (Role::Keyboard, kind::KEY) => (1..=LAST_KEY).collect(),
        (Role::Keyboard, kind::REPEAT) => vec![0, 1],
        (Role::Mouse | Role::Tablet, kind::KEY) => POINTER_BUTTONS.to_vec(),
        (Role::Mouse, kind::RELATIVE) => {
            vec![axis::X, axis::Y, axis::HORIZONTAL_WHEEL, axis::WHEEL]
        }
        (Role::Tablet, kind::RELATIVE) => vec![axis::HORIZONTAL_WHEEL, axis::WHEEL],
        (Role::Tablet, kind::ABSOLUTE) => vec![axis::X, axis::Y],
        _ => Vec::new(),
    }
}

fn bitmap(codes: &[u16]) -> Vec<u8> {
    let mut bits = vec![0; codes.iter().max().map_or(0, |last| usize::from(last / 8) + 1)];
    for code in codes {
        bits[usize::from(code / 8)] |= 1 << (code % 8);
    }
    bits
}

pub(super) fn has_key(role: Role, code: u16) -> bool {
    match role {
        Role::Keyboard => (1..=LAST_KEY).contains(&code),
        Role::Mouse | Role::Tablet => POINTER_BUTTONS.contains(&code),
    }
}

pub(super) fn encode(kind: u16, code: u16, value: u32) -> [u8; EVENT] {
    let ([k0, k1], [c0, c1]) = (kind.to_le_bytes(), code.to_le_bytes());
    let [v0, v1, v2, v3] = value.to_le_bytes();
    [k0, k1, c0, c1, v0, v1, v2, v3]
}
