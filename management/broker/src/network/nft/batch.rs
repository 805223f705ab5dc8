//! A batch of changes: the kernel takes all of them or none.

use std::io;

use super::attributes::Attributes;
use super::expression::Rule;
use super::in_force::{Kind, Made, is_in_force};
use super::set::{Set, has_exactly};
use super::{SUBSYSTEM, Table};
use crate::network::netlink::Netlink;

const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Where the kernel asks a chain.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Base {
    /// `filter` or `nat`
    pub(in super::super) kind: &'static str,
    pub(in super::super) hook: u32,
    pub(in super::super) priority: i32,
}

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Chain<'a> {
    pub(in super::super) table: Table,
    pub(in super::super) name: &'a str,
    /// None: rules of other chains jump to it.
    pub(in super::super) base: Option<Base>,
}

impl Chain<'_> {
    pub(in super::super) fn is_at(&self, hook: u32) -> bool {
        self.base.is_some_and(|base| base.hook == hook)
    }
}

#[derive(Debug)]
pub(in super::super) struct Batch {
    bytes: Vec<u8>,
    /// Where the last change begins in them.
    last: usize,
    /// What each message is, by its sequence number.
    what: Vec<String>,
    /// Those that are replaced.
    tables: Vec<Table>,
    /// What they then have.
    made: Vec<Made>,
    /// And what their sets have, in order.
    contents: Vec<(Set, Vec<Vec<u8>>)>,
}

impl Batch {
    pub(in super::super) fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            last: 0,
            what: Vec::new(),
            tables: Vec::new(),
            made: Vec::new(),
            contents: Vec::new(),
        };
        batch.message(BEGIN, 0, 0, SUBSYSTEM, &Attributes::default(), "the batch");
        batch
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        attributes: &Attributes,
        what: &str,
    ) {
        let attributes = attributes.as_slice();
        // A header of netlink, and one of netfilter.
        let length = u32::try_from(attributes.len().saturating_add(20)).unwrap_or(u32::MAX);
        let sequence = u32::try_from(self.what.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(attributes);
        self.what.push(what.to_owned());
    }

    /// One that no other message of this batch has.
    pub(super) fn next_number(&self) -> u32 {
        u32::try_from(self.what.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn made(&mut self, made: Made) {
        self.made.push(made);
    }

    pub(super) fn contents(&mut self, set: Set, keys: Vec<Vec<u8>>) {
        self.contents.push((set, keys));
    }

    pub(super) fn change(
        &mut self,
        table: Table,
        kind: u16,
        flags: u16,
        attributes: &Attributes,
        what: &str,
    ) {
        self.last = self.bytes.len();
        let family = table.family as u8;
        self.message(SUBSYSTEM << 8 | kind, flags, family, 0, attributes, what);
    }

    /// Remove the table, also if there is none. The rules added to it are then all that it has.
    pub(in super::super) fn remove(&mut self, table: Table) {
        self.tables.push(table);
        let name = Attributes::default().text(1, table.name);
        self.change(table, NEW_TABLE, CREATE, &name, &format!("the table {table}"));
        let what = format!("the removal of the table {table} before");
        self.change(table, DELETE_TABLE, 0, &name, &what);
    }

    pub(in super::super) fn add_table(&mut self, table: Table) {
        let name = Attributes::default().text(1, table.name);
        self.change(table, NEW_TABLE, CREATE, &name, &format!("the table {table}"));
        self.made.push(Made { table, kind: Kind::Table, attributes: name });
    }

    pub(in super::super) fn add_chain(&mut self, chain: &Chain<'_>) {
        const ACCEPT: u32 = 1;
        let Chain { table, name, base } = *chain;
        let mut attributes = Attributes::default().text(1, table.name).text(3, name);
        if let Some(base) = base {
            let priority = base.priority.to_be_bytes();
            let hook = Attributes::default().u32(1, base.hook).bytes(2, &priority);
            attributes = attributes.nested(4, &hook).u32(5, ACCEPT).text(7, base.kind);
        }
        let what = format!("the chain {name} of table {table}");
        self.change(table, NEW_CHAIN, CREATE, &attributes, &what);
        self.made.push(Made { table, kind: Kind::Chain, attributes });
    }

    pub(in super::super) fn add_rule(&mut self, chain: &Chain<'_>, rule: &Rule) {
        let Chain { table, name, .. } = *chain;
        // As nft(8) writes a comment: a type, a length, the text and its end.
        let mut comment = rule.comment.clone();
        while comment.len() > 127 {
            comment.pop();
        }
        let length = u8::try_from(comment.len().saturating_add(1)).unwrap_or(u8::MAX);
        let mut data = vec![0, length];
        data.extend_from_slice(comment.as_bytes());
        data.push(0);
        let attributes = Attributes::default()
            .text(1, table.name)
            .text(2, name)
            .nested(4, &rule.expressions)
            .bytes(7, &data);
        let what = format!("the rule {comment:?} of chain {name} of table {table}");
        self.change(table, NEW_RULE, CREATE | APPEND, &attributes, &what);
        self.made.push(Made { table, kind: Kind::Rule, attributes });
    }

    /// Whether the kernel has these tables as they were made, and nothing else in them.
    pub(in super::super) fn is_in_force(&self) -> io::Result<bool> {
        for table in &self.tables {
            if !is_in_force(*table, &self.made)? {
                return Ok(false);
            }
        }
        for (set, keys) in &self.contents {
            if !has_exactly(set, keys)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Put it in force. An error names what the kernel refused first.
    pub(in super::super) fn commit(mut self) -> Result<(), (String, io::Error)> {
        // The last change alone is acknowledged: there is no room for as many answers as there are
        // changes. Those that are refused are answered in any case.
        let last = u32::try_from(self.what.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let flags = self.bytes.get_mut(self.last..).and_then(|message| message.get_mut(6..8));
        if let Some([low, high]) = flags {
            let with_ack = u16::from_ne_bytes([*low, *high]) | ACK;
            [*low, *high] = with_ack.to_ne_bytes();
        }
        self.message(END, 0, 0, SUBSYSTEM, &Attributes::default(), "the end of the batch");
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error| (what, error)
        };
        let netlink = Netlink::netfilter(0).map_err(failed("no socket to it"))?;
        crate::sys::send_buffer(&netlink, self.bytes.len().saturating_mul(2))
            .map_err(failed("no room for them"))?;
        netlink.send_bytes(&self.bytes).map_err(failed("the batch"))?;
        match netlink.verdict(last).map_err(failed("no answer"))? {
            None => Ok(()),
            Some((sequence, error)) => {
                let at = usize::try_from(sequence).unwrap_or(usize::MAX);
                let what = self.what.get(at).cloned().unwrap_or_else(|| "the batch".to_owned());
                Err((what, error))
            }
        }
    }
}
