//! Chains: where the rules of a filter stand. All but the root are asked of frames of one kind alone.

use std::borrow::Cow;

use crate::value::{Expected, Value, names};

names! {
    pub enum ChainKind {
        Root = "root", Mac = "mac", Stp = "stp", Vlan = "vlan", Arp = "arp", Rarp = "rarp",
        Ipv4 = "ipv4", Ipv6 = "ipv6",
    }
}

impl ChainKind {
    const ALL: [Self; 8] = [
        Self::Root,
        Self::Mac,
        Self::Stp,
        Self::Vlan,
        Self::Arp,
        Self::Rarp,
        Self::Ipv4,
        Self::Ipv6,
    ];

    /// None for the root, which is asked first.
    pub fn default_priority(self) -> Option<i32> {
        Some(match self {
            Self::Root => return None,
            Self::Stp => -810,
            Self::Mac => -800,
            Self::Vlan => -750,
            Self::Ipv4 => -700,
            Self::Ipv6 => -600,
            Self::Arp => -500,
            Self::Rarp => -400,
        })
    }
}

/// `root`, a kind, or one that begins with a kind: `arp-mine`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain(String);

/// libvirt's bound.
const LONGEST: usize = 12;
const FORM: &str = "root, or at most 12 letters, digits and '_', '.', ':' or '-' that begin with mac, stp, \
                    vlan, arp, rarp, ipv4 or ipv6";

impl Chain {
    pub fn root() -> Self {
        Self(ChainKind::Root.name().to_owned())
    }

    pub fn is_root(&self) -> bool {
        self.kind() == ChainKind::Root
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    pub fn kind(&self) -> ChainKind {
        kind(&self.0).unwrap_or(ChainKind::Root)
    }
}

fn kind(name: &str) -> Option<ChainKind> {
    ChainKind::ALL.into_iter().find(|kind| match kind {
        ChainKind::Root => name == kind.name(),
        kind => name.starts_with(kind.name()),
    })
}

impl Value for Chain {
    fn parse(text: &str) -> Result<Self, Expected> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
        if text.len() <= LONGEST && text.bytes().all(is_fine) && kind(text).is_some() {
            return Ok(Self(text.to_owned()));
        }
        Err(Expected::Form(FORM))
    }

    fn print(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}
