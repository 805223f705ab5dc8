//! Sets: what rules look addresses up in, so that one more is an element, and no rule is made anew.

use std::io;

use super::attributes::Attributes;
use super::batch::Batch;
use super::in_force::{Kind, Made, entries, value_of};
use super::{SUBSYSTEM, Table};

const DELETE_ELEMENT: u16 = 14;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const CREATE: u16 = 0x400;

/// Elements of one message: its length is a number of 16 bits, and an element is below 64 bytes.
const AT_ONCE: usize = 500;

/// A set of keys of one length, each of one or two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Set {
    pub(in super::super) table: Table,
    pub(in super::super) name: &'static str,
    /// For nft(8), which prints by it.
    pub(in super::super) kind: KeyKind,
}

/// What keys are of, by nft(8)'s numbers; several together take six bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum KeyKind {
    Ipv4 = 7,
    Ipv6 = 8,
    Ipv4AndMac = 7 << 6 | 9,
    Ipv6AndMac = 8 << 6 | 9,
}

impl KeyKind {
    /// Each value takes whole registers of four bytes.
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Ipv4AndMac => 4 + 8,
            Self::Ipv6AndMac => 16 + 8,
        }
    }
}

impl Batch {
    /// A set of this table, with these keys and no others.
    pub(in super::super) fn add_set(&mut self, set: &Set, keys: &[Vec<u8>]) {
        let named = Attributes::default().text(1, set.table.name).text(2, set.name);
        let described = named.u32(4, set.kind as u32).u32(5, set.kind.length());
        let what = format!("the set {} of table {}", set.name, set.table);
        // A number by which messages of this batch could name it: names do as well.
        let sent = described.clone().u32(10, self.next_number());
        self.change(set.table, NEW_SET, CREATE, &sent, &what);
        self.made(Made { table: set.table, kind: Kind::Set, attributes: described });
        let mut sorted = keys.to_vec();
        sorted.sort();
        self.elements(set, NEW_ELEMENT, CREATE, &sorted);
        self.contents(*set, sorted);
    }

    /// In a set that is there.
    pub(in super::super) fn add_elements(&mut self, set: &Set, keys: &[Vec<u8>]) {
        self.elements(set, NEW_ELEMENT, CREATE, keys);
    }

    /// Each of which is in the set.
    pub(in super::super) fn remove_elements(&mut self, set: &Set, keys: &[Vec<u8>]) {
        self.elements(set, DELETE_ELEMENT, 0, keys);
    }

    fn elements(&mut self, set: &Set, kind: u16, flags: u16, keys: &[Vec<u8>]) {
        let what = format!("elements of set {} of table {}", set.name, set.table);
        for keys in keys.chunks(AT_ONCE) {
            let list = keys.iter().fold(Attributes::default(), |list, key| {
                let key = Attributes::default().bytes(1, key);
                list.nested(1, &Attributes::default().nested(1, &key))
            });
            let named = Attributes::default().text(1, set.table.name).text(2, set.name);
            self.change(set.table, kind, flags, &named.nested(3, &list), &what);
        }
    }
}

/// Whether the set has these keys, in their order, and no others.
pub(super) fn has_exactly(set: &Set, keys: &[Vec<u8>]) -> io::Result<bool> {
    let mut found = Vec::new();
    for message in entries(set.table, set.name)? {
        let Some(list) = value_of(&message, 3) else { continue };
        for (_, element) in Attributes::iterate(list) {
            let key = value_of(element, 1).and_then(|key| value_of(key, 1));
            found.push(key.unwrap_or_default().to_vec());
        }
    }
    found.sort();
    Ok(found == keys)
}

/// The message that asks for elements.
pub(super) const ELEMENTS: u16 = SUBSYSTEM << 8 | NEW_ELEMENT;
