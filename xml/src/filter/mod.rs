//! `<filter>`: rules of what may come through an interface, by libvirt's format of network filters.

mod chain;
mod form;
mod protocol;
mod rule;
#[cfg(test)]
mod tests;
mod variable;

use uuid::Uuid;

pub use chain::{Chain, ChainKind};
pub use form::{Datum, Form, STATE_ESTABLISHED, STATE_NEW};
pub use protocol::{Attribute, Operand, Protocol, ProtocolKind, SECONDS};
pub use rule::{Action, Direction, FilterRule};
pub(crate) use variable::is_name as is_variable_name;
pub use variable::{Pick, Variable};

use crate::cursor::{Cursor, Slot, plain_name};
use crate::device::interface::FilterRef;
use crate::diagnostic::{Diagnostics, Kind};
use crate::document::{self, Bounds, Parsed};
use crate::domain::Name;
use crate::element::{self, Element};
use crate::write::Writer;

/// Priorities of rules and chains.
const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterDef {
    pub name: Name,
    pub chain: Option<Chain>,
    /// When its chain is asked, among the rules of the root: lower ones first.
    pub priority: Option<i32>,
    pub uuid: Option<Uuid>,
    /// In the order in which they stand there: rules of one priority are asked in it.
    pub entries: Vec<FilterEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterEntry {
    /// All that another filter has.
    Include(FilterRef),
    Rule(FilterRule),
}

impl FilterDef {
    /// Read a definition, or say everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "filter", Bounds::OUTSIDE)
    }

    /// [`Self::parse`] for what [`Self::to_xml`] wrote.
    pub fn parse_stored(text: &str) -> Result<Parsed<Self>, Diagnostics> {
        document::parse(text, "filter", Bounds::OWN)
    }

    /// The definition as libvirt prints it.
    pub fn to_xml(&self) -> String {
        let mut out = Writer::default();
        Element::write(self, "filter", &mut out);
        out.finish()
    }

    /// Say what is not said: the chain, and priorities.
    pub fn fill_defaults(&mut self) {
        let chain = self.chain.get_or_insert_with(Chain::root);
        if let Some(priority) = chain.kind().default_priority() {
            self.priority.get_or_insert(priority);
        }
        for entry in &mut self.entries {
            if let FilterEntry::Rule(rule) = entry {
                rule.priority.get_or_insert(rule::DEFAULT_PRIORITY);
            }
        }
    }

    /// The filters that it names.
    pub fn includes(&self) -> impl Iterator<Item = &FilterRef> {
        self.entries.iter().filter_map(|entry| match entry {
            FilterEntry::Include(filter) => Some(filter),
            FilterEntry::Rule(_) => None,
        })
    }
}

impl Element for FilterDef {
    fn read(at: Cursor<'_>) -> Option<Self> {
        at.expect(
            &[
                Slot::Attribute("name"),
                Slot::Attribute("chain"),
                Slot::Attribute("priority"),
                Slot::Child { name: "uuid", many: false },
                Slot::Child { name: "filterref", many: true },
                Slot::Child { name: "rule", many: true },
            ],
            &[],
        );
        let name = <Name as element::Attribute>::read(at, "name");
        let chain = <Option<Chain> as element::Attribute>::read(at, "chain");
        let priority = priority(at);
        let uuid = <Option<Uuid> as element::Child>::read(at, "uuid");
        let mut entries = Some(Vec::new());
        for node in at.node().elements() {
            let entry = match plain_name(node) {
                Some("filterref") => {
                    <FilterRef as Element>::read(at.of(node)).map(FilterEntry::Include)
                }
                Some("rule") => <FilterRule as Element>::read(at.of(node)).map(FilterEntry::Rule),
                _ => continue,
            };
            // Nothing is kept of a document that is refused already.
            let kept = entries.take().filter(|_| !at.is_refused());
            entries = kept.zip(entry).map(|(mut kept, entry)| {
                kept.push(entry);
                kept
            });
        }
        let def = Self {
            name: name?,
            chain: chain?,
            priority: priority?,
            uuid: uuid?,
            entries: entries?,
        };
        if def.priority.is_some() && def.chain.as_ref().is_none_or(Chain::is_root) {
            // libvirt keeps one, and it means nothing.
            at.warn(
                Kind::Invalid,
                "the root is asked first; its priority means nothing".to_owned(),
            );
        }
        Some(def)
    }

    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        element::Attribute::write(&self.name, "name", &mut tag);
        element::Attribute::write(&self.chain, "chain", &mut tag);
        element::Attribute::write(&self.priority, "priority", &mut tag);
        tag.children(|out| {
            element::Child::write(&self.uuid, "uuid", out);
            for entry in &self.entries {
                match entry {
                    FilterEntry::Include(filter) => Element::write(filter, "filterref", out),
                    FilterEntry::Rule(rule) => Element::write(rule, "rule", out),
                }
            }
        });
    }
}

/// `None` after reporting why.
#[allow(clippy::option_option, reason = "one says whether it can be read, one whether it is there")]
fn priority(at: Cursor<'_>) -> Option<Option<i32>> {
    let priority = <Option<i32> as element::Attribute>::read(at, "priority")?;
    if let Some(number) = priority.filter(|number| !PRIORITIES.contains(number)) {
        let text = format!("priority {number} is not from -1000 to 1000");
        at.attribute_error("priority", Kind::Limit, text);
        return None;
    }
    Some(priority)
}
