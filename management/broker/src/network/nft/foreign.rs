//! Chains of others that drop what they do not know: what we accept, they are asked about all the
//! same.
//!
//! Looked for are chains at the hooks that packets of guests pass, whose policy is to drop or that
//! have a rule which drops everything. Whether such a chain lets a bridge through is told by
//! the names of interfaces that rules of its table let through or send elsewhere; what lies in sets and maps
//! is not looked into.

use std::collections::BTreeSet;
use std::io;

use super::super::{ForeignChain, ForeignHook};
use super::attributes::Attributes;
use super::hook;
use super::in_force::{Kind, list, number, value_of};

/// Families by their numbers, as nft(8) calls them.
const FAMILIES: [(u8, &str); 4] = [(1, "inet"), (2, "ip"), (7, "bridge"), (10, "ip6")];
/// Names that are kept of one table, and chains of one host: more are no firewall for people.
const MAX_NAMES: usize = 4096;
const MAX_CHAINS: usize = 64;

/// Attributes of chains and of their hooks.
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const DROP: u32 = 0;

pub(in super::super) fn dropping(own: &str) -> io::Result<Vec<ForeignChain>> {
    let chains = list(Kind::Chain, 0, None)?;
    let mut found: Vec<ForeignChain> = Vec::new();
    for message in &chains {
        let Some(chain) = base_chain(message).filter(|chain| chain.table != own) else { continue };
        if found.len() == MAX_CHAINS {
            break;
        }
        found.push(chain);
    }
    let mut tables: Vec<(String, String)> = Vec::new();
    for chain in &found {
        let table = (chain.family.clone(), chain.table.clone());
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    for (family, table) in tables {
        let number = FAMILIES.iter().find(|(_, name)| *name == family).map_or(0, |(it, _)| *it);
        let rules = list(Kind::Rule, number, Some(&table))?;
        let of_table = found.iter_mut().filter(|it| it.family == family && it.table == table);
        let mut of_table: Vec<_> = of_table.collect();
        let names = chains
            .iter()
            .filter(|it| is_of(it, number, &table))
            .filter_map(|it| text(it, CHAIN_NAME));
        let names: BTreeSet<String> = names.collect();
        for chain in &mut of_table {
            chain.has_docker = names.contains("DOCKER-USER");
            chain.has_ufw = names.iter().any(|name| name.starts_with("ufw"));
        }
        for message in rules.iter().filter(|it| is_of(it, number, &table)) {
            learn(message, &mut of_table);
        }
    }
    found.retain(|chain| chain.by_policy || chain.by_rule);
    Ok(found)
}

/// Whether it is about something in this table.
fn is_of(message: &[u8], family: u8, table: &str) -> bool {
    message.first() == Some(&family)
        && super::table_of(attributes(message)) == Some(table.as_bytes())
}

/// Behind the header of netfilter.
fn attributes(message: &[u8]) -> &[u8] {
    message.get(4..).unwrap_or_default()
}

fn text(message: &[u8], kind: u16) -> Option<String> {
    let value = value_of(attributes(message), kind)?;
    String::from_utf8(value.strip_suffix(&[0])?.to_vec()).ok()
}

fn base_chain(message: &[u8]) -> Option<ForeignChain> {
    let family = message.first()?;
    let (_, family) = FAMILIES.iter().find(|(number, _)| number == family)?;
    let at = value_of(attributes(message), CHAIN_HOOK)?;
    let hook = match number(value_of(at, HOOK_NUMBER)?) {
        hook::INPUT => ForeignHook::Input,
        hook::FORWARD => ForeignHook::Forward,
        _ => return None,
    };
    let table = super::table_of(attributes(message))?;
    let policy = value_of(attributes(message), CHAIN_POLICY).map(number);
    Some(ForeignChain {
        family: (*family).to_owned(),
        table: String::from_utf8(table.to_vec()).ok()?,
        chain: text(message, CHAIN_NAME)?,
        hook,
        priority: number(value_of(at, HOOK_PRIORITY)?).cast_signed(),
        by_policy: policy == Some(DROP),
        by_rule: false,
        knows_in: BTreeSet::new(),
        knows_out: BTreeSet::new(),
        has_docker: false,
        has_ufw: false,
    })
}

/// What a rule means for the base chains of its table.
fn learn(message: &[u8], chains: &mut [&mut ForeignChain]) {
    const RULE_CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let Some(of_chain) = text(message, RULE_CHAIN) else { return };
    let rule = Sense::of(value_of(attributes(message), EXPRESSIONS).unwrap_or_default());
    for chain in chains {
        if rule.drops && !rule.is_conditional && chain.chain == of_chain {
            chain.by_rule = true;
        }
        if rule.goes_on {
            let room = |names: &BTreeSet<String>| MAX_NAMES.saturating_sub(names.len());
            let (left, right) = (room(&chain.knows_in), room(&chain.knows_out));
            chain.knows_in.extend(rule.into.iter().take(left).cloned());
            chain.knows_out.extend(rule.out.iter().take(right).cloned());
        }
    }
}

/// A rule, as far as it can be told.
#[derive(Debug, Default)]
struct Sense {
    drops: bool,
    /// It accepts, or has other rules decide.
    goes_on: bool,
    is_conditional: bool,
    /// Names of interfaces that it is about.
    into: Vec<String>,
    out: Vec<String>,
}

impl Sense {
    fn of(expressions: &[u8]) -> Self {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        const INTO: u32 = 6;
        const OUT: u32 = 7;
        let mut sense = Self::default();
        let mut loaded = 0;
        for (_, expression) in Attributes::iterate(expressions) {
            let data = value_of(expression, DATA).unwrap_or_default();
            match value_of(expression, NAME).unwrap_or_default() {
                b"counter\0" | b"log\0" => {}
                b"immediate\0" => sense.verdict(data),
                b"reject\0" => sense.drops = true,
                // Of iptables (xt_REJECT); others only write something down or change a packet.
                b"target\0" => {
                    sense.drops |=
                        value_of(data, 1).is_some_and(|name| name.starts_with(b"REJECT\0"));
                }
                b"meta\0" => {
                    sense.is_conditional = true;
                    loaded = value_of(data, 2).map_or(0, number);
                }
                b"cmp\0" => {
                    sense.is_conditional = true;
                    let name = interface(data);
                    match (std::mem::take(&mut loaded), name) {
                        (INTO, Some(name)) => sense.into.push(name),
                        (OUT, Some(name)) => sense.out.push(name),
                        _ => {}
                    }
                }
                _ => sense.is_conditional = true,
            }
        }
        sense
    }

    fn verdict(&mut self, data: &[u8]) {
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        let value = value_of(data, 2).unwrap_or_default();
        let Some(code) = value_of(value, VERDICT).and_then(|it| value_of(it, CODE)) else { return };
        // To return is to ask the rest of the chain that jumped here, which may drop it.
        const RETURN: u32 = (-5_i32).cast_unsigned();
        match number(code) {
            DROP => self.drops = true,
            RETURN => {}
            _ => self.goes_on = true,
        }
    }
}

/// The name that is compared with, where it is one and is to be equal.
fn interface(data: &[u8]) -> Option<String> {
    const HOW: u16 = 2;
    const VALUE: u16 = 3;
    if value_of(data, HOW).map(number) != Some(0) {
        return None;
    }
    let bytes = value_of(value_of(data, VALUE)?, 1)?;
    let name = bytes.split(|byte| *byte == 0).next()?;
    (!name.is_empty() && name.len() < 16).then(|| String::from_utf8(name.to_vec()).ok())?
}
