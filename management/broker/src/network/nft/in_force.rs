//! Whether the kernel has what was put into it: tables, chains and rules, down to what each rule is
//! made of.
//!
//! The kernel tells of more than it was told: handles, counters, defaults. So what was sent must be
//! in what is found, attribute by attribute. What is in it beside that is the kernel's own, unless it
//! is known to change what a packet meets ([`kept`]). Lists are as long as they were.

use std::io;

use super::attributes::Attributes;
use super::set::ELEMENTS;
use super::{SUBSYSTEM, Table};
use crate::network::netlink::Netlink;

const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;

/// What messages of this kind are about, by the type of the message that makes one; the question for
/// all of them is the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table = 0,
    Chain = 3,
    Rule = 6,
    Set = 9,
}

/// Something that was made, with the attributes it was made with.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) table: Table,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
}

/// Whether the kernel has of `table` what was made, and nothing else in it.
pub(super) fn is_in_force(table: Table, made: &[Made]) -> io::Result<bool> {
    for kind in [Kind::Table, Kind::Chain, Kind::Rule, Kind::Set] {
        let mut found = dump(table, kind)?;
        let of_kind = made.iter().filter(|made| made.table == table && made.kind == kind);
        let mut wanted: Vec<&[u8]> = of_kind.map(|made| made.attributes.as_slice()).collect();
        // The rules of a chain come in order, and chains in any.
        let place = |attributes: &[u8]| value_of(attributes, kind.place()).map(<[u8]>::to_vec);
        found.sort_by_key(|attributes| place(attributes));
        wanted.sort_by_key(|attributes| place(attributes));
        let same = |(wanted, found): (&&[u8], &Vec<u8>)| is_as_made(kind, wanted, found);
        if wanted.len() != found.len() || !wanted.iter().zip(&found).all(same) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Kind {
    /// The attribute that names the table, the chain, the set, and of a rule the chain it is in.
    fn place(self) -> u16 {
        match self {
            Self::Table => 1,
            Self::Chain => 3,
            Self::Rule | Self::Set => 2,
        }
    }
}

fn is_as_made(kind: Kind, wanted: &[u8], found: &[u8]) -> bool {
    const TABLE_FLAGS: u16 = 2;
    const HOOK: u16 = 4;
    const SET_FLAGS: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    let expected = match kind {
        // One that sleeps has its rules and asks none of them.
        Kind::Table => value_of(found, TABLE_FLAGS).is_none_or(|flags| number(flags) == 0),
        // One that rules jump to is asked nowhere else.
        Kind::Chain => value_of(found, HOOK).is_some() == value_of(wanted, HOOK).is_some(),
        // Such as that its elements go by themselves.
        Kind::Set => value_of(found, SET_FLAGS).is_none_or(|flags| number(flags) == 0),
        Kind::Rule => {
            let expressions = |of| value_of(of, EXPRESSIONS).unwrap_or_default();
            return has_all(wanted, found, EXPRESSIONS)
                && are_expressions(expressions(wanted), expressions(found));
        }
    };
    expected && has_all(wanted, found, u16::MAX)
}

/// Both are lists: of each expression the name and what it is made with.
fn are_expressions(wanted: &[u8], found: &[u8]) -> bool {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    let mut found = Attributes::iterate(found);
    let same = Attributes::iterate(wanted).all(|(_, wanted)| {
        let Some((_, found)) = found.next() else { return false };
        let data = |of| value_of(of, DATA).unwrap_or_default();
        let name = value_of(wanted, NAME);
        name == value_of(found, NAME)
            && has_all(data(wanted), data(found), u16::MAX)
            && kept(name.unwrap_or_default(), data(found))
    });
    same && found.next().is_none()
}

/// Of what is found beside what was sent: whether it leaves the expression what it was.
fn kept(name: &[u8], found: &[u8]) -> bool {
    // That there is an address, and a port, which the kernel notes itself. Other flags choose the
    // port by chance, or the same address again.
    const NOTED: u32 = 1 | 2;
    let flags = match name {
        b"nat\0" => 7,
        b"masq\0" => 1,
        _ => return true,
    };
    value_of(found, flags).is_none_or(|flags| number(flags) & !NOTED == 0)
}

/// Whether each attribute of `wanted` but `except` is in `found`, and the same there.
fn has_all(wanted: &[u8], found: &[u8], except: u16) -> bool {
    Attributes::iterate_nested(wanted).filter(|(kind, ..)| *kind != except).all(
        |(kind, is_nested, value)| match value_of(found, kind) {
            Some(other) if is_nested => has_all(value, other, u16::MAX),
            Some(other) => value == other,
            // An empty list need not be told of.
            None => is_nested && value.is_empty(),
        },
    )
}

pub(super) fn value_of(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes::iterate(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub(super) fn number(value: &[u8]) -> u32 {
    // Of another size it is none that is known.
    <[u8; 4]>::try_from(value).map_or(u32::MAX, u32::from_be_bytes)
}

/// The attributes of each thing of this kind that the kernel has in the table.
fn dump(table: Table, kind: Kind) -> io::Result<Vec<Vec<u8>>> {
    let found = list(kind, table.family as u8, Some(table.name))?;
    // Of tables and chains the kernel tells of those of other tables too.
    let is_of_table = |message: &Vec<u8>| {
        let attributes = message.get(4..).unwrap_or_default();
        message.first() == Some(&(table.family as u8))
            && super::table_of(attributes) == Some(table.name.as_bytes())
    };
    Ok(found.into_iter().filter(is_of_table).map(|message| message[4..].to_vec()).collect())
}

/// The messages about each thing of this kind in a family (0: in all), perhaps in one table of it.
pub(super) fn list(kind: Kind, family: u8, table: Option<&str>) -> io::Result<Vec<Vec<u8>>> {
    let name = table.map(|name| Attributes::default().text(1, name)).unwrap_or_default();
    ask_for(SUBSYSTEM << 8 | kind as u16, family, &name)
}

/// The attributes of each message about elements of a set.
pub(super) fn entries(table: Table, set: &str) -> io::Result<Vec<Vec<u8>>> {
    let names = Attributes::default().text(1, table.name).text(2, set);
    let found = ask_for(ELEMENTS, table.family as u8, &names)?;
    Ok(found.into_iter().filter_map(|message| message.get(4..).map(<[u8]>::to_vec)).collect())
}

/// What the kernel tells of everything that messages of the type `new` make.
fn ask_for(new: u16, family: u8, names: &Attributes) -> io::Result<Vec<Vec<u8>>> {
    let names = names.as_slice();
    let length = u32::try_from(names.len().saturating_add(20)).unwrap_or(u32::MAX);
    let mut question = length.to_ne_bytes().to_vec();
    question.extend_from_slice(&(new + 1).to_ne_bytes());
    question.extend_from_slice(&(REQUEST | DUMP).to_ne_bytes());
    question.extend_from_slice(&[0; 8]);
    question.extend_from_slice(&[family, 0, 0, 0]);
    question.extend_from_slice(names);
    match Netlink::netfilter(0)?.dump_raw(&question, new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}
