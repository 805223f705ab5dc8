//! All that a filter says of one interface: its own rules and those of the filters that it names, in the order
//! in which libvirt asks them.
//!
//! ```text
//! filter ─ names others ─▶ rules, each with its variables' values ─▶ sorted by priority ─▶ both ways
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use broker::{
    Checks, FilterRule as PortRule, FilterSide, FilterStep, FilterVerdict, FrameMatch,
    MOST_FILTER_RULES, PortFilter,
};
use xml::device::interface::FilterRef;
use xml::filter::{
    Action, Chain, ChainKind, Direction, FilterEntry, FilterRule, STATE_ESTABLISHED, STATE_NEW,
};
use xml::{FilterDef, MacAddress};

use super::builtin::checks;
use super::compile::{Asked, Values, compile, ether_type, is_packet, of_bridges, of_ether_type};
use super::library::{DEEPEST, Library};
use crate::error::{Code, Error};

/// Filters that are come to from one interface, each as often as it is named.
const MOST_FILTERS: usize = 1000;

/// What is in force at an interface that names a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) checks: Checks,
    /// Those that the checks let the guest have; none: those of its network.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) filter: PortFilter,
}

/// # Errors
/// What keeps the filter from being in force there: a filter or a value that is missing.
pub(crate) fn instance(
    library: &Library,
    filter: &FilterRef,
    mac: MacAddress,
) -> Result<Instance, Error> {
    let mut collected = Collected::default();
    let mut values = Values::new();
    add_parameters(&mut values, filter);
    // It is what it is, whatever a parameter says.
    values.insert("MAC".to_owned(), vec![mac.to_string()]);
    collected.add(library, &filter.filter, &values, 0)?;
    Ok(Instance {
        checks: collected.checks,
        addresses: collected.addresses,
        filter: PortFilter { sent: collected.sent.side(), received: collected.received.side() },
    })
}

/// Those of the nearest `<filterref>` count.
fn add_parameters(values: &mut Values, filter: &FilterRef) {
    let mut own = Values::new();
    for parameter in &filter.parameters {
        own.entry(parameter.name.clone()).or_default().push(parameter.value.clone());
    }
    values.extend(own);
}

#[derive(Default)]
struct Collected {
    checks: Checks,
    addresses: Vec<IpAddr>,
    sent: Way,
    received: Way,
    filters: usize,
    rules: usize,
}

/// Rules of one direction, each with its priority.
#[derive(Default)]
struct Way {
    root: Vec<(i32, FilterStep)>,
    chains: BTreeMap<Chain, (i32, Vec<(i32, PortRule)>)>,
    packets: Vec<(i32, PortRule)>,
}

