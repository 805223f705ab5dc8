//! `<rule>`: what is done with frames that are so.

use std::borrow::Cow;

use super::protocol::{Protocol, ProtocolKind};
use crate::cursor::{Cursor, Slot, plain_name};
use crate::diagnostic::Kind;
use crate::element::{self, Element};
use crate::value::{Expected, Value, names};
use crate::write::Writer;

pub(super) const DEFAULT_PRIORITY: i32 = 500;

names! {
    pub enum Action {
        Drop = "drop", Accept = "accept", Reject = "reject", Return = "return", Continue = "continue",
    }
    /// As the guest sees it.
    pub enum Direction { In = "in", Out = "out", InOut = "inout" }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    pub action: Action,
    pub direction: Direction,
    /// Lower ones are asked first.
    pub priority: Option<i32>,
    /// Whether packets are looked at as parts of their connections; none: they are.
    pub state_match: Option<StateMatch>,
    /// All of one kind, and all have to match; none: every frame does.
    pub protocols: Vec<Protocol>,
}

/// `true` or `false`, in libvirt's spellings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateMatch(pub bool);

impl Value for StateMatch {
    fn parse(text: &str) -> Result<Self, Expected> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            _ => Err(Expected::Names(&["true", "false"])),
        }
    }

    fn print(&self) -> Cow<'_, str> {
        Cow::Borrowed(if self.0 { "true" } else { "false" })
    }
}

impl FilterRule {
    /// None: every frame.
    pub fn kind(&self) -> Option<ProtocolKind> {
        self.protocols.first().map(|protocol| protocol.kind)
    }

    pub fn is_stateful(&self) -> bool {
        self.state_match.is_none_or(|state| state.0)
    }
}

impl Element for FilterRule {
    fn read(at: Cursor<'_>) -> Option<Self> {
        let attributes = ["action", "direction", "priority", "statematch"].map(Slot::Attribute);
        let children = ProtocolKind::NAMES.iter().map(|name| Slot::Child { name, many: true });
        let slots: Vec<_> = attributes.into_iter().chain(children).collect();
        at.expect(&slots, &[]);
        let action = <Action as element::Attribute>::read(at, "action");
        let direction = <Direction as element::Attribute>::read(at, "direction");
        let priority = super::priority(at);
        let state_match = <Option<StateMatch> as element::Attribute>::read(at, "statematch");
        let mut protocols = Some(Vec::new());
        for node in at.node().elements() {
            let Some(kind) = plain_name(node).and_then(|name| ProtocolKind::parse(name).ok())
            else {
                continue;
            };
            let read = Protocol::read(kind, at.of(node));
            protocols = protocols.zip(read).map(|(mut protocols, read)| {
                protocols.push(read);
                protocols
            });
        }
        let rule = Self {
            action: action?,
            direction: direction?,
            priority: priority?,
            state_match: state_match?,
            protocols: protocols?,
        };
        let other = rule.protocols.iter().find(|other| Some(other.kind) != rule.kind());
        if let (Some(first), Some(other)) = (rule.kind(), other) {
            let text = format!("no frame is of <{first}> and <{}>; make two rules", other.kind);
            at.error(Kind::Invalid, text);
        }
        Some(rule)
    }

    fn write(&self, name: &'static str, out: &mut Writer) {
        let mut tag = out.tag(name);
        element::Attribute::write(&self.action, "action", &mut tag);
        element::Attribute::write(&self.direction, "direction", &mut tag);
        element::Attribute::write(&self.priority, "priority", &mut tag);
        let unmatched = self.state_match.filter(|state| !state.0);
        element::Attribute::write(&unmatched, "statematch", &mut tag);
        tag.children(|out| self.protocols.iter().for_each(|protocol| protocol.write(out)));
    }
}
