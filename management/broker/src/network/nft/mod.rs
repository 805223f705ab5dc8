//! The kernel's packet filter, nf_tables, as messages: what a rule is made of, and a batch that
//! comes into force as a whole or not at all (linux/netfilter/nf_tables.h).

pub(super) mod attributes;
mod batch;
mod expression;
mod field;
mod foreign;
mod frame;
mod in_force;
mod set;

use std::fmt;

pub(super) use batch::{Base, Batch, Chain};
pub(super) use expression::{Rule, Verdict};
pub(super) use foreign::dropping;
pub(super) use frame::{Claim, NEIGHBOUR_ADVERTISEMENT, ether_type};
pub(super) use set::{KeyKind, Set};

/// Of messages, the upper byte of their type.
pub(super) const SUBSYSTEM: u16 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 and IPv6 together, as the host takes, sends and routes them.
    Inet = 1,
    /// Frames, as bridges take and forward them.
    Bridge = 7,
}

/// Names are unique in a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: Family,
    pub(super) name: &'static str,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        };
        write!(f, "{family} {}", self.name)
    }
}

/// The table that a message is about: its name is the first attribute of all that are sent of one.
pub(super) fn table_of(attributes: &[u8]) -> Option<&[u8]> {
    let (kind, value) = attributes::Attributes::iterate(attributes).next()?;
    value.strip_suffix(&[0]).filter(|_| kind == 1)
}

pub(super) mod hook {
    pub(in super::super) const PREROUTING: u32 = 0;
    pub(in super::super) const INPUT: u32 = 1;
    pub(in super::super) const FORWARD: u32 = 2;
    pub(in super::super) const OUTPUT: u32 = 3;
    pub(in super::super) const POSTROUTING: u32 = 4;
}