impl Collected {
    fn add(
        &mut self,
        library: &Library,
        name: &str,
        values: &Values,
        depth: usize,
    ) -> Result<(), Error> {
        self.filters = self.filters.saturating_add(1);
        if depth > DEEPEST || self.filters > MOST_FILTERS {
            let text = format!(
                "filter {name:?} is named over more than {DEEPEST} steps, or with more than {MOST_FILTERS} others; \
                 make fewer of them"
            );
            return Err(Error::new(Code::InvalidArgument, text));
        }
        if let Some(checks) = checks(name) {
            self.checks = both(self.checks, checks);
            let asks = checks.arp || checks.ip;
            return if asks { self.add_addresses(name, values) } else { Ok(()) };
        }
        let def = library.get(name).ok_or_else(|| {
            let text = format!(
                "there is no filter {name:?}; define it (nwfilter-define), or name another"
            );
            Error::new(Code::ResourceMissing, text)
        })?;
        let mut number = 0;
        for entry in &def.entries {
            match entry {
                FilterEntry::Include(include) => {
                    let mut values = values.clone();
                    let mac = values.get("MAC").cloned().unwrap_or_default();
                    add_parameters(&mut values, include);
                    values.insert("MAC".to_owned(), mac);
                    self.add(library, &include.filter, &values, depth + 1)?;
                }
                FilterEntry::Rule(rule) => {
                    number += 1;
                    let label = format!("{name}, rule {number}");
                    let wrong = |problem: String| {
                        let text = format!("rule {number} of filter {name:?}: {problem}");
                        Error::new(Code::InvalidArgument, text)
                    };
                    for asked in compile(rule, values).map_err(wrong)? {
                        self.add_rule(def, rule, &label, asked);
                    }
                    if self.rules > MOST_FILTER_RULES {
                        return Err(wrong(format!(
                            "with it the interface has more than {MOST_FILTER_RULES} rules"
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// What rules of the checked filters would compare with.
    fn add_addresses(&mut self, name: &str, values: &Values) -> Result<(), Error> {
        for variable in ["IP", "IPV6"] {
            for text in values.get(variable).into_iter().flatten() {
                let address = text.parse().map_err(|_| {
                    let text =
                        format!("filter {name:?}: ${variable} is {text:?}, which is no IP address");
                    Error::new(Code::InvalidArgument, text)
                })?;
                if !self.addresses.contains(&address) {
                    self.addresses.push(address);
                }
            }
        }
        Ok(())
    }

    fn add_rule(&mut self, def: &FilterDef, rule: &FilterRule, label: &str, asked: Asked) {
        let verdict = match rule.action {
            Action::Accept => FilterVerdict::Accept,
            Action::Drop => FilterVerdict::Drop,
            Action::Reject => FilterVerdict::Reject,
            Action::Return => FilterVerdict::Return,
            Action::Continue => FilterVerdict::Continue,
        };
        let made = |matching: Vec<FrameMatch>, states: u8| PortRule {
            label: label.to_owned(),
            matching: asked.of.iter().cloned().chain(matching).collect(),
            states,
            verdict,
        };
        let reversed = || {
            let reverse = |it: &FrameMatch| FrameMatch { field: it.field.reversed(), ..it.clone() };
            asked.matching.iter().map(reverse).collect()
        };
        let written = || asked.matching.clone();
        let is_packet = rule.kind().is_some_and(is_packet);
        let is_typed = rule.protocols.iter().any(|protocol| protocol.get("type").is_some());
        let states = asked.states.unwrap_or(0);
        // What is let through one way is answered the other way.
        let is_answered = is_packet
            && asked.states.is_none()
            && !is_typed
            && matches!(rule.action, Action::Accept | Action::Return);
        let is_tracked = is_packet
            && asked.states.is_none()
            && rule.is_stateful()
            && matches!(rule.action, Action::Accept | Action::Return);
        let (new, known) = if is_tracked {
            (STATE_NEW | STATE_ESTABLISHED, STATE_ESTABLISHED)
        } else {
            (states, states)
        };
        let (sent, received) = match rule.direction {
            Direction::Out => {
                (Some(made(written(), new)), is_answered.then(|| made(reversed(), known)))
            }
            Direction::In => {
                (is_answered.then(|| made(reversed(), known)), Some(made(written(), new)))
            }
            // As what the guest is sent is seen.
            Direction::InOut => (Some(made(reversed(), states)), Some(made(written(), states))),
        };
        self.rules =
            self.rules.saturating_add(1 + usize::from(sent.is_some() && received.is_some()));
        for (way, made) in [(&mut self.sent, sent), (&mut self.received, received)] {
            if let Some(made) = made {
                way.add(def, rule, is_packet, made);
            }
        }
    }
}

impl Way {
    fn add(&mut self, def: &FilterDef, rule: &FilterRule, is_packet: bool, made: PortRule) {
        let priority = rule.priority.unwrap_or_default();
        if is_packet {
            return self.packets.push((priority, made));
        }
        match def.chain.as_ref().filter(|chain| !chain.is_root()) {
            None => self.root.push((priority, FilterStep::Rule(made))),
            Some(chain) => {
                let of_chain = def.priority.unwrap_or_default();
                let known = self.chains.entry(chain.clone()).or_insert((of_chain, Vec::new()));
                // Where filters share a chain, and do not agree when it is asked.
                known.0 = known.0.min(of_chain);
                known.1.push((priority, made));
            }
        }
    }

    /// Sorting leaves rules of one priority as they came.
    fn side(mut self) -> FilterSide {
        for (chain, (priority, mut rules)) in self.chains {
            rules.sort_by_key(|(priority, _)| *priority);
            let rules = rules.into_iter().map(|(_, rule)| rule).collect();
            let matching = of_chain(chain.kind());
            let step = FilterStep::Chain { name: chain.name().to_owned(), matching, rules };
            self.root.push((priority, step));
        }
        self.root.sort_by_key(|(priority, _)| *priority);
        self.packets.sort_by_key(|(priority, _)| *priority);
        FilterSide {
            frames: self.root.into_iter().map(|(_, step)| step).collect(),
            packets: self.packets.into_iter().map(|(_, rule)| rule).collect(),
        }
    }
}

fn of_chain(kind: ChainKind) -> Vec<FrameMatch> {
    match kind {
        ChainKind::Root | ChainKind::Mac => Vec::new(),
        ChainKind::Stp => vec![of_bridges()],
        ChainKind::Vlan => vec![of_ether_type(ether_type::VLAN)],
        ChainKind::Arp => vec![of_ether_type(ether_type::ARP)],
        ChainKind::Rarp => vec![of_ether_type(ether_type::RARP)],
        ChainKind::Ipv4 => vec![of_ether_type(ether_type::IPV4)],
        ChainKind::Ipv6 => vec![of_ether_type(ether_type::IPV6)],
    }
}

fn both(one: Checks, other: Checks) -> Checks {
    Checks {
        mac: one.mac || other.mac,
        arp: one.arp || other.arp,
        ip: one.ip || other.ip,
        dhcp_server: one.dhcp_server || other.dhcp_server,
        router: one.router || other.router,
    }
}
