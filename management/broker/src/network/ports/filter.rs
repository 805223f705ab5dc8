//! The rules of a port's filter: what a guest sends is asked where its frame comes in, and what is sent to
//! it where that goes out.
//!
//! ```text
//! prerouting (-200)  checks ─▶ filter-sent ─▶ filter-sent-packets ─▶ the bridge learns and forwards
//!                              ─▶ filter-received ─▶ filter-received-packets ─▶ the guest
//! ```
//! Frames and packets have a base chain each: what the one accepts, the other is asked about. Both come
//! behind the kernel's connection tracking of bridges, which has the priority of the checks.

use std::io;

use super::super::filter::{
    FieldTest, FilterRule, FilterSide, FilterStep, FilterVerdict, FrameMatch, PortFilter,
};
use super::{Base, Batch, Chain, PortRules, Rule, TABLE, Verdict, hook, port_rule};

const fn chain(name: &'static str, hook: u32, priority: i32) -> Chain<'static> {
    Chain { table: TABLE, name, base: Some(Base { kind: "filter", hook, priority }) }
}

const FRAMES: i32 = -150;
const PACKETS: i32 = -140;

const SENT: Chain<'_> = chain("filter-sent", hook::PREROUTING, FRAMES);
const SENT_PACKETS: Chain<'_> = chain("filter-sent-packets", hook::PREROUTING, PACKETS);
/// What is for the bridge itself by its group comes this way alone.
const SENT_TO_BRIDGE: Chain<'_> = chain("filter-sent-to-bridge", hook::INPUT, FRAMES);
const RECEIVED: Chain<'_> = chain("filter-received", hook::POSTROUTING, FRAMES);
const RECEIVED_PACKETS: Chain<'_> = chain("filter-received-packets", hook::POSTROUTING, PACKETS);

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Sent,
    Received,
}

pub(super) fn add(batch: &mut Batch, ports: &[PortRules]) {
    let filtered = || ports.iter().filter_map(|port| Some((port, port.filter.as_ref()?)));
    if filtered().next().is_none() {
        return;
    }
    for chain in [&SENT, &SENT_PACKETS, &SENT_TO_BRIDGE, &RECEIVED, &RECEIVED_PACKETS] {
        batch.add_chain(chain);
    }
    for (port, PortFilter { sent, received }) in filtered() {
        Side { port, way: Way::Sent, batch: &mut *batch }.add(sent);
        Side { port, way: Way::Received, batch: &mut *batch }.add(received);
    }
}

struct Side<'a> {
    port: &'a PortRules,
    way: Way,
    batch: &'a mut Batch,
}

impl Side<'_> {
    /// Names of interfaces have no '/'.
    fn name(&self, part: &str) -> String {
        let way = match self.way {
            Way::Sent => "sent",
            Way::Received => "received",
        };
        format!("filter-{}/{way}{part}", self.port.tap)
    }

    fn at_port(&self) -> Rule {
        match self.way {
            Way::Sent => {
                port_rule(self.port, "filter of what it sends").into_host_by(&self.port.tap)
            }
            Way::Received => {
                port_rule(self.port, "filter of what it is sent").out_by(&self.port.tap)
            }
        }
    }

    fn add(&mut self, side: &FilterSide) {
        if !side.frames.is_empty() {
            let frames = self.name("");
            self.batch.add_chain(&inner(&frames));
            for step in &side.frames {
                self.add_step(&frames, step);
            }
            let base = if self.way == Way::Sent { &SENT } else { &RECEIVED };
            self.batch.add_rule(base, &self.at_port().jump(&frames));
            if self.way == Way::Sent {
                let reserved = self.at_port().for_reserved_groups();
                self.batch.add_rule(&SENT_TO_BRIDGE, &reserved.jump(&frames));
            }
        }
        if !side.packets.is_empty() {
            let packets = self.name("/packets");
            self.batch.add_chain(&inner(&packets));
            for rule in &side.packets {
                let rejects = self.way == Way::Sent;
                self.batch.add_rule(&inner(&packets), &self.rule(rule, rejects));
            }
            let base = if self.way == Way::Sent { &SENT_PACKETS } else { &RECEIVED_PACKETS };
            self.batch.add_rule(base, &self.at_port().jump(&packets));
        }
    }

    fn add_step(&mut self, frames: &str, step: &FilterStep) {
        match step {
            FilterStep::Rule(rule) => {
                let rule = self.rule(rule, false);
                self.batch.add_rule(&inner(frames), &rule);
            }
            FilterStep::Chain { name, matching, rules } => {
                let part = self.name(&format!("/chain-{name}"));
                self.batch.add_chain(&inner(&part));
                for rule in rules {
                    let rule = self.rule(rule, false);
                    self.batch.add_rule(&inner(&part), &rule);
                }
                let jump = port_rule(self.port, &format!("chain {name}"));
                let jump = matching.iter().fold(jump, matched).jump(&part);
                self.batch.add_rule(&inner(frames), &jump);
            }
        }
    }

    /// The kernel rejects on its way in alone, and what is no packet has nobody to be told.
    fn rule(&self, rule: &FilterRule, rejects: bool) -> Rule {
        let made = port_rule(self.port, &rule.label);
        let made = rule.matching.iter().fold(made, matched);
        let made = if rule.states == 0 { made } else { made.in_states(rule.states) };
        match rule.verdict {
            FilterVerdict::Accept => made.verdict(Verdict::Accept),
            FilterVerdict::Reject if rejects => made.reject(),
            FilterVerdict::Drop | FilterVerdict::Reject => made.verdict(Verdict::Drop),
            FilterVerdict::Return => made.verdict(Verdict::Return),
            FilterVerdict::Continue => made.only_counted(),
        }
    }
}

/// Which module the kernel refused a filter's rules for the want of, and how to do without.
pub(in super::super) fn lacking(
    ports: &[PortRules],
    error: &io::Error,
) -> Option<(&'static str, &'static str)> {
    let any = |is: fn(&FilterRule) -> bool| {
        ports.iter().filter_map(|port| port.filter.as_ref()).any(|it| it.rules().any(is))
    };
    match error.raw_os_error()? {
        // What nf_tables says where it has no tracking of connections for a family.
        libc::EPROTO | libc::EOPNOTSUPP if any(|rule| rule.states != 0) => {
            Some(("nf_conntrack_bridge", "write statematch='false' into the rule"))
        }
        libc::ENOENT if any(|rule| rule.verdict == FilterVerdict::Reject) => {
            Some(("nft_reject_bridge", "write action='drop' into the rule"))
        }
        _ => None,
    }
}

fn inner(name: &str) -> Chain<'_> {
    Chain { table: TABLE, name, base: None }
}

fn matched(rule: Rule, matching: &FrameMatch) -> Rule {
    let FrameMatch { field, test, inverted } = matching;
    match test {
        FieldTest::Is(value) => rule.field_is(*field, value, *inverted),
        FieldTest::Masked { mask, value } => rule.field_masked(*field, mask, value, *inverted),
        FieldTest::Between(first, last) => rule.field_between(*field, (first, last), *inverted),
    }
}
